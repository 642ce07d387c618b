"""The keys of the arms: what is resolved, and which cells can't exist."""

from __future__ import annotations

import re
import typing
from dataclasses import replace

import pytest

from pettoolkit.arms.augmented.config import AugmentedKeys
from pettoolkit.arms.encrypted_aggregation.config import EncryptedAggregationKeys
from pettoolkit.arms.encrypted_statistics.config import EncryptedStatisticsKeys
from pettoolkit.arms.federated.config import FederatedKeys
from pettoolkit.arms.keys import ArmKeys
from pettoolkit.arms.local.config import LocalKeys
from pettoolkit.arms.pooled.config import PooledKeys
from pettoolkit.arms.registry import ARMS
from pettoolkit.arms.synthetic.config import SyntheticKeys
from pettoolkit.experiment.config import AnyArm
from pettoolkit.records import DpSpec, ModelSpec, RunSpec

LOGISTIC = ModelSpec("logistic")
THREE = ("a", "b", "c")


def cell(keys: ArmKeys, dp: DpSpec | None = None, sites: tuple[str, ...] = THREE) -> RunSpec:
    options = keys.options(LOGISTIC, dp)
    return RunSpec("sepsis-landmark", keys.name, options, LOGISTIC, "compact", 0, sites, dp=dp)


def noise(mode: str, target: str = "patients") -> DpSpec:
    return DpSpec(3.0, noise=mode, target=target)


def test_every_arm_of_the_registry_has_keys() -> None:
    assert {typing.get_args(arm.model_fields["arm"].annotation)[0] for arm in typing.get_args(AnyArm)} == set(ARMS)


@pytest.mark.parametrize(("strategy", "rounds"), [("fedavg", 30), ("fedsgd", 200), ("fedprox", 30), ("fedadam", 30)])
def test_rounds_and_rate_follow_the_strategy(strategy: str, rounds: int) -> None:
    options = FederatedKeys(arm="federated", strategy=strategy).options(LOGISTIC, None)
    assert options["rounds"] == rounds
    assert options["learning_rate"] > 0


def test_what_is_written_is_kept() -> None:
    keys = FederatedKeys(arm="federated", strategy="fedprox", rounds=7, learning_rate=0.2, proximal_mu=0.0)
    options = keys.options(LOGISTIC, None)
    assert (options["rounds"], options["learning_rate"], options["proximal_mu"]) == (7, 0.2, 0.0)


def test_encrypted_trains_as_federated_does() -> None:
    plain = FederatedKeys(arm="federated").options(LOGISTIC, None)
    encrypted = EncryptedAggregationKeys(arm="encrypted_aggregation").options(LOGISTIC, None)
    shared = plain.keys() & encrypted.keys()
    assert {k: plain[k] for k in shared} == {k: encrypted[k] for k in shared}
    assert encrypted.keys() - plain.keys() == {"allow_two"}


def test_dp_makes_fedsgd_the_default_and_leaves_rates_to_its_rule() -> None:
    options = FederatedKeys(arm="federated").options(LOGISTIC, noise("local"))
    assert (options["strategy"], options["rounds"], options["learning_rate"]) == ("fedsgd", None, None)


POSSIBLE = [
    (LocalKeys(arm="local"), noise("local")),
    (PooledKeys(arm="pooled"), noise("central")),
    (FederatedKeys(arm="federated"), noise("local")),
    (FederatedKeys(arm="federated", strategy="fedavg"), noise("local")),
    (EncryptedAggregationKeys(arm="encrypted_aggregation", strategy="fedsgd"), noise("shared")),
    (EncryptedAggregationKeys(arm="encrypted_aggregation", strategy="fedavg"), noise("local")),
    (SyntheticKeys(arm="synthetic", generator="marginals"), noise("local")),
    (SyntheticKeys(arm="synthetic"), noise("central", "downstream")),
]


@pytest.mark.parametrize(("keys", "dp"), POSSIBLE)
def test_possible_cells_are_not_refused(keys: ArmKeys, dp: DpSpec) -> None:
    assert keys.refuse(cell(keys)) is None
    assert keys.refuse(cell(keys, dp)) is None


