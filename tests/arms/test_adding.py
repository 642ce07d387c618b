"""The coordinator's memory does not grow with the hospitals: it asks for no more ciphertexts than it then lets go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pettoolkit.arms import adding, exchange
from pettoolkit.arms.adding import AT_ONCE, batched
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.exchange import Reply
from pettoolkit.hospital.site import Site
from tests import small_cohort as small


def test_ciphertexts_are_let_go_when_they_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty hospitals, four asked at once: when the next ones are asked, the replies of those before are gone."""
    names = tuple(f"h{number:02}" for number in range(20))
    spec = replace(small.spec("encrypted_statistics", rounds=1), sites=names)
    keys = small.carried(spec)
    sites = {name: Site(name, small.rows(name, 60), small.CONTRACT, keys=keys) for name in names}
    alive: list[weakref.ref[Reply]] = []
    most = 0

    def watched(*args: Any, **more: Any) -> Mapping[str, Reply]:
        nonlocal most
        gc.collect()
        assert not [reply for reply in alive if reply() is not None]
        replies = exchange.ask(*args, **more)
        if more["wants"] == "ciphertext":
            most = max(most, len(replies))
            alive.extend(weakref.ref(reply) for reply in replies.values())
        return replies

    monkeypatch.setattr(adding, "AT_ONCE", 4)
    monkeypatch.setattr(adding, "ask", watched)
    with small.grid(sites) as grid:
        coordinate(grid, spec)

    assert most == 4
    assert len(alive) == 20


def test_all_hospitals_are_asked_once() -> None:
    names = [str(number) for number in range(2 * AT_ONCE + 1)]

    assert [name for some in batched(names, AT_ONCE) for name in some] == names
    assert [len(some) for some in batched(names, AT_ONCE)] == [AT_ONCE, AT_ONCE, 1]
