"""Which ciphertexts this arm uses: both halves work it out from the run alone."""

from __future__ import annotations

from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.rounds import most_rounds
from pettoolkit.cohort.contract import Contract
from pettoolkit.encryption.packing import Layout
from pettoolkit.encryption.parameters import Scheme, choose
from pettoolkit.models.training import to_arrays
from pettoolkit.records import RunSpec

CLIP = 8.0
"""Largest absolute value of a hospital's weighted contribution; beyond it encryption is refused, never wrapped."""


def scheme_of(spec: RunSpec, contract: Contract) -> tuple[Scheme, Layout]:
    """The CKKS scheme of a run, and how the model's tensors lie in its one flat vector."""
    _, initial = start(spec, contract)
    layout = Layout.of(to_arrays(initial))
    return choose(values=layout.values, clip=CLIP, sites=len(spec.sites), rounds=most_rounds(spec)), layout


def key_scheme(spec: RunSpec) -> Scheme:
    """For what the hospitals' key of this run is made."""
    return scheme_of(spec, contract_of(spec))[0]
