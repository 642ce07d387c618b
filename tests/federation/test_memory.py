import sys

import pytest

from pettoolkit.federation import memory

MB = 2**20
linux = pytest.mark.skipif(not memory._CLEAR.exists(), reason="only Linux can reset a process's peak memory")


def swell(megabytes):
    """Hold memory that is really used, and let go of it."""
    held = bytearray(megabytes * MB)
    held[::4096] = b"x" * len(held[::4096])


def test_the_peak_remembers_what_was_let_go():
    before = memory.peak_rss_mb()
    swell(150)
    assert memory.peak_rss_mb() >= max(before, 150)


@linux
def test_after_a_reset_the_peak_is_what_is_held_now():
    swell(150)
    before = memory.peak_rss_mb()
    assert memory.reset_peak_rss()
    after = memory.peak_rss_mb()
    assert after <= before - 100
    swell(150)
    assert memory.peak_rss_mb() >= after + 100


def test_where_the_system_can_not_reset_it_the_peak_only_grows(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "missing" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing" / "status")
    assert not memory.reset_peak_rss()
    peak = memory.peak_rss_mb()
    assert peak > 10
    assert sys.platform == "darwin" or memory.peak_rss_mb() >= peak
