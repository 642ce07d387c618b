"""The plan of training on encrypted rows, and for what the hospitals' key is made."""

from __future__ import annotations

from dataclasses import replace

from pettoolkit.arms.common import contract_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import feature_names
from pettoolkit.encryption.keys import RECORDS
from pettoolkit.encryption.parameters import FLOODING_BITS, Scheme
from pettoolkit.encryption.records import RecordsPlan
from pettoolkit.records import RunSpec

PURPOSE = RECORDS


def plan_of(spec: RunSpec, contract: Contract, rows: int) -> RecordsPlan:
    """What is trained on ``rows`` rows of all hospitals; a column of ones comes first."""
    features = len(feature_names(contract)) + 1
    rate = float(spec.options["learning_rate"])
    return RecordsPlan(rows, features, rate, len(spec.sites), run=spec.run_id)


def scheme_of(spec: RunSpec, contract: Contract) -> Scheme:
    """Scheme of the key: one ciphertext of weights is decrypted in each iteration."""
    scheme = plan_of(spec, contract, int(spec.options["rows"])).scheme()
    return replace(scheme, flooding_bits=FLOODING_BITS, tau=int(spec.options["iterations"]))


def key_scheme(spec: RunSpec) -> Scheme:
    """For what the hospitals' key of this run is made."""
    return scheme_of(spec, contract_of(spec))
