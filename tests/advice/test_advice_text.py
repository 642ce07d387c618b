"""The advice in words: nothing of the answer is missing."""

from __future__ import annotations

from dataclasses import replace

from pettoolkit.advice.decide import advise
from pettoolkit.advice.situation import Situation
from pettoolkit.advice.text import WIDTH, lines, short
from tests.advice.made_up import attacked, guarantee, technology

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
    assert "risk, insider above: because" in plain


def test_groups_come_in_the_order_of_use_and_lines_fit() -> None:
    text = said(trusted_coordinator="yes", records_may_leave="no")
    heads = [line for line in text.splitlines() if line.startswith("== ")]
    assert heads == ["== QUALIFIES ON CONDITIONS", "== NOT GOOD ENOUGH", "== RULED OUT"]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_where_nobody_qualifies_it_says_so() -> None:
    assert "No technology is named: none qualifies." in said(may_process="no")


def brief(*rows, **answers) -> str:  # type: ignore[no-untyped-def]
    said = short(advise(rows or ROWS, Situation(**answers), experiment="x", data="physionet2019"))
    assert max(map(len, said)) <= WIDTH
    return " ".join("\n".join(said).split())


def test_the_margin_is_said_before_the_choice_and_whether_somebody_stated_it() -> None:
    text = brief(margin=0.05)
    assert text.index("not more than 0.05") < text.index("has the least measured risk")
    assert "Nobody stated this margin" not in text
    assert "Nobody stated this margin" in brief()


def test_with_one_seed_the_answer_begins_with_undecided_and_what_decides() -> None:
    once = [technology(arm, 1.2, seeds=[0], risk=attacked(0.0, 0.0)) for arm in ("pooled", "federated", "local")]
    text = brief(*once)
    undecided = "Undecided, neither good enough nor not: federated, local: how much another training or split would"
    assert undecided in text
    assert text.index(undecided) < text.index("== ")
    assert "run at least 3 seeds" in text


def test_an_undecided_technology_of_less_risk_than_the_choice_is_named_on_top() -> None:
    unknown = technology("local", 1.2, seeds=[0], risk=attacked(0.0, 0.0))
    text = brief(*ROWS, unknown, margin=0.05, trusted_coordinator="yes", records_may_leave="no")
    assert "less risk was measured of local 0.00 (-0.03 to 0.03): decide them before you choose" in text


def test_the_short_answer_says_once_what_holds_for_all_and_names_sources_of_reasons() -> None:
    text = brief()
    assert text.count("ruled out if may_process is no") == 1
    assert "gdpr_basis: GDPR" in text
    assert "Costs and benefits" not in text


def test_words_and_figures_are_explained_and_what_is_ruled_out_has_no_conditions() -> None:
    private = technology("federated", 1.2, risk=attacked(0.0, 0.0), guaranteed=guarantee(3))
    text = brief(ROWS[0], private, margin=0.05, records_may_leave="no", min_auroc=0.6)
    assert "epsilon 3, delta 1e-05" in text
    assert "undecided against 0.09, the runs' threshold (no authority sets one" in text
    assert "of use: yes" in text
    assert "is_released is yes" not in text.partition("== RULED OUT")[2]
    assert "Epsilon, delta: of each patient" in text
    assert "strongest attack 0.00 (-0.03 to 0.03)" in brief(technology("local", 1.2, risk=attacked(-0.001, -0.001)))
    assert "Epsilon, delta" not in brief()
    larger = replace(guarantee(3), delta=1.4e-5)
    assert "delta 1.4e-05" in brief(ROWS[0], technology("federated", 1.2, guaranteed=larger)), "delta looks smaller"
    assert "what is left if the coordinator" not in text
    assert "what is left if the coordinator and a hospital collude" in brief(ROWS[0], private, may_collude="yes")


def test_what_is_to_be_known_of_the_choice_stands_with_it_and_of_the_others_in_the_whole_answer() -> None:
    rows = [technology(arm, 1.2, risk=attacked(risk, risk)) for arm, risk in (("pooled", 1.0), ("synthetic", 0.0))]
    note = "note: synthetic rows without differential privacy have no guarantee"
    assert note in brief(*rows, margin=0.05)
    assert note not in brief(*rows, margin=0.05, may_process="no")
