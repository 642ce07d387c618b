"""Encrypted or plain: the check on the run that the released models give away the same."""

from __future__ import annotations

from dataclasses import replace

from pettoolkit.attacks.metrics import risk_metrics
from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.samerisk import encrypted_as_plain
from pettoolkit.records import (
    AttackFigure,
    Cost,
    Exposure,
    Interval,
    MeasuredRisk,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    Verdict,
)
from tests.small_cohort import spec


def figure(success: float, measure: str = "membership_auc", **changes: object) -> AttackFigure:
    made = AttackFigure("stacked", measure, "release", "full", success, 0.5, 0.1, Interval(0, 0.2), 100, 100, 100, 1.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def risk(*figures: AttackFigure) -> MeasuredRisk:
    verdict = Verdict("below", 0.03, 0.09, "all below")
    return MeasuredRisk(figures, {}, verdict, replace(verdict, figure=NotMeasured("nothing")))


def report(arm: str, success: float, **options: object) -> CellReport:
    run_spec = replace(spec(arm, **options), attacks="quick")
    privacy = PrivacyStatement(NotMeasured("none"), "t", "l", "r", measured=risk(figure(success)))
    result = RunResult(
        run_spec,
        "hash",
        {},
        {},
        {},
        NotMeasured("shared"),
        {},
        privacy,
        Exposure(()),
        Cost(1.0),
    )
    return CellReport(run_spec, "done", result, "id")


def test_the_same_risk_is_said() -> None:
    (line,) = encrypted_as_plain([report("federated", 0.55), report("encrypted_aggregation", 0.551)])
    assert "at most 0.001" in line
    assert "CHECK" not in line


def test_a_difference_is_an_alarm() -> None:
    (line,) = encrypted_as_plain([report("federated", 0.55), report("encrypted_aggregation", 0.65)])
    assert "CHECK this run" in line


def test_other_settings_are_not_compared() -> None:
    assert encrypted_as_plain([report("federated", 0.55, rounds=7), report("encrypted_aggregation", 0.65)]) == []
    assert encrypted_as_plain([report("federated", 0.55), report("pooled", 0.65)]) == []


def test_metrics_have_the_names_of_the_design() -> None:
    found = risk_metrics(
        risk(
            figure(0.55),
            figure(0.6, attack="lira"),
            figure(0.99, attack="stacked, other models"),
            figure(0.9, site="west"),
            figure(0.02, "membership_tpr_at_1pct_fpr"),
            figure(0.3, "linkability", excess=0.05),
            figure(0.2, "reidentification_probability"),
            figure(0.9, view="insider"),
        )
    )
    assert found == {
        "risk/membership_auc": 0.6,
        "risk/membership_tpr_at_1pct_fpr": 0.02,
        "risk/linkability": 0.05,
        "risk/reidentification_probability": 0.2,
        "risk/reid_max": 0.03,
    }
    assert risk_metrics(NotMeasured("no attacks were run")) == {}