REFUSED = [
    (LocalKeys(arm="local"), noise("central"), "write noise: local"),
    (PooledKeys(arm="pooled"), noise("local"), "write noise: central"),
    (FederatedKeys(arm="federated"), noise("shared"), "encrypted_aggregation"),
    (EncryptedAggregationKeys(arm="encrypted_aggregation"), noise("central"), "write noise: shared or local"),
    (EncryptedAggregationKeys(arm="encrypted_aggregation", strategy="fedavg"), noise("shared"), "strategy: fedsgd"),
    (SyntheticKeys(arm="synthetic"), noise("local"), "generator: marginals"),
    (PooledKeys(arm="pooled"), noise("central", "downstream"), "only for arm: synthetic"),
    (FederatedKeys(arm="federated", proximal_mu=0.1), None, "strategy: fedprox"),
    (FederatedKeys(arm="federated", strategy="fedsgd", local_epochs=2), None, "strategy: fedavg"),
    (FederatedKeys(arm="federated", strategy="fedprox"), noise("local"), "write strategy: fedavg"),
    (FederatedKeys(arm="federated", strategy="fedavg", local_epochs=200), noise("local"), "write rounds, or a divisor"),
    (FederatedKeys(arm="federated", strategy="fedavg", local_epochs=60), noise("local"), "do not divide the 100"),
    (
        EncryptedAggregationKeys(arm="encrypted_aggregation", strategy="fedadam", local_epochs=3),
        noise("local"),
        "a divisor of 100",
    ),
    (EncryptedStatisticsKeys(arm="encrypted_statistics"), replace(noise("shared"), batch=64), "dp.batch"),
    (SyntheticKeys(arm="synthetic", generator="marginals"), replace(noise("local"), batch=64), "dp.batch"),
    (AugmentedKeys(arm="augmented"), replace(noise("local"), batch=64), "dp.batch"),
]


DOWNSTREAM = noise("central", "downstream")
UNUSED = [
    (FederatedKeys(arm="federated", batch_size=64), noise("local"), "batch_size: differential privacy does not use it"),
    (FederatedKeys(arm="federated", momentum=0.5, batch_size=8), noise("local"), "batch_size, momentum: .* use them"),
    (EncryptedAggregationKeys(arm="encrypted_aggregation", momentum=0.9), noise("shared"), "momentum"),
    (LocalKeys(arm="local", epochs=3), noise("local"), "epochs"),
    (PooledKeys(arm="pooled", epochs=3, batch_size=8), noise("central"), "epochs, batch_size"),
    (SyntheticKeys(arm="synthetic", epochs=3), DOWNSTREAM, "epochs"),
    (AugmentedKeys(arm="augmented", learning_rate=0.1), noise("local"), "learning_rate"),
]


@pytest.mark.parametrize(("keys", "dp", "said"), UNUSED)
def test_what_dp_would_ignore_is_refused_where_it_is_written(keys: ArmKeys, dp: DpSpec, said: str) -> None:
    reason = keys.refuse(cell(keys, dp))
    assert reason is not None
    assert re.search(said, reason)
    assert keys.refuse(cell(keys)) is None


USED = [
    (FederatedKeys(arm="federated", strategy="fedavg", rounds=7, local_epochs=3, learning_rate=0.1), noise("local")),
    (FederatedKeys(arm="federated", strategy="fedavg", local_epochs=20), noise("local")),
    (LocalKeys(arm="local", learning_rate=0.1, epochs=None), noise("local")),
    (SyntheticKeys(arm="synthetic", generator="marginals", epochs=3, batch_size=8), noise("local")),
    (PooledKeys(arm="pooled"), replace(noise("central"), batch=64)),
    (SyntheticKeys(arm="synthetic"), replace(DOWNSTREAM, batch=64)),
]


@pytest.mark.parametrize(("keys", "dp"), USED)
def test_what_dp_does_use_may_be_written(keys: ArmKeys, dp: DpSpec) -> None:
    assert keys.refuse(cell(keys, dp)) is None


@pytest.mark.parametrize(("keys", "dp", "way_out"), REFUSED)
def test_impossible_cells_are_refused_in_one_line_that_names_the_way_out(
    keys: ArmKeys, dp: DpSpec | None, way_out: str
) -> None:
    reason = keys.refuse(cell(keys, dp))
    assert reason is not None
    assert way_out in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("sites", "allow_two", "refused"), [(2, False, True), (2, True, False), (3, False, False), (1, True, True)]
)
def test_encryption_needs_three_hospitals_or_consent_to_two(sites: int, allow_two: bool, refused: bool) -> None:
    keys = EncryptedAggregationKeys(arm="encrypted_aggregation", allow_two=allow_two)
    assert (keys.refuse(cell(keys, sites=THREE[:sites])) is not None) == refused


def test_hospitals_that_are_not_known_yet_are_not_counted() -> None:
    keys = EncryptedAggregationKeys(arm="encrypted_aggregation")
    assert keys.refuse(cell(keys, sites=())) is None
