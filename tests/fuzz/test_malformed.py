"""Malformed inputs end in one clear error: no other exception, no hang."""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.malformed import READERS

HANGS = 20
"""Seconds after which an input counts as one that hangs its reader; most take milliseconds."""
SHORT, LONG = 200, 10_000


@contextmanager
def watched() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=SHORT, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_a_malformed_input_is_refused_or_read(reader: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, watched():
        READERS[reader](random.Random(seed), Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_ten_thousand_malformed_inputs_are_refused_or_read(reader: str, tmp_path: Path) -> None:
    for seed in range(LONG):
        with watched():
            try:
                READERS[reader](random.Random(seed), tmp_path)
            except Exception as error:
                raise AssertionError(f"seed {seed} of {reader}: {type(error).__name__}: {error}") from error
