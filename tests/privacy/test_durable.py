"""The file of a ledger after crashes, damage and a change of version."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pettoolkit.errors import Refused
from pettoolkit.privacy.accounting import calibrate, compose
from pettoolkit.privacy.events import Event, Identity, gaussian
from pettoolkit.privacy.ledger import Budget, FileLedger, FileLifetime, Ledger
from pettoolkit.records import to_json

BUDGET = Budget(1.0, 1e-5)
STEP = gaussian(calibrate(1.0, 1e-5, steps=5))


def ledger_at(path: Path, budget: Budget = BUDGET) -> FileLedger:
    return FileLedger(path, "north", "run", budget)


def answer(ledger: Ledger, round_: int, made: bytes | None = None) -> bytes:
    identity = Identity("run", "north", round_, "training", f"input {round_}")
    return ledger.answer(identity, STEP, lambda _: made if made is not None else b"answer %d" % round_)


def written(path: Path, rounds: int) -> bytes:
    ledger = ledger_at(path)
    for round_ in range(rounds):
        answer(ledger, round_)
    return path.read_bytes()


def test_a_crash_at_any_byte_of_a_record_keeps_all_answers_before_it_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    before, whole = written(path, 2), written(path, 3)
    continuous = Ledger("north", "run", BUDGET)
    for round_ in range(4):
        answer(continuous, round_)
    assert whole.startswith(before)

    for length in range(len(before), len(whole) + 1):
        path.write_bytes(whole[:length])
        restored = ledger_at(path)
        assert restored.events == continuous.events[: 3 if length == len(whole) else 2]
        for round_ in range(4):  # rounds 0 and 1 are stored, the third is computed again unless it was whole
            stored = round_ < len(restored.events)
            assert answer(restored, round_, None if not stored else b"computed again") == b"answer %d" % round_
        assert restored.events == continuous.events
        assert ledger_at(path).summary() == continuous.summary()


def test_a_file_that_ends_within_its_header_is_no_crash(tmp_path: Path) -> None:
    """The header comes into being with the file, so an empty beginning may be hiding what was spent."""
    path = tmp_path / "run.ledger"
    whole = written(path, 1)
    for length in range(whole.index(b"\n") + 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused, match="can't be read; restore it from a backup"):
            ledger_at(path)


@pytest.mark.parametrize("how", ["changed", "taken out", "moved"])
def test_damage_that_no_crash_makes_refuses_everything(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.ledger"
    header, *records = written(path, 4).splitlines(keepends=True)
    if how == "changed":
        records[1] = records[1].replace(b'"sigma": ', b'"sigma": 9')
    elif how == "taken out":
        del records[1]
    else:
        records[1:3] = records[2:0:-1]
    path.write_bytes(header + b"".join(records))

    with pytest.raises(Refused, match="is damaged"):
        ledger_at(path)


def test_no_single_bit_of_the_last_record_can_flip_unseen(tmp_path: Path) -> None:
    """Its answer may have left: what looks whole and is not is never taken for a crash."""
    path = tmp_path / "run.ledger"
    before, whole = written(path, 1), written(path, 2)
    for at in range(len(before), len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Refused, match="can't be read"):
            ledger_at(path)


@pytest.mark.parametrize("how", ["shorter", "gone"])
def test_a_ledger_that_lost_answers_while_it_was_in_use_refuses(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.ledger"
    before = written(path, 1)
    ledger = ledger_at(path)
    answer(ledger, 1)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(before)

    with pytest.raises(Refused, match=f"is {how}"):
        answer(ledger, 2)


def test_a_damaged_record_is_found_again_at_every_question(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    ledger, other = ledger_at(path), ledger_at(path)
    answer(ledger, 0)
    answer(other, 1)
    good = path.read_bytes()
    path.write_bytes(good[:-3] + b"xx\n")
    for _ in range(2):
        with pytest.raises(Refused, match="is damaged"):
            answer(ledger, 2)

    path.write_bytes(good)
    assert answer(ledger, 1, b"computed again") == b"answer 1"


FOREVER = """
import sys
from pathlib import Path
from pettoolkit.privacy.events import Identity, gaussian
from pettoolkit.privacy.ledger import Budget, FileLedger
ledger = FileLedger(Path(sys.argv[1]), "north", "run", Budget(float("inf"), 1e-5))
round_ = 0
while True:
    given = ledger.answer(Identity("run", "north", round_, "t", ""), gaussian(1.0), lambda _: bytes(20_000))
    print(round_, flush=True)
    round_ += 1
