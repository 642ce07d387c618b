"""A training that was stopped goes on at its round, and ends with the bits of one that was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from pettoolkit.errors import SiteFailed
from pettoolkit.experiment.execute import RESUMED, Executed, execute
from pettoolkit.federation import wire
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import FileStore
from pettoolkit.privacy.ledger import FileLedger
from pettoolkit.records import DpSpec, Models, RunSpec
from tests import small_cohort as small
from tests.arms.faults import FaultyGrid

ROUNDS = 6
BUDGET = DpSpec(3.0, 1e-3)
SHARED = DpSpec(3.0, 1e-3, noise="shared", honest_sites=3)


class Stopped(BaseException):
    """Stands for Ctrl-C or a kill: nothing is tidied up after it."""


class Stopping(FaultyGrid):
    """Hospitals that count what they are asked for training; the program is stopped after so many answers.

    The last answer was given, and never arrived: a hospital has spent what the coordinator knows nothing of.
    """

    def __init__(self, rounds: int = 10**6, hosted: Mapping[str, Site] | None = None) -> None:
        super().__init__(hosted or small.hospitals(), "none", after=10**6)
        self.stop, self.trained = rounds, 0

    def _counts(self, asked: Message) -> bool:
        return False

    def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
        messages = list(messages)
        training = messages and wire.read_request(messages[0].content).purpose == "training"
        if training and self.trained == self.stop:
            first = min(messages, key=lambda message: message.metadata.dst_node_id)
            super().send_and_receive([first], timeout=timeout)
            raise Stopped
        self.trained += bool(training)
        return super().send_and_receive(messages, timeout=timeout)


def with_folders(root: Path, keys: Path | None = None) -> dict[str, Site]:
    """Hospitals that find what they kept, as those of a killed run do."""
    return {
        name: dataclasses.replace(site, folder=root / name, store=FileStore(root / name), keys=keys)
        for name, site in small.hospitals().items()
    }


def figures(done: Executed) -> dict[str, float]:
    return {n: v for n, v in done.result.metrics.items() if n.split("/")[0] not in ("cost", "encryption")}


@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedadam", "fedmedian"])
def test_a_stopped_training_goes_on_at_its_round_bit_for_bit(tmp_path: Path, strategy: str) -> None:
    spec = small.spec("federated", strategy=strategy, rounds=ROUNDS)
    journal = tmp_path / "unfinished" / "cell.journal"
    undisturbed = execute(Stopping(), spec, "hash")

    with pytest.raises(Stopped):
        execute(Stopping(4), spec, "hash", journal)
    again = Stopping()
    resumed = execute(again, spec, "hash", journal)

    assert again.trained == ROUNDS - 4
    assert resumed.models == undisturbed.models
    assert figures(resumed) == figures(undisturbed)
    assert resumed.result.exposure == undisturbed.result.exposure
    assert set(resumed.result.notes) - set(undisturbed.result.notes) == {RESUMED.format(24)}  # 4 rounds of 2 x 3
    assert resumed.result.round_metrics == undisturbed.result.round_metrics


def test_a_hospital_that_failed_costs_one_round_and_not_those_before(tmp_path: Path) -> None:
    spec = small.spec("federated", rounds=ROUNDS)
    with pytest.raises(SiteFailed):
        execute(FaultyGrid(small.hospitals(), "nan", after=3), spec, "hash", tmp_path / "cell.journal")
    again = Stopping()
    resumed = execute(again, spec, "hash", tmp_path / "cell.journal")
    assert again.trained == ROUNDS - 3
    assert resumed.models == execute(Stopping(), spec, "hash").models


@pytest.mark.parametrize("strategy", ["fedsgd", "fedavg"])
def test_a_private_training_goes_on_bit_for_bit_and_spends_nothing_twice(tmp_path: Path, strategy: str) -> None:
    spec = small.spec("federated", strategy=strategy, rounds=ROUNDS, dp=BUDGET, batch_size=None)
    undisturbed = execute(Stopping(), spec, "hash")

    with pytest.raises(Stopped):
        execute(Stopping(4, with_folders(tmp_path)), spec, "hash", tmp_path / "cell.journal")
    before = spent(tmp_path, spec)
    again = Stopping(hosted=with_folders(tmp_path))
    resumed = execute(again, spec, "hash", tmp_path / "cell.journal")

    assert before == {"east": 5, "north": 4, "west": 4}
    assert again.trained == ROUNDS - 4
    assert resumed.models == undisturbed.models
    assert figures(resumed) == figures(undisturbed)
    assert resumed.result.exposure == undisturbed.result.exposure
    assert resumed.result.privacy.ledgers == undisturbed.result.privacy.ledgers
    assert spent(tmp_path, spec) == dict.fromkeys(small.SITES, ROUNDS)


@pytest.mark.parametrize("stop", [4, 5], ids=["collecting", "handing back"])
@pytest.mark.parametrize("dp", [None, SHARED], ids=["exact", "private"])
def test_an_encrypted_training_goes_on_within_the_error_of_encryption(
    tmp_path: Path, dp: DpSpec | None, stop: int
) -> None:
    spec = small.spec("encrypted_aggregation", strategy="fedsgd", rounds=4, dp=dp)
    keys = small.carried(spec)
    undisturbed = execute(Stopping(hosted=with_folders(tmp_path / "other", keys)), spec, "hash")

    with pytest.raises(Stopped):
        execute(Stopping(stop, with_folders(tmp_path, keys)), spec, "hash", tmp_path / "cell.journal")
    again = Stopping(hosted=with_folders(tmp_path, keys))
    resumed = execute(again, spec, "hash", tmp_path / "cell.journal")

    assert again.trained == (8 if dp else 10) - stop  # two questions a round, and without DP one more for the last loss
    found, wanted = weights(resumed), weights(undisturbed)
    assert all(np.allclose(found[name], wanted[name], rtol=0, atol=1e-3) for name in wanted)
    assert resumed.result.privacy.ledgers == undisturbed.result.privacy.ledgers
    counted = [(t.site, t.direction, t.kind, t.messages) for t in undisturbed.result.exposure.traffic]
    assert [(t.site, t.direction, t.kind, t.messages) for t in resumed.result.exposure.traffic] == counted
    if dp is not None:
        assert spent(tmp_path, spec) == dict.fromkeys(small.SITES, 4)


@pytest.mark.parametrize(
    ("arm", "options", "dp", "tolerance"),
    [
        ("encrypted_statistics", {}, None, 1e-6),
        ("encrypted_statistics", {"rounds": 3, "clip": 2.0}, SHARED, 1e-6),
        pytest.param("encrypted_records", {"iterations": 3}, None, 1e-2, marks=pytest.mark.slow),
    ],
)
def test_other_encrypted_trainings_go_on_too(
    tmp_path: Path, arm: str, options: dict[str, float], dp: DpSpec | None, tolerance: float
) -> None:
    spec = small.spec(arm, dp=dp, **options)
    keys = small.carried(spec)
    whole = Stopping(hosted=with_folders(tmp_path / "other", keys))
    undisturbed = execute(whole, spec, "hash")

    with pytest.raises(Stopped):
        execute(Stopping(2, with_folders(tmp_path, keys)), spec, "hash", tmp_path / "cell.journal")
    again = Stopping(hosted=with_folders(tmp_path, keys))
    resumed = execute(again, spec, "hash", tmp_path / "cell.journal")

    assert again.trained == whole.trained - 2
    wanted = weights(undisturbed)
    assert all(np.allclose(w, wanted[name], rtol=0, atol=tolerance) for name, w in weights(resumed).items())
    assert resumed.result.privacy.ledgers == undisturbed.result.privacy.ledgers


def weights(done: Executed) -> dict[str, np.ndarray]:
    return done.models.by_site[Models.SHARED].unpack()


def spent(root: Path, spec: RunSpec) -> dict[str, int]:
    """Answers in each hospital's ledger file."""
    found = {}
    for name in small.SITES:
        path = root / name / "ledgers" / f"{spec.run_id}.ledger"
        budget = FileLedger.budget_of(path)
        assert budget is not None
        found[name] = len(FileLedger(path, name, spec.run_id, budget).events)
    return found
