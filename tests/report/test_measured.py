"""Measured risk in words."""

from __future__ import annotations

from dataclasses import replace

from finished import done, spec

from pettoolkit.records import AttackFigure, Interval, MeasuredRisk, NotMeasured, Verdict
from pettoolkit.report import measured


def figure(attack: str = "stacked", **changes: object) -> AttackFigure:
    made = AttackFigure(
        attack=attack,
        measure="membership_auc",
        view="release",
        knowledge="full",
        success=0.55,
        control=0.5,
        excess=0.1,
        interval=Interval(0.05, 0.15),
        patients=1000,
        wanted=1000,
        achieved=1000,
        seconds=1.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


BELOW = Verdict("below", 0.02, 0.09, "all 8 upper ends are below their thresholds (together 95 %)", null=0.01)
ABOVE = Verdict("above", 0.16, 0.09, "stacked 0.16 (at least 0.11) is above 0.09")
OPEN = Verdict("undecided", NotMeasured("cost"), 0.09, "membership did not run (cost)")


def risk(*figures: AttackFigure, release: Verdict = BELOW, insider: Verdict = OPEN, **not_run: str) -> MeasuredRisk:
    return MeasuredRisk(figures, not_run, release, insider)


def result(verdict: Verdict | None, seed: int = 0) -> object:
    report = done(replace(spec(), seed=seed), {"a": 0.7})
    found = report.result
    assert found is not None
    if verdict is None:
        return found
    return replace(found, privacy=replace(found.privacy, measured=risk(release=verdict)))


def text(of: MeasuredRisk | NotMeasured) -> str:
    return "\n".join(f"{name}: {said}" for name, said in measured.rows(of))


def test_over_seeds_above_wins_and_below_takes_all() -> None:
    def said(*verdicts: Verdict | None) -> str:
        return measured.headline([result(v, i) for i, v in enumerate(verdicts)])  # type: ignore[misc]

    assert said(None) == "-"
    assert said(BELOW, BELOW) == "below 0.02 / undecided"
    assert said(BELOW, OPEN) == "undecided 0.02 / undecided"
    assert said(BELOW, ABOVE, OPEN) == "above 0.09 / undecided"


def test_a_block_has_both_verdicts_with_the_null_beside() -> None:
    said = text(risk(figure(), release=BELOW, membership="cost: 9 s"))
    assert "measured: release: below 0.09, strongest attack 0.02 (where nobody can be exposed 0.01)" in said
    assert "measured: insider: undecided: membership did not run (cost)" in said
    assert "stacked AUC 0.550 (excess 0.10, 0.05 to 0.15, 1000 patients)" in said
    assert "not run: membership (cost: 9 s)" in said


def test_the_guarantees_bound_and_an_alarm_stand_beside_the_figure() -> None:
    said = text(risk(figure(bound=0.52, details={"alarm": 1.0}, note="ALARM: at least 0.525")))
    assert "guarantee allows 0.520" in said
    assert "ALARM: stacked membership_auc: ALARM: at least 0.525" in said


def test_hospitals_audit_and_collusion_have_lines_of_their_own() -> None:
    said = text(
        risk(
            figure(),
            figure(site="west", interval=Interval(0.2, 0.4), success=0.65),
            figure(site=measured.CANARY, interval=Interval(0.9, 1.0), note="epsilon at least 1.2 of 3 claimed"),
            figure("update_membership", site=measured.BOTH, view="insider", success=0.95, note="seen by both"),
        )
    )
    assert "by hospital, at most: west stacked AUC 0.650" in said
    assert "audit: epsilon at least 1.2 of 3 claimed" in said
    assert "if both collude: update_membership AUC 0.950" in said


def test_nothing_measured_says_why() -> None:
    assert text(NotMeasured("no attacks were run")) == "measured: not measured: no attacks were run"


def test_figures_that_decide_nothing_are_not_among_the_strongest() -> None:
    left_out = {"lira membership_auc": "can't decide: 30 patients"}
    verdict = Verdict("undecided", 0.02, 0.09, "too few patients for lira membership_auc", left_out)
    said = text(risk(figure("lira", excess=0.4), figure("rmia", excess=0.02), release=verdict))
    assert "rmia AUC" in said
    assert "lira AUC" not in said
