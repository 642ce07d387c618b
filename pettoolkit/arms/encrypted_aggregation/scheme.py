"""Which ciphertexts this arm uses: both halves work it out from the run alone."""

from __future__ import annotations

from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.encrypted_aggregation.gain import most_gain
from pettoolkit.arms.rounds import most_rounds
from pettoolkit.cohort.contract import Contract
from pettoolkit.encryption.keys import AGGREGATION
from pettoolkit.encryption.packing import Layout
from pettoolkit.encryption.parameters import Scheme, choose
from pettoolkit.models.training import to_arrays
from pettoolkit.records import RunSpec

PURPOSE = AGGREGATION

CLIP = 8.0
"""Largest absolute value of a hospital's weighted contribution; beyond it encryption is refused, never wrapped."""

FLOODING_TOLERANCE = 1e-3
"""Largest SD of the noise on a released weight."""


def scheme_of(spec: RunSpec, contract: Contract) -> tuple[Scheme, Layout]:
    """The CKKS scheme of a run, and how the model's tensors lie in its one flat vector.

    After them comes the hospital's share of the patients: the sum of all is 1, or a round is refused. Without DP one
    value more goes with them, the validation loss of the round before, and after the last round one more sum: which
    round is kept is found inside the hospitals.
    """
    _, initial = start(spec, contract)
    layout = Layout.of(to_arrays(initial))
    loss = 1 if spec.dp is None else 0
    scheme = choose(
        values=layout.values + 1 + loss,
        clip=CLIP,
        sites=len(spec.sites),
        rounds=most_rounds(spec) + loss,
        flooding_tolerance=flooding_tolerance(spec),
    )
    return scheme, layout


def flooding_tolerance(spec: RunSpec) -> float:
    """Largest SD of the noise on a sum: so much gets into a released weight."""
    return FLOODING_TOLERANCE / most_gain(spec)


def key_scheme(spec: RunSpec) -> Scheme:
    """For what the hospitals' key of this run is made."""
    return scheme_of(spec, contract_of(spec))[0]