"""


def test_no_answer_that_left_is_forgotten_by_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    process = subprocess.Popen([sys.executable, "-c", FOREVER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    left = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    left += [int(line) for line in process.communicate()[0].splitlines()]

    restored = FileLedger(path, "north", "run", Budget(float("inf"), 1e-5))
    rounds = [event.identity.round for event in restored.events]
    assert rounds == list(range(len(rounds)))
    assert set(left) <= set(rounds)
    assert len(rounds) <= len(left) + 1


def test_the_file_grows_by_one_record_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rounds write a thousand records, not half a million."""
    appended = []
    monkeypatch.setattr(os, "fsync", lambda fd: appended.append(os.fstat(fd).st_size))
    path = tmp_path / "run.ledger"
    lifetime = FileLifetime(tmp_path / "lifetime.ledger", Budget(50.0, 1e-5))
    step = gaussian(calibrate(1.0, 1e-5, steps=1000))
    ledger = FileLedger(path, "north", "run", BUDGET, step.times(1000), lifetime)
    sizes = []
    for round_ in range(1000):
        identity = Identity("run", "north", 1000 + round_, "training", "")
        ledger.answer(identity, step, lambda _: bytes(300))
        sizes.append(path.stat().st_size)

    grown = {after - before for before, after in itertools.pairwise(sizes)}
    assert len(grown) == 1
    assert len(appended) == 2 * 1000 + 2 * 2  # each file: its creation with its folder's entry, and each record


def test_ledgers_of_version_1_are_read_and_go_on(tmp_path: Path) -> None:
    path, whole = tmp_path / "run.ledger", Ledger("north", "run", BUDGET)
    for round_ in range(3):
        answer(whole, round_)
    events = [{k: v for k, v in to_json(e).items() if k != "simulated"} for e in whole.events[:2]]
    answers = [base64.b64encode(b"answer %d" % n).decode() for n in range(2)]
    old = {"version": 1, "site": "north", "run": "run", "budget": to_json(BUDGET), "events": events, "answers": answers}
    path.write_text(json.dumps(old))

    for _ in range(2):  # as it was, and as it was written anew
        restored = ledger_at(path)
        assert restored.events == whole.events[:2]
        assert answer(restored, 1, b"computed again") == b"answer 1"
    answer(restored, 2)
    assert ledger_at(path).summary() == whole.summary()


def test_a_lifetime_ledger_of_version_1_is_read_and_goes_on(tmp_path: Path) -> None:
    path, cap = tmp_path / "lifetime.ledger", Budget(1.0, 1e-5)
    key = "run/north/training/0/0/input 0"
    path.write_text(json.dumps({"version": 1, "budget": to_json(cap), "events": {key: to_json(STEP.times(4))}}))

    for _ in range(2):
        lifetime = FileLifetime(path, cap)
        assert lifetime.epsilon == pytest.approx(compose([STEP.times(4)], 1e-5))
    lifetime.charge(Event(Identity("other", "north", 0, "training", ""), STEP))
    with pytest.raises(Refused, match="lifetime privacy budget"):
        FileLifetime(path, cap).charge(Event(Identity("third", "north", 0, "training", ""), STEP))


def test_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    path.write_text('{"version": 99}')
    with pytest.raises(Refused, match="of version 99 and can't be read by this program"):
        ledger_at(path)


def test_the_ledger_of_another_hospital_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "run.ledger", 1)
    with pytest.raises(Refused, match="not the ledger of hospital south and run run"):
        FileLedger(tmp_path / "run.ledger", "south", "run", BUDGET)


def test_a_lifetime_ledger_is_no_runs_ledger(tmp_path: Path) -> None:
    written(tmp_path / "x.ledger", 1)
    with pytest.raises(Refused, match="is not a lifetime ledger"):
        FileLifetime(tmp_path / "x.ledger", BUDGET)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "ledgers" / "run.ledger"
    written(path, 1)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
