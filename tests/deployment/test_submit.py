"""Who started a run waits for its outcome as long as the run lives, though a busy SuperLink may not say so at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pettoolkit.deployment import submit
from pettoolkit.deployment.folders import Coordinator
from pettoolkit.errors import EngineFailed
from tests.deployment import parties

BUSY = "Connection to the SuperLink is unavailable."
RUNS = json.dumps({"runs": [{"status": "running"}]})
ENDED = json.dumps({"runs": [{"status": "finished:failed"}]})


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    monkeypatch.setattr(submit, "POLL", 0.0)
    monkeypatch.setattr(submit, "LOOK", 0.0)
    return Coordinator(parties.make(tmp_path) / "coordinator")


def says(monkeypatch: pytest.MonkeyPatch, *words: str, then: Callable[[], object] = lambda: None) -> list[str]:
    """Let a SuperLink answer so; ``then`` happens at the last word, which it repeats. What it was asked is noted."""
    left, asked = list(words), list[str]()

    def flwr(_: Coordinator, *arguments: str) -> subprocess.CompletedProcess[str]:
        asked.append(arguments[0])
        if len(left) == 1:
            then()
        return subprocess.CompletedProcess(arguments, 0, left.pop(0) if len(left) > 1 else left[0], "")

    monkeypatch.setattr(submit, "flwr", flwr)
    return asked


def test_a_superlink_that_is_busy_for_a_while_ends_no_run(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = tmp_path / "outcome.json"
    asked = says(monkeypatch, RUNS, BUSY, BUSY, BUSY, RUNS, then=outcome.touch)

    submit._wait(coordinator, outcome, "1")

    assert asked == ["list"] * 5


def test_a_run_that_ended_without_an_outcome_has_failed(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, RUNS, ENDED)

    with pytest.raises(EngineFailed, match="run 1 ended without an outcome"):
        submit._wait(coordinator, tmp_path / "outcome.json", "1")


def test_an_outcome_that_came_while_the_superlink_said_that_the_run_has_ended_counts(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = tmp_path / "outcome.json"
    says(monkeypatch, ENDED, then=outcome.touch)

    submit._wait(coordinator, outcome, "1")


def test_a_superlink_that_stays_silent_has_failed(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "SILENT", 0.0)
    asked = says(monkeypatch, BUSY)

    with pytest.raises(EngineFailed, match="the SuperLink was silent"):
        submit._wait(coordinator, tmp_path / "outcome.json", "1")

    assert asked == ["list", "stop"]
