"""Which ciphertexts ``scope: secure_sum`` uses, and which numbers lie in them: both halves work it out from the run."""

from __future__ import annotations

from pettoolkit.arms.common import contract_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.encryption.keys import STATISTICS
from pettoolkit.encryption.parameters import Scheme, choose
from pettoolkit.records import RunSpec
from pettoolkit.synthesis.cells import cells_of
from pettoolkit.synthesis.conversation import longest
from pettoolkit.synthesis.noisy import DP_BINS
from pettoolkit.synthesis.rows import class_values

PURPOSE = STATISTICS

CLIP = 2.0
"""Counts over the public number of patients are in [0, 1]; the rest is room for privacy noise."""

PRECISION = 1e-8
"""Largest error of such a share: below half of :data:`GRID` counts for up to 780,000 patients."""

GRID = 1 / 64
"""Counts are sent as multiples of this, so that rounding to it takes all of the encryption's error away."""

ROUNDS = 5
"""Class counts, the reference class, the others, coarse tables of pairs, tables of the chosen ones."""


def scheme_of(spec: RunSpec, contract: Contract) -> Scheme:
    """The CKKS scheme of a run: long enough for each stage."""
    return choose(
        values=longest(cells_of(contract, DP_BINS), len(class_values(contract))),
        clip=CLIP,
        sites=len(spec.sites),
        rounds=ROUNDS,
        precision=PRECISION,
        flooding_tolerance=PRECISION,
    )


def key_scheme(spec: RunSpec) -> Scheme | None:
    """For what the hospitals' key of this run is made; None where nothing is encrypted."""
    return scheme_of(spec, contract_of(spec)) if spec.options.get("scope") == "secure_sum" else None
