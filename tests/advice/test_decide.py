"""From situation and runs to an answer: what must be ruled out, what must stay open, and who is named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pettoolkit.advice.decide import advise
from pettoolkit.advice.evidence import Risk
from pettoolkit.advice.noninferiority import FEW_SEEDS
from pettoolkit.advice.situation import Situation
from pettoolkit.records import Interval, ModelSpec
from tests.advice.made_up import attacked, guarantee, technology

OPEN_DOORS = {
    "may_process": "yes",
    "records_may_leave": "yes",
    "trusted_coordinator": "yes",
    "may_collude": "no",
    "is_released": "no",
    "phase": "development",
    "margin": 0.05,
}
POOLED = technology("pooled", 1.2, risk=attacked(0.05, 1.0))
FEDERATED = technology("federated", 1.2, risk=attacked(0.04, 0.30))
ENCRYPTED = technology("encrypted_aggregation", 1.2, risk=attacked(0.04, 0.05, together=0.30))
SYNTHETIC = technology("synthetic", 1.2, risk=attacked(0.05, 0.05, reach=0.2))
BAD = technology("synthetic", 0.3, risk=attacked(0.0, 0.0))


def answer(*technologies: Any, data: str = "physionet2019", **answers: Any) -> dict[str, Any]:
    return advise(
        technologies or (POOLED, FEDERATED, ENCRYPTED), Situation(**(OPEN_DOORS | answers)), experiment="x", data=data
    )


def statuses(found: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["status"] for row in found["technologies"]}


def rules(found: dict[str, Any], name: str, effect: str = "rule_out") -> set[str]:
    (row,) = [row for row in found["technologies"] if row["name"] == name]
    return {reason["rule"] for reason in row["reasons"] if reason["effect"] == effect}


def test_where_all_is_allowed_the_least_risk_is_named() -> None:
    found = answer()
    assert set(statuses(found).values()) == {"qualifies"}
    assert found["least_risk"]["name"] == "encrypted_aggregation"


def test_risks_that_attacks_do_not_tell_apart_are_named_beside_it() -> None:
    found = answer(POOLED, ENCRYPTED, SYNTHETIC)
    assert found["least_risk"]["not_told_apart"] == ["synthetic"]


def test_without_a_legal_basis_everything_is_ruled_out() -> None:
    found = answer(may_process="no")
    assert set(statuses(found).values()) == {"ruled out"}
    assert found["least_risk"]["name"] is None


@pytest.mark.parametrize(
    ("answers", "ruled_out"),
    [
        ({"records_may_leave": "no"}, {"pooled"}),
        ({"records_may_leave": "anonymous"}, {"pooled"}),
        ({"trusted_coordinator": "no"}, {"pooled", "federated"}),
        ({"trusted_coordinator": "no", "may_collude": "yes"}, {"pooled", "federated", "encrypted_aggregation"}),
        ({"hospitals": 2}, {"encrypted_aggregation"}),
        ({"max_epsilon": 3}, {"pooled", "federated", "encrypted_aggregation"}),
        ({"max_risk": 0.2}, {"pooled", "federated"}),
        ({"max_megabytes": 0.5}, {"pooled", "federated", "encrypted_aggregation"}),
        ({"max_seconds": 5}, set()),
    ],
    ids=str,
)
def test_what_the_situation_forbids_is_ruled_out_and_nothing_else(answers: dict[str, Any], ruled_out: set[str]) -> None:
    found = statuses(answer(**answers))
    assert {name for name, status in found.items() if status == "ruled out"} == ruled_out


def test_every_reason_has_a_source_and_the_document_holds_it() -> None:
    found = answer(POOLED, FEDERATED, ENCRYPTED, SYNTHETIC, records_may_leave="no", phase="operation", max_risk=0.01)
    reasons = [reason for row in found["technologies"] for reason in row["reasons"]]
    assert reasons
    for reason in reasons:
        assert reason["sources"]
        assert set(reason["sources"]) <= set(found["sources"])
    assert all(source["supports"] for source in found["sources"].values())


def test_what_is_not_answered_rules_nothing_out_but_says_if() -> None:
    found = advise((POOLED, FEDERATED, ENCRYPTED), Situation(margin=0.05), experiment="x", data="tables")
    assert set(statuses(found).values()) == {"qualifies on conditions"}
    assert "records-stay" in rules(found, "pooled", "condition")
    assert "records_may_leave" in found["not_answered"]


def test_a_bad_model_is_not_good_enough_and_not_named_though_nothing_is_measured_to_leak() -> None:
    found = answer(POOLED, FEDERATED, BAD)
    assert statuses(found)["synthetic"] == "not good enough"
    assert found["least_risk"]["name"] == "federated"


def test_pooled_data_are_not_recommended_because_nothing_else_is_shown_good_enough() -> None:
    found = answer(POOLED, BAD)
    assert statuses(found) == {"pooled": "qualifies", "synthetic": "not good enough"}
    assert found["least_risk"]["name"] is None
    assert "only pooled real data" in found["least_risk"]["why"]


def test_a_choice_that_hangs_on_open_questions_says_so() -> None:
    found = advise((POOLED, FEDERATED, ENCRYPTED), Situation(margin=0.05), experiment="x", data="tables")
    assert "hangs on the conditions" in found["least_risk"]["why"]
    assert "hangs on" not in answer()["least_risk"]["why"]


def test_without_pooled_real_data_it_must_say_undecided() -> None:
    found = answer(FEDERATED, ENCRYPTED)
    assert set(statuses(found).values()) == {"undecided"}
    assert "no pooled model" in found["technologies"][0]["good_enough"]["why"]


def test_pooled_rows_of_another_model_or_with_privacy_are_no_reference() -> None:
    other = technology("pooled", 1.2, model=ModelSpec("mlp", 32))
    private = technology("pooled", 1.2, guaranteed=guarantee(3))
    assert statuses(answer(other, private, FEDERATED))["federated"] == "undecided"


def test_one_seed_must_say_undecided_and_too_thin() -> None:
    found = answer(technology("pooled", 1.2, seeds=[0]), technology("federated", 1.2, seeds=[0]))
    assert statuses(found)["federated"] == "undecided"
    assert any("Fewer than 3 seeds: pooled, federated" in said for said in found["thin"])


def test_without_attacks_nobody_is_named_and_it_is_said() -> None:
    found = answer(technology("pooled", 1.2), technology("federated", 1.2))
    assert found["least_risk"]["name"] is None
    assert "no attacks" in found["least_risk"]["why"]
    assert any("No attacks were run on pooled, federated" in said for said in found["thin"])


def test_simulated_hospitals_are_too_thin_and_decide_nothing_for_operation() -> None:
    assert any("simulated" in said for said in answer(data="simulated")["thin"])
    assert set(statuses(answer(data="simulated", phase="operation")).values()) == {"undecided"}
    assert statuses(answer(phase="operation"))["federated"] == "qualifies"


def test_images_are_not_measured_here() -> None:
    found = answer(data="tables", **{"phase": "development"}) | {}
    pictures = advise((POOLED, FEDERATED), Situation(**(OPEN_DOORS | {"data": "image"})), experiment="x", data="tables")
    assert statuses(found)["federated"] == "qualifies"
    assert set(statuses(pictures).values()) == {"undecided"}
    assert pictures["technologies"][1]["maturity"]["federated"]["sources"] == ["dayan_2021"]


def test_few_patients_with_the_outcome_and_smaller_hospitals_are_said() -> None:
    small = [technology(arm, 1.2, patients=20) for arm in ("pooled", "federated")]
    assert any("Only 15 test patients" in said for said in answer(*small)["thin"])
    thin = " ".join(answer(patients=100, hospitals=12)["thin"])
    assert "yours has 100" in thin
    assert "yours are 12" in thin
    assert answer(patients=1100, hospitals=3)["thin"] == []


def test_collusion_counts_what_insiders_get_together() -> None:
    apart, together = answer(may_collude="no"), answer(may_collude="yes")
    risk = [{r["name"]: r["risk"]["value"] for r in f["technologies"]} for f in (apart, together)]
    assert risk[0]["encrypted_aggregation"] == pytest.approx(0.05)
    assert risk[1]["encrypted_aggregation"] == pytest.approx(0.30)
    assert "key-and-coordinator-condition" in rules(together, "encrypted_aggregation", "condition")


def test_of_shared_noise_the_epsilon_that_collusion_leaves_is_compared() -> None:
    shared = technology("encrypted_aggregation", 1.2, guaranteed=guarantee(3, colluding=7))
    name = "encrypted_aggregation epsilon 3"
    assert rules(answer(POOLED, shared, max_epsilon=3), name) == set()
    assert rules(answer(POOLED, shared, max_epsilon=3, may_collude="yes"), name) == {"epsilon"}
    (reason,) = answer(shared, max_epsilon=3, may_collude="yes")["technologies"][0]["reasons"]
    assert reason["text"].startswith("epsilon is 7 if the coordinator and a hospital collude, not 3")


def test_a_release_that_was_attacked_successfully_cannot_pass_as_anonymous() -> None:
    leaky = technology("anonymised", 1.2, risk=attacked(0.5, 0.0))
    found = answer(POOLED, leaky, records_may_leave="anonymous")
    assert "shown-not-anonymous" in rules(found, "anonymised")
    tight = technology("anonymised", 1.2, risk=attacked(0.01, 0.0))
    assert rules(answer(POOLED, tight, records_may_leave="anonymous"), "anonymised") == set()


def test_a_model_that_is_not_released_is_not_judged_by_its_release_but_rows_are() -> None:
    model = technology("federated", 1.2, risk=attacked(0.4, 0.1))
    rows = technology("synthetic", 1.2, risk=attacked(0.4, 0.1))
    for released, expected in (("no", [0.1, 0.4]), ("yes", [0.4, 0.4])):
        found = answer(POOLED, model, rows, is_released=released)["technologies"]
        assert [row["risk"]["value"] for row in found[1:]] == pytest.approx(expected)


def test_an_auroc_that_is_of_no_use_is_not_good_enough_even_for_the_reference() -> None:
    assert set(statuses(answer(min_auroc=0.9)).values()) == {"not good enough"}
    assert set(statuses(answer(min_auroc=0.75)).values()) == {"undecided"}


def test_the_checklist_says_not_measured_where_nothing_was() -> None:
    entries = {e["item"]: e for e in answer()["technologies"][1]["checklist"]}
    assert "2 s of training" in entries["compute"]["measured"]
    assert "1 MB" in entries["storage"]["measured"]
    for item in ("skills", "compliance", "long_term"):
        assert entries[item]["measured"] == "not measured"
        assert entries[item]["consider"]


def test_the_reach_of_the_strongest_attack_is_about_its_own_figure() -> None:
    """The one that is chosen on half of the targets may be weaker on the other half than the largest of all figures."""
    noisy = attacked(0.10, 0.0)
    named = replace(noisy.verdict_release, figure=0.03, strongest="lira membership_auc")
    wide = replace(noisy.figures[0], measure="membership_tpr_at_1pct_fpr", interval=Interval(-0.1, 0.3))
    noisy = replace(noisy, verdict_release=named, figures=(*noisy.figures, wide))
    risk = technology("synthetic", risk=noisy).risk(released=True, colluding=False, limit=None)
    assert isinstance(risk, Risk)
    assert risk.value == pytest.approx(0.03)
    assert risk.interval.low == pytest.approx(0.03 - math.sqrt(2) * 0.02)
    assert risk.interval.high == pytest.approx(0.03 + math.sqrt(2) * 0.02)


def test_what_an_attack_that_failed_could_have_shown_is_not_below_a_limit() -> None:
    whole = technology("synthetic", 1.2, risk=attacked(0.0, 0.0))
    cut = technology("synthetic", 1.2, risk=replace(attacked(0.0, 0.0), not_run={"lira": "failed"}))
    costly = technology("synthetic", 1.2, risk=replace(attacked(0.0, 0.0), not_run={"lira": "costs too much"}))
    met = {"risk"} & rules(answer(POOLED, whole, max_risk=0.1), "synthetic", "condition")
    assert met == {"risk"} & rules(answer(POOLED, costly, max_risk=0.1), "synthetic", "condition") == set()
    assert "risk" in rules(answer(POOLED, cut, max_risk=0.1), "synthetic", "condition")


def test_of_use_is_decided_over_seeds_as_good_enough_is() -> None:
    def steady(aurocs: list[float], **answers: float) -> dict[str, str]:
        tech = technology("pooled", 1.2, seeds=range(len(aurocs)))
        results = [replace(r, metrics={"utility/auroc": a}) for r, a in zip(tech.results, aurocs, strict=True)]
        return statuses(answer(replace(tech, results=tuple(results)), **answers))

    assert steady([0.75, 0.75, 0.75], min_auroc=0.65) == {"pooled": "qualifies"}
    assert steady([0.60, 0.75, 0.90], min_auroc=0.65) == {"pooled": "undecided"}
    found = answer(technology("pooled", 1.2, seeds=[0]), min_auroc=0.9)
    assert statuses(found) == {"pooled": "undecided"}
    assert found["undecided"][0]["what_decides"] == FEW_SEEDS


def test_a_condition_that_hangs_on_an_answer_that_is_missing_is_said() -> None:
    (row,) = answer(POOLED, phase=None)["technologies"]
    said = {reason["rule"]: reason["text"] for reason in row["reasons"]}
    assert said["hypothesis-without-records"].startswith("phase is hypothesis: ")


@pytest.mark.parametrize("arm", ["local", "pooled", "synthetic"])
def test_whoever_releases_a_model_has_to_show_that_it_is_anonymous(arm: str) -> None:
    assert "model-is-released" in rules(answer(technology(arm, 1.2), is_released="yes"), arm, "condition")


def test_hospitals_that_were_dropped_and_a_second_reference_are_said() -> None:
    second = replace(technology("pooled", 1.1), name="pooled, epochs 3")
    told = advise(
        [POOLED, second, FEDERATED],
        Situation(**OPEN_DOORS),
        experiment="x",
        data="tables",
        dropped=["went on without hospital east in round 2 (training): hung"] * 2,
    )
    thin = " ".join(told["thin"])
    assert thin.count("went on without hospital east") == 1
    assert "compared with pooled, not pooled, epochs 3" in thin


def test_attacks_that_could_not_tell_are_said_and_those_that_do_not_apply_are_not() -> None:
    risk = replace(attacked(0.0, 0.0), not_run={"membership": "cost: too much", "intersection": "does not apply: one"})
    risk = replace(risk, verdict_release=replace(risk.verdict_release, left_out={"singling_out singling_out": "few"}))
    thin = " ".join(answer(POOLED, technology("synthetic", 1.2, risk=risk))["thin"])
    assert "synthetic (membership did not run; too few patients for singling_out singling_out)" in thin
    assert "intersection" not in thin
    assert "Not every attack" not in " ".join(answer()["thin"])


def test_a_guarantee_is_asked_of_what_leaves_a_hospital() -> None:
    local = technology("local", 1.2)
    assert rules(answer(local, max_epsilon=3, is_released="no"), "local") == set()
    assert rules(answer(local, max_epsilon=3, is_released="yes"), "local") == {"epsilon"}
    assert "epsilon" in rules(answer(local, max_epsilon=3, is_released=None), "local", "condition")
