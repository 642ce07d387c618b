"""What an experiment file may ask of the arms behind a shared key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pettoolkit.arms.encrypted_aggregation.config import EncryptedAggregationKeys
from pettoolkit.arms.encrypted_records.config import EncryptedRecordsKeys
from pettoolkit.arms.encrypted_statistics.config import EncryptedStatisticsKeys
from pettoolkit.arms.keyring import REPEATS, key_requests
from pettoolkit.arms.keys import ArmKeys
from pettoolkit.encryption.keys import KeyRequest
from pettoolkit.errors import BadInput
from pettoolkit.records import DpSpec, ModelSpec, RunSpec
from tests import small_cohort as small

LOGISTIC, MLP = ModelSpec("logistic"), ModelSpec("mlp", 8)
ARMS = {
    "encrypted_aggregation": EncryptedAggregationKeys,
    "encrypted_statistics": EncryptedStatisticsKeys,
    "encrypted_records": EncryptedRecordsKeys,
}


def keys(arm: str, **written: Any) -> ArmKeys:
    return ARMS[arm].model_validate({"arm": arm, **written})


def cell(made: ArmKeys, model: ModelSpec = LOGISTIC, dp: DpSpec | None = None, sites: int = 3) -> RunSpec:
    names = tuple("abcdef"[:sites])
    return RunSpec("t", made.name, made.options(model, dp), model, "compact", 0, names, dp=dp)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", ["secret_key", "key_file", "key", "coordinator_key"])
def test_a_file_that_hands_the_coordinator_the_key_is_an_error(arm: str, name: str) -> None:
    with pytest.raises(ValidationError, match=r"must not hold the hospitals' secret key.*pettoolkit keys create"):
        keys(arm, **{name: "shared.key"})


@pytest.mark.parametrize("arm", ARMS)
def test_fewer_than_three_hospitals_need_allow_two(arm: str) -> None:
    assert "allow_two: true" in str(keys(arm).refuse(cell(keys(arm), sites=2)))
    assert keys(arm, allow_two=True).refuse(cell(keys(arm), sites=2)) is None
    assert keys(arm, allow_two=True).refuse(cell(keys(arm), sites=1)) is not None
    assert keys(arm).refuse(cell(keys(arm), sites=3)) is None


@pytest.mark.parametrize("arm", ["encrypted_statistics", "encrypted_records"])
def test_a_regression_is_not_another_model(arm: str) -> None:
    assert "write model: logistic" in str(keys(arm).refuse(cell(keys(arm), MLP)))


def test_records_refuse_differential_privacy_and_too_many_rows() -> None:
    dp = DpSpec(epsilon=1.0, noise="shared")

    assert "not possible with encrypted_records" in str(
        keys("encrypted_records").refuse(cell(keys("encrypted_records"), dp=dp))
    )
    with pytest.raises(ValidationError, match="2048"):
        keys("encrypted_records", rows=2049)


def test_statistics_resolve_their_options_by_method_and_budget() -> None:
    dp, arm = DpSpec(epsilon=1.0, noise="shared"), "encrypted_statistics"

    assert keys(arm).options(LOGISTIC, None)["rounds"] == 6
    assert keys(arm).options(LOGISTIC, dp) | {"rounds": 2, "clip": 3.5} == keys(arm).options(LOGISTIC, dp)
    assert keys(arm, method="one_shot").options(LOGISTIC, dp)["rounds"] == 1
    assert "one_shot takes one" in str(
        keys(arm, method="one_shot", rounds=3).refuse(cell(keys(arm, method="one_shot", rounds=3)))
    )
    assert "clip belongs to" in str(keys(arm, clip=1.0).refuse(cell(keys(arm, clip=1.0))))


def test_one_key_per_purpose_and_ring_is_made_for_all_that_will_be_decrypted() -> None:
    specs = [small.spec("encrypted_aggregation", seed=s) for s in (0, 1)]
    specs += [small.spec("encrypted_records"), small.spec("encrypted_statistics"), small.spec("pooled")]

    wanted = {request.use.purpose: request for request in key_requests("small", specs)}

    assert set(wanted) == {"aggregation", "records", "statistics"}
    assert wanted["aggregation"].scheme.tau == 2 * key_requests("small", specs[:1])[0].scheme.tau
    assert wanted["aggregation"].use.runs == (specs[0].run_id, specs[1].run_id)
    assert wanted["records"].scheme.tau == REPEATS * 3
    assert {request.use.experiment for request in wanted.values()} == {"small"}
    assert len({request.file_name for request in wanted.values()}) == 3
    assert key_requests("small", [small.spec("pooled")]) == ()


def test_runs_whose_key_would_need_more_noise_than_a_model_can_bear_are_refused() -> None:
    """One such run is within the tolerance; the key of eight of them is not."""
    specs = [small.spec("encrypted_aggregation", strategy="fedadam", rounds=200, seed=s) for s in range(8)]

    assert key_requests("small", specs[:1])
    with pytest.raises(BadInput, match=r"small: the runs of arm encrypted_aggregation decrypt 3216 .*split"):
        key_requests("small", specs)


def test_a_request_survives_json() -> None:
    (request,) = key_requests("small", [small.spec("encrypted_statistics")])

    assert KeyRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
