"""Attacks register from one file, and what one can't do takes no other with it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit.attacks import protocol
from pettoolkit.attacks.protocol import (
    QUICK,
    Group,
    NotApplicable,
    NotRun,
    People,
    TableView,
    View,
    attacks_for,
    register,
    run_attacks,
)
from pettoolkit.attacks.verdict import verdict
from tests.small_cohort import CONTRACT

PLUGIN = """
import numpy as np
from pettoolkit.attacks.protocol import Hits, TableView, finding, register


@register
class Coin:
    name = "coin"
    sees = TableView
    knowledge = "none"

    def run(self, view, people, effort):
        n = len(people.members)
        ids = np.arange(n, dtype=np.int64)
        hits = Hits(ids, np.ones(n, dtype=bool), ids, np.zeros(n, dtype=bool))
        return [finding(self, "singling_out", hits, wanted=n, seconds=0.0)]
"""


def group(n: int) -> Group:
    rows = pd.DataFrame({"y": np.zeros(n)})
    return Group(rows, np.arange(n, dtype=np.int64), np.array(["a"] * n))


PEOPLE = People(group(30), group(10), group(10))


def test_anybody_can_bring_an_attack_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coin_attack.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    attacks_for(View(CONTRACT))  # ours are registered before the register is copied, or they would be lost with it
    monkeypatch.setattr(protocol, "_REGISTERED", dict(protocol._REGISTERED))  # other tests must not meet the coin
    view = TableView(CONTRACT)
    attack = {a.name: a for a in attacks_for(view, ["coin_attack"])}["coin"]
    findings, not_run = run_attacks([attack], view, PEOPLE, QUICK)
    assert (findings[0].figure.excess, not_run) == (1.0, {})
    assert "coin" not in {a.name for a in attacks_for(View(CONTRACT))}
    del sys.modules["coin_attack"]


def test_an_attack_that_cannot_run_says_why_and_the_others_go_on() -> None:
    class Broken:
        name = "broken"
        sees = TableView
        knowledge = "none"

        def run(self, view: object, people: object, effort: object) -> list[object]:
            raise NotRun("no quasi-identifiers")

    class Elsewhere(Broken):
        name = "elsewhere"

        def run(self, view: object, people: object, effort: object) -> list[object]:
            raise NotApplicable("one release")

    findings, not_run = run_attacks([Broken(), Elsewhere()], TableView(CONTRACT), PEOPLE, QUICK)  # type: ignore[list-item]
    assert findings == []
    assert not_run == {"broken": "no quasi-identifiers", "elsewhere": "does not apply: one release"}


def test_a_defect_of_one_attack_is_named_and_nothing_is_below() -> None:
    class Broken:
        name = "broken"
        sees = TableView
        knowledge = "none"

        def run(self, view: object, people: object, effort: object) -> list[object]:
            raise ZeroDivisionError("patient 17 has age 0")

    _, not_run = run_attacks([Broken()], TableView(CONTRACT), PEOPLE, QUICK)  # type: ignore[list-item]
    assert not_run["broken"].startswith("failed: ZeroDivisionError at test_protocol.py:")
    assert "patient 17" not in not_run["broken"]
    assert verdict([], view="release", not_run=not_run).state == "undecided"


def test_two_attacks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two classes have this name"):

        @register
        class Other:
            name = "membership"
            sees = TableView
            knowledge = "none"
