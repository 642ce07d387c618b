"""Which ciphertexts this arm uses, and which numbers lie in them: both halves work it out from the run alone."""

from __future__ import annotations

from pettoolkit.arms.common import contract_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import feature_names
from pettoolkit.encryption.keys import STATISTICS
from pettoolkit.encryption.matrix import packed_size
from pettoolkit.encryption.parameters import Scheme, choose
from pettoolkit.records import RunSpec

PURPOSE = STATISTICS

CLIP = 2.0
"""Sums over public numbers of patients are in [-1, 1]; the rest is room for privacy noise."""

FLOODING_TOLERANCE = 1e-9
"""Noise on a sum of means: inverting X'WX multiplies it by up to patients/ridge, so it must be small."""


def columns(contract: Contract) -> int:
    """Columns of a row: the features and a leading 1 for the intercept."""
    return len(feature_names(contract)) + 1


def scheme_of(spec: RunSpec, contract: Contract) -> Scheme:
    """The CKKS scheme of a run."""
    return choose(
        values=packed_size(columns(contract)),
        clip=CLIP,
        sites=len(spec.sites),
        rounds=int(spec.options["rounds"]),
        flooding_tolerance=flooding_tolerance(spec),
    )


def flooding_tolerance(spec: RunSpec) -> float:
    """Largest SD of the noise on a sum of means; the same for every run."""
    return FLOODING_TOLERANCE


def key_scheme(spec: RunSpec) -> Scheme:
    """For what the hospitals' key of this run is made."""
    return scheme_of(spec, contract_of(spec))
