"""A training that was stopped goes on at its round, and ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pettoolkit.errors import SiteFailed
from pettoolkit.experiment.execute import Executed, execute, resumable
from pettoolkit.records import DpSpec
from tests import small_cohort as small
from tests.arms.faults import FaultyGrid

ROUNDS = 6


class Stopped(BaseException):
    """Stands for Ctrl-C or a kill: nothing is tidied up after it."""


class Stopping(FaultyGrid):
    """Hospitals that count what they are asked for training; the program is stopped after so many rounds."""

    def __init__(self, rounds: int = 10**6) -> None:
        super().__init__(small.hospitals(), "none", after=10**6)
        self.stop, self.trained = rounds, 0

    def _counts(self, asked: object) -> bool:
        super()._counts(asked)  # type: ignore[arg-type]
        return False

    def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
        messages = list(messages)
        training = messages and messages[0].metadata.message_type == "train"
        if training and self.trained == self.stop:
            raise Stopped
        self.trained += bool(training)
        return super().send_and_receive(messages, timeout=timeout)


def figures(done: Executed) -> dict[str, float]:
    return {name: value for name, value in done.result.metrics.items() if not name.startswith("cost/")}


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
    assert resumed.result.round_metrics == undisturbed.result.round_metrics


def test_a_hospital_that_failed_costs_one_round_and_not_those_before(tmp_path: Path) -> None:
    spec = small.spec("federated", rounds=ROUNDS)
    with pytest.raises(SiteFailed):
        execute(FaultyGrid(small.hospitals(), "nan", after=3), spec, "hash", tmp_path / "cell.journal")
    again = Stopping()
    resumed = execute(again, spec, "hash", tmp_path / "cell.journal")
    assert again.trained == ROUNDS - 3
    assert resumed.models == execute(Stopping(), spec, "hash").models


def test_what_hospitals_would_forget_starts_again_as_a_whole(tmp_path: Path) -> None:
    spec = small.spec("federated", strategy="fedsgd", rounds=3, dp=DpSpec(3.0, 1e-3))
    assert not resumable(spec)
    assert not resumable(small.spec("encrypted_aggregation"))
    execute(Stopping(), spec, "hash", tmp_path / "cell.journal")
    assert not (tmp_path / "cell.journal").exists()
