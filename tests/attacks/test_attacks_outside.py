"""Attacks on finished cells of each technology, over the wire."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.attacks import outside
from pettoolkit.attacks.metrics import risk_metrics
from pettoolkit.attacks.models.membership import pool_of
from pettoolkit.attacks.models.outside import model_view, recipe_of
from pettoolkit.attacks.models.recipe import Central, Newton, Noisy, Rounds
from pettoolkit.attacks.models.shadows import shadow_logits
from pettoolkit.attacks.models.targets import choose
from pettoolkit.attacks.protocol import Effort
from pettoolkit.attacks.verdict import measured
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.policy import Policy
from pettoolkit.records import DpSpec, MeasuredRisk, NotMeasured, Outcome, RunSpec, from_json, to_json
from tests.small_cohort import CONTRACT, SITES, grid, hospitals, spec

SMALL = Effort("quick", attacks=60, targets=400, shadows=8, seconds=60.0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outside.EFFORTS, "quick", SMALL)


def asked(arm: str, **changes: object) -> RunSpec:
    return replace(spec(arm, **changes), attacks="quick")  # type: ignore[arg-type]


def run(run_spec: RunSpec) -> tuple[Outcome, MeasuredRisk | NotMeasured, MeteredGrid]:
    with grid(hospitals(run_spec if run_spec.arm.startswith("encrypted") else None)) as inner:
        metered = MeteredGrid(inner)
        outcome = coordinate(metered, run_spec)
        return outcome, outside.measure(metered, run_spec, outcome), metered


def figures(risk: MeasuredRisk | NotMeasured) -> dict[tuple[str, str], float]:
    assert isinstance(risk, MeasuredRisk)
    return {(f.attack, f.measure): f.success for f in risk.figures if f.site == "*" and f.view == "release"}


@pytest.mark.parametrize("arm", ["local", "pooled", "federated", "encrypted_statistics", "encrypted_records"])
def test_every_arm_with_a_model_is_attacked_over_the_wire(arm: str) -> None:
    _, risk, metered = run(asked(arm))
    assert ("stacked", "membership_auc") in figures(risk)
    assert isinstance(risk, MeasuredRisk)
    assert from_json(MeasuredRisk, to_json(risk)) == risk
    assert 0 < risk_metrics(risk)["risk/membership_auc"] <= 1
    audit = [row for row in metered.exposure().traffic if row.purpose == "audit" and row.direction == "out"]
    assert {row.site for row in audit} == set(SITES)
    assert not any(row.protocol for row in audit)


@pytest.mark.parametrize("dp", [None, DpSpec(3.0, noise="local")], ids=["no dp", "local noise"])
def test_an_encrypted_arm_gives_away_what_the_plain_one_does(dp: DpSpec | None) -> None:
    options = {} if dp is None else {"strategy": "fedsgd", "rounds": 8, "learning_rate": 1.0}
    plain, encrypted = (run(asked(arm, dp=dp, **options))[1] for arm in ("federated", "encrypted_aggregation"))
    for key, value in figures(plain).items():
        assert figures(encrypted)[key] == pytest.approx(value, abs=0.01), key


def test_released_tables_are_attacked_too() -> None:
    for arm in ("synthetic", "anonymised"):
        outcome, risk, _ = run(asked(arm))
        assert isinstance(risk, MeasuredRisk)
        if outcome.released_table is not None:
            assert any(f.attack == "linkability" for f in risk.figures), arm
        assert any(f.attack == "stacked" for f in risk.figures) or "cost" in risk.not_run["membership"]


NOISY = DpSpec(3.0, noise="shared")
SUM = {"generator": "marginals", "scope": "secure_sum"}


@pytest.mark.parametrize(
    ("run_spec", "unseen"),
    [
        (spec("encrypted_aggregation"), False),
        (spec("encrypted_aggregation", dp=NOISY, strategy="fedsgd", rounds=3), False),
        (spec("encrypted_aggregation", dp=replace(NOISY, batch=64), strategy="fedsgd", rounds=3), True),
        (spec("encrypted_statistics"), False),
        (spec("encrypted_statistics", dp=NOISY, clip=3.5, rounds=2), False),
        (spec("encrypted_records"), False),
        (spec("synthetic", **SUM), False),
        (spec("synthetic", dp=NOISY, **SUM), False),
    ],
    ids=["aggregation", "noisy", "batches", "statistics", "noisy statistics", "records", "counts", "noisy counts"],
)
def test_that_ciphertexts_tell_the_coordinator_nothing_stands_in_every_encrypted_cell(
    run_spec: RunSpec, unseen: bool
) -> None:
    with grid(hospitals(run_spec)) as inner:
        metered = MeteredGrid(inner)
        outcome, people = coordinate(metered, run_spec), outside.people_of(metered, run_spec)
    inside = outside.on_insiders(run_spec, outcome, people, SMALL, outside.Attacked())
    (held,) = [f.figure for f in inside.findings if f.figure.attack == "held"]
    assert (held.measure, held.success, held.site) == ("ciphertexts", 0.0, "*")
    assert "nothing to attack" in held.note
    assert ("insider" in (inside.not_run or {})) == unseen
    if unseen:  # nothing of who was not attacked: no 0.00 that might be taken for a measurement
        risk = measured(inside.findings, {}, insider_not_run=inside.not_run)
        assert risk.verdict_insider.state == "undecided"
        assert isinstance(risk.verdict_insider.figure, NotMeasured)
        assert "risk/insider_max" not in risk_metrics(risk)


def test_a_guarantee_stands_beside_its_figure() -> None:
    outcome, risk, _ = run(asked("federated", dp=DpSpec(1.0), strategy="fedsgd", rounds=10))
    assert isinstance(risk, MeasuredRisk)
    (figure,) = [f for f in risk.figures if (f.attack, f.measure, f.site) == ("lira", "membership_auc", "*")]
    assert figure.bound == pytest.approx(0.575, abs=0.005)  # privacy/bounds.py at epsilon 1, full batch
    assert outcome.privacy.ledgers


def test_a_deployed_hospital_hands_out_no_rows() -> None:
    sites = hospitals()
    sites["east"] = replace(
        sites["east"],
        policy=Policy(
            kinds=("model", "update", "metrics", "raw_records"), arms=("federated",), minimum_cohort=1, seeds=None
        ),
    )
    with grid(sites) as inner:
        metered = MeteredGrid(inner)
        run_spec = asked("federated")
        outcome = coordinate(metered, run_spec)
        risk = outside.measure(metered, run_spec, outcome)
    assert isinstance(risk, NotMeasured)
    assert "east" in risk.reason
    assert "simulated hospitals only" in risk.reason


def test_no_attack_is_run_unless_asked() -> None:
    run_spec = spec("pooled")
    _, risk, metered = run(run_spec)
    assert isinstance(risk, NotMeasured)
    assert not any(row.purpose == "audit" for row in metered.exposure().traffic)
    assert "attacks" not in run_spec.wire()


def test_members_are_who_was_trained_on() -> None:
    run_spec = asked("encrypted_records", rows=90)
    sites = hospitals(run_spec)
    with grid(sites) as inner:
        people = outside.people_of(MeteredGrid(inner), run_spec)
        everybody = outside.people_of(MeteredGrid(inner), asked("pooled"))
    assert len(people.members) == 90
    assert set(people.members.patient) <= set(everybody.members.patient)
    for group in (everybody.members, everybody.control, everybody.attacker):
        assert len(np.unique(group.patient)) == len(group)
    assert len(everybody.members) == sum(len(s.index(run_spec, "train")) for s in sites.values())
    assert not set(everybody.members.patient) & set(everybody.control.patient)
    assert list(everybody.members.rows.columns) == [
        c.name for c in CONTRACT.columns if c.role in ("feature", "outcome")
    ]


def test_each_arm_is_imitated_by_its_own_way_of_training() -> None:
    expected = [
        (asked("local"), Central),
        (asked("pooled"), Central),
        (asked("federated"), Rounds),
        (asked("pooled", dp=DpSpec(1.0, noise="central"), epochs=None, learning_rate=None), Noisy),
        (asked("encrypted_statistics"), Newton),
    ]
    for run_spec, kind in expected:
        outcome, _, metered = run(replace(run_spec, attacks="none"))
        people = outside.people_of(metered, run_spec)
        recipe = model_view(run_spec, outcome, people).recipe
        assert isinstance(recipe.how, kind)
        assert recipe.by_site == (run_spec.arm == "local")


@pytest.mark.parametrize("arm", ["local", "pooled", "federated", "encrypted_statistics", "encrypted_records"])
def test_a_shadow_of_exactly_the_members_is_nearly_the_model(arm: str) -> None:
    run_spec = asked(arm)
    with grid(hospitals(run_spec if arm.startswith("encrypted") else None)) as inner:
        metered = MeteredGrid(inner)
        outcome = coordinate(metered, run_spec)
        people = outside.people_of(metered, run_spec)
        view = model_view(run_spec, outcome, people, outside._group(metered, run_spec, "validation"))
    pool, targets = pool_of(view, people), choose(people, SMALL)
    members = targets.trained[targets.of_row][:, None]
    shadow, _ = shadow_logits(view.recipe, pool, members, SMALL)
    released = view.logits(pool.x, pool.site, pool.names)
    assert np.corrcoef(shadow[0], released)[0, 1] > 0.99


def test_noise_of_shadows_is_the_noise_of_the_sum() -> None:
    # three hospitals each add full noise to their sums: SD sigma C sqrt(3) on the sum of all
    run_spec = asked("federated", dp=DpSpec(1.0), strategy="fedsgd", rounds=10)
    outcome, _, metered = run(replace(run_spec, attacks="none"))
    people = outside.people_of(metered, run_spec)
    how = recipe_of(run_spec, model_view(run_spec, outcome, people).contract, outcome, people).how
    assert isinstance(how, Noisy)
    sigma = outcome.privacy.guarantee.noise_multiplier  # type: ignore[union-attr]
    assert how.sd == pytest.approx(sigma * how.clip * np.sqrt(3))
    assert how.steps == 10
