"""What keeps a hospital's process going: it is started again where it ended by itself, and stops when it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pettoolkit.deployment.keep import LET_IN, PARENT, keep


def counted(folder: Path, then: str) -> list[str]:
    """A program that counts its starts in a folder, and knows by that how often it was started (``n``)."""
    code = f"import os, sys, pathlib; d = pathlib.Path({str(folder)!r}); n = len(list(d.glob('[0-9]*'))) + 1; "
    return [sys.executable, "-c", code + f"(d / str(n)).touch(); {then}"]


def starts(folder: Path) -> int:
    return len(list(folder.glob("[0-9]*")))


def test_one_that_was_refused_all_the_time_is_given_up(tmp_path: Path) -> None:
    said: list[str] = []

    assert (
        keep(counted(tmp_path, "sys.exit(1)"), os.environ, tmp_path / "let_in", refused=0.0, pause=0.0, say=said.append)
        == 1
    )

    assert starts(tmp_path) == 1
    (words,) = said
    assert "not let in" in words
    assert "clock" in words


@pytest.mark.parametrize(("end", "code"), [("sys.exit(0)", 1), ("os.kill(os.getpid(), 9)", 1), ("sys.exit(116)", 116)])
def test_how_one_ends_does_not_say_that_it_was_let_in(tmp_path: Path, end: str, code: int) -> None:
    """Flower's node ends with 0 where the SuperLink finds its clock wrong, and another may be killed at every start."""
    assert keep(counted(tmp_path, end), os.environ, tmp_path / "let_in", refused=0.2, pause=0.0, say=print) == code

    assert starts(tmp_path) > 1


def test_one_that_was_let_in_each_time_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "let_in").touch()  # of a start before this one: says nothing
    lives = f"l = pathlib.Path(os.environ[{LET_IN!r}]); assert not l.exists(); l.touch() if n < 4 else sys.exit(0)"

    assert keep(counted(tmp_path, lives), os.environ, tmp_path / "let_in", refused=0.0, pause=0.0, say=print) == 1

    assert starts(tmp_path) == 4


def test_one_that_died_is_let_in_again_after_it_was_refused_for_a_while(tmp_path: Path) -> None:
    """Killed, refused as the SuperLink takes it for alive, let in, ended by itself; then a setting is wrong."""
    said: list[str] = []
    lives = "sys.exit(1) if n in (2, 4) else os.kill(os.getpid(), 9) if n == 1 else sys.exit(0 if n == 3 else 2)"

    assert (
        keep(counted(tmp_path, lives), os.environ, tmp_path / "let_in", refused=60.0, pause=0.0, say=said.append) == 2
    )

    assert starts(tmp_path) == 5
    assert ["-9" in said[0], "code 1" in said[1], "code 0" in said[2]] == [True] * 3


def test_a_signal_stops_it_and_its_process(tmp_path: Path) -> None:
    mine = f"import time; os.kill(int(os.environ['{PARENT}']), 15); time.sleep(60)"
    before = signal.getsignal(signal.SIGTERM)
    start = time.monotonic()

    assert keep(counted(tmp_path, mine), os.environ, tmp_path / "let_in", pause=0.0) == 0

    assert time.monotonic() < start + 50
    assert starts(tmp_path) == 1
    assert signal.getsignal(signal.SIGTERM) is before
