"""Below, above, undecided: each is said only where it may be."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.attacks.metrics import risk_metrics
from pettoolkit.attacks.protocol import Exact, Finding, Hits, TableView, finding
from pettoolkit.attacks.verdict import THRESHOLDS, choose, measured, thresholds, verdict
from pettoolkit.records import MeasuredRisk, NotMeasured, from_json, to_json


class Try:
    """An attack by name."""

    sees = TableView
    knowledge = "full"

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, view: object, people: object, effort: object) -> list[Finding]:
        return []


def hits(name: str, attack: float, control: float, n: int, *, view: str = "release", site: str = "*") -> Finding:
    """An attack that succeeds on exactly these shares of ``n`` patients."""

    def of(share: float, first: int) -> tuple[np.ndarray, np.ndarray]:
        hit = np.zeros(n, dtype=bool)
        hit[np.random.default_rng(first).permutation(n)[: round(share * n)]] = True
        return np.arange(first, first + n, dtype=np.int64), hit

    evidence = Hits(*of(attack, 0), *of(control, 10**6))
    return finding(Try(name), "linkability", evidence, wanted=n, seconds=0.0, view=view, site=site)


def test_below_takes_all_attacks() -> None:
    found = verdict([hits("a", 0.02, 0.02, 2000), hits("b", 0.03, 0.02, 2000)], view="release")
    assert found.state == "below"
    assert found.left_out == {}


def test_above_takes_one() -> None:
    found = verdict([hits("a", 0.02, 0.02, 2000), hits("b", 0.3, 0.02, 2000)], view="release")
    assert found.state == "above"
    assert found.why.startswith("b linkability")
    assert found.figure == pytest.approx((0.3 - 0.02) / 0.98, abs=0.05)
    assert found.strongest == "b linkability"


def test_an_attack_with_too_few_patients_is_left_out_and_nothing_is_below() -> None:
    found = verdict([hits("a", 0.02, 0.02, 2000), hits("few", 0.1, 0.1, 30)], view="release")
    assert found.state == "undecided"
    assert list(found.left_out) == ["few linkability"]
    assert "about" in found.left_out["few linkability"]


def test_left_out_is_not_below_even_where_its_upper_end_is() -> None:
    # far fewer hits than among 60 control patients: the interval ends below .09, and is twice as wide
    found = verdict([hits("a", 0.02, 0.02, 2000), hits("few", 0.0, 0.3, 60)], view="release")
    assert hits("few", 0.0, 0.3, 60).evidence.interval(0.975).high < 0.09
    assert found.state == "undecided"
    assert list(found.left_out) == ["few linkability"]


def test_what_is_left_out_says_how_many_patients_would_do() -> None:
    why = verdict([hits("a", 0.02, 0.02, 2000), hits("few", 0.1, 0.1, 30)], view="release").why
    assert re.search(r"too few patients for few linkability \(about \d+, and as many control patients, would do", why)


def test_patients_are_said_to_do_for_all_only_where_they_are_what_is_wanting_everywhere() -> None:
    def of(measure: str, **details: float) -> Finding:
        found = hits("s", 0.1, 0.1, 60)
        return replace(found, figure=replace(found.figure, measure=measure, details=details))

    few = [hits("l", 0.1, 0.1, 60), hits("c", 0.1, 0.1, 60)]
    assert "control patients, would do for all)" in verdict(few, view="release").why
    for other in (of("singling_out"), of("inference", reach=0.5)):  # released rows, more control patients: not this
        why = verdict([*few, other], view="release").why
        assert "would do for l linkability, c linkability)" in why
        assert "for all" not in why


def test_undecided_says_what_would_decide() -> None:
    found = verdict([hits("a", 0.11, 0.02, 1500)], view="release")
    assert found.state == "undecided"
    assert "patients would decide" in found.why


def test_singling_out_is_decided_by_released_rows_or_by_more_control_patients() -> None:
    def of(n: int, attack: float, **details: float) -> Finding:
        found = hits("s", attack, 0.02, n)
        return replace(found, figure=replace(found.figure, measure="singling_out", details=details))

    assert "released rows would decide" in verdict([of(1500, 0.11)], view="release").why
    assert "predicates of 60 released rows" in verdict([of(60, 0.1)], view="release").left_out["s singling_out"]
    assert "as many control patients as members" in verdict([of(1500, 0.11, reach=0.5)], view="release").why


def test_many_attacks_widen_each_interval() -> None:
    # 11.6 % against 1 %: above .09 as the only attack, no longer so among fifty
    alone = hits("a", 0.116, 0.01, 3000)
    many = [alone, *(hits(f"b{i}", 0.01, 0.01, 3000) for i in range(50))]
    assert verdict([alone], view="release").state == "above"
    assert verdict(many, view="release").state == "undecided"


def test_false_alarms_of_a_family_stay_below_five_percent() -> None:
    # ten attacks whose true excess is just the threshold: any said to be above is wrong
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        family = []
        for i in range(10):
            n = 400
            a = rng.random(n) < 0.09 * 0.9 + 0.1
            c = rng.random(n) < 0.1
            ids = np.arange(n, dtype=np.int64)
            family.append(finding(Try(str(i)), "linkability", Hits(ids, a, ids + n, c), wanted=n, seconds=0.0))
        alarms += verdict(family, view="release").state == "above"
    assert alarms <= 12  # expected at most 5 (2.5 % one-sided); 13 or more would be seen once in 1,000 seeds


def test_the_strongest_attack_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    # many attacks without effect: the largest figure is far above 0, the reported one is not
    rng, n = np.random.default_rng(3), 2400  # fewer, and all are left out
    ids = np.arange(n, dtype=np.int64)
    largest, reported = [], []
    for _ in range(40):
        family = [
            finding(
                Try(str(i)),
                "linkability",
                Hits(ids, rng.random(n) < 0.3, ids + n, rng.random(n) < 0.3),
                wanted=n,
                seconds=0.0,
            )
            for i in range(20)
        ]
        largest.append(max(f.figure.excess for f in family))
        figure = verdict(family, view="release").figure
        assert isinstance(figure, float)
        reported.append(figure)
    assert np.mean(largest) > 0.025
    assert abs(np.mean(reported)) < 0.017  # its standard error is .0042


def test_reidentification_probability_has_the_agencies_threshold() -> None:
    groups_of = {k: Exact(1 / k, patients=1000, achieved=1000) for k in (10, 11, 12)}
    states = {
        k: verdict(
            [finding(Try("k"), "reidentification_probability", e, wanted=1000, seconds=0.0)], view="release"
        ).state
        for k, e in groups_of.items()
    }
    assert states[10] == "above"
    assert states[12] == "below"
    assert states[11] == "below"  # groups of eleven are what the agencies accept
    assert "EMA" in THRESHOLDS["reidentification_probability"].source
    assert "own" in THRESHOLDS["excess"].source


def test_a_written_threshold_takes_the_place_of_the_default() -> None:
    family = [hits("a", 0.3, 0.02, 2000)]
    assert verdict(family, view="release", known=thresholds({"linkability": 0.5})).state == "below"
    assert verdict(family, view="release", known=thresholds({"excess": 0.5})).state == "below"


def test_views_and_hospitals_are_kept_apart() -> None:
    family = [
        hits("a", 0.02, 0.02, 2000),
        hits("b", 0.9, 0.02, 2000, view="insider"),
        hits("c", 0.9, 0.02, 2000, site="x"),
    ]
    assert verdict(family, view="release").state == "below"
    assert verdict(family, view="insider").state == "above"


def test_an_attack_that_did_not_run_leaves_it_open_unless_it_could_not_apply() -> None:
    family = [hits("a", 0.02, 0.02, 2000)]
    assert verdict(family, view="release", not_run={"b": "no quasi-identifiers"}).state == "undecided"
    assert verdict(family, view="release", not_run={"b": "does not apply: one release"}).state == "below"
    nothing = verdict([], view="release", not_run={"b": "cost: one shadow takes 9 s"})
    assert nothing.state == "undecided"
    assert "9 s" in nothing.why


def test_the_null_row_stands_beside_the_strongest() -> None:
    family, empty = [hits("a", 0.4, 0.02, 2000)], [hits("a", 0.03, 0.02, 2000)]
    found = verdict(family, view="release", null=empty)
    assert found.null == pytest.approx(0.0102, abs=1e-3)
    assert choose(family).figure.attack == "a"


def test_noise_is_no_figure() -> None:
    noise = verdict([hits("few", 0.1, 0.1, 30)], view="release")
    assert isinstance(noise.figure, NotMeasured)
    assert isinstance(noise.null, NotMeasured)
    unsure = verdict([hits("a", 0.4, 0.02, 2000)], view="release", null=[hits("a", 0.1, 0.02, 30)])
    assert isinstance(unsure.null, NotMeasured)
    risk = measured([hits("few", 0.9, 0.88, 30), hits("b", 0.02, 0.02, 2000)], {})
    assert risk_metrics(risk)["risk/linkability"] == 0.0


def test_measured_risk_survives_json() -> None:
    risk = measured([hits("a", 0.4, 0.02, 200)], {"b": "no quasi-identifiers"}, insider_not_run={"c": "nothing"})
    assert from_json(MeasuredRisk, to_json(risk)) == risk
    assert isinstance(risk.verdict_insider.figure, NotMeasured)
    assert risk.not_run == {"b": "no quasi-identifiers", "c": "nothing"}
