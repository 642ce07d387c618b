"""The advice in words: nothing of the answer is missing."""

from __future__ import annotations

from pettoolkit.advice.decide import advise
from pettoolkit.advice.situation import Situation
from pettoolkit.advice.text import WIDTH, lines
from tests.advice.made_up import attacked, technology

ROWS = (
    technology("pooled", 1.2, risk=attacked(0.05, 1.0)),
    technology("federated", 1.2, risk=attacked(0.04, 0.3)),
    technology("synthetic", 0.3),
)


def said(**answers) -> str:  # type: ignore[no-untyped-def]
    return "\n".join(lines(advise(ROWS, Situation(margin=0.05, **answers), experiment="x", data="simulated")))


def test_answer_reasons_sources_and_disclaimer_are_there() -> None:
    text = said(trusted_coordinator="yes", records_may_leave="no")
    plain = " ".join(text.split())
    assert "Not legal advice" in plain
    assert "federated has the least measured risk" in plain
    assert "not more than 0.05 AUROC worse" in plain
    assert "no: real patients' rows would leave the hospital" in plain
    assert "wp216: Article 29 Working Party" in plain
    assert "Not answered: may_process" in plain
    assert "skills: not measured:" in plain


def test_groups_come_in_the_order_of_use_and_lines_fit() -> None:
    text = said(trusted_coordinator="yes", records_may_leave="no")
    heads = [line for line in text.splitlines() if line.startswith("== ")]
    assert heads == ["== QUALIFIES ON CONDITIONS", "== NOT GOOD ENOUGH", "== RULED OUT"]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_where_nobody_qualifies_it_says_so() -> None:
    assert "No technology is named: none qualifies." in said(may_process="no")
