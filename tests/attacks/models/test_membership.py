"""Membership attacks succeed on a model that has learnt its patients by heart, and fail where they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pettoolkit.attacks.models.membership import IN_TURN, Membership, null_findings
from pettoolkit.attacks.models.ranked import AUC, TPR
from pettoolkit.attacks.models.recipe import Central, How, Noisy, Pool, Recipe
from pettoolkit.attacks.models.shadows import train_shadows
from pettoolkit.attacks.models.targets import choose
from pettoolkit.attacks.models.view import ModelView
from pettoolkit.attacks.protocol import Effort, Finding, Group, NotRun, People
from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.models.dense import DenseNet
from pettoolkit.models.training import to_arrays
from pettoolkit.privacy.accounting import mechanism_for
from pettoolkit.privacy.bounds import AttackBound, attack_bound
from pettoolkit.records import ModelSpec

WIDTH = 25
CONTRACT = Contract(
    name="wide",
    prevalence=0.4,
    columns=(
        *(Column(name=f"v{i}", low=-1, high=1, missing="never") for i in range(WIDTH)),
        Column(name="y", kind="binary", role="outcome"),
    ),
)
EFFORT = Effort(shadows=24)
OVERFIT = Central(150, 50, 0.02, fixed=True)
NET = DenseNet(WIDTH, (24,))


def group(first: int, n: int, *, site: str = "a") -> Group:
    rng = np.random.default_rng(first)
    x = rng.uniform(-1, 1, (n, WIDTH))
    y = rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))
    rows = pd.DataFrame(x, columns=[f"v{i}" for i in range(WIDTH)]).assign(y=y.astype(float))
    return Group(rows, np.arange(first, first + n, dtype=np.int64), np.array([site] * n))


PEOPLE = People(group(1000, 200), group(5000, 150), group(9000, 60))


def view(how: How, trained_on: Group, *, net: DenseNet = NET, epsilon: float | None = None) -> ModelView:
    """A model trained on a group, by the same code as the shadows."""
    from pettoolkit.cohort.features import encode, outcome

    x, y = (torch.from_numpy(f(trained_on.rows, CONTRACT)) for f in (encode, outcome))
    held = PEOPLE.attacker.rows
    pool = Pool(
        x,
        y,
        torch.zeros(len(x), dtype=torch.int64),
        torch.from_numpy(encode(held, CONTRACT)),
        torch.from_numpy(outcome(held, CONTRACT)),
        torch.zeros(len(held), dtype=torch.int64),
        ("a",),
    )
    recipe = Recipe(how, net, net.init(1, 0.4))
    ((_, params),) = train_shadows(recipe, pool, np.ones((len(x), 1), dtype=bool), seed=77)
    model = {name: value[0] for name, value in params.items()}
    bound = {} if epsilon is None else {"bound": attack_bound([mechanism_for(epsilon, 1e-5, 60, 1.0, 0.5)], 1e-5)}
    return ModelView(CONTRACT, model=ModelSpec("mlp", 24), weights={"*": to_arrays(model)}, recipe=recipe, **bound)  # type: ignore[arg-type]


def run(seen: ModelView, people: People = PEOPLE) -> dict[tuple[str, str], Finding]:
    found = Membership().run(seen, people, EFFORT)
    return {(f.figure.attack, f.figure.measure): f for f in found if f.figure.site == "*"}


@pytest.fixture(scope="module")
def overfit() -> dict[tuple[str, str], Finding]:
    torch.set_num_threads(1)
    return run(view(OVERFIT, PEOPLE.members))


def test_an_overfit_model_gives_its_patients_away(overfit: dict[tuple[str, str], Finding]) -> None:
    for attack in ("lira", "rmia", "stacked", IN_TURN):
        assert overfit[attack, AUC].figure.success > 0.75, attack
        assert overfit[attack, AUC].figure.interval.low > 0.3, attack
        assert overfit[attack, TPR].figure.success > 0.1, attack
    assert overfit["loss_threshold", AUC].figure.interval.low > 0  # the baseline as well, if the model is that bad


def test_the_stack_is_no_worse_than_its_parts(overfit: dict[tuple[str, str], Finding]) -> None:
    parts = [overfit[attack, AUC].figure.success for attack in ("lira", "rmia", "loss_threshold")]
    assert overfit["stacked", AUC].figure.success > max(parts) - 0.03


def test_the_worst_decile_is_worse_than_the_rest(overfit: dict[tuple[str, str], Finding]) -> None:
    details = overfit["stacked", AUC].figure.details
    assert details["worst_decile"] > overfit["stacked", AUC].figure.success
    assert details["worst_decile_low"] < details["worst_decile"] <= details["worst_decile_high"]


def test_where_nobody_can_be_exposed_nobody_is(overfit: dict[tuple[str, str], Finding]) -> None:
    null = null_findings(list(overfit.values()))
    assert len(null) == len(overfit)
    for found in null:
        interval = found.evidence.interval(0.999)  # ten figures: one false alarm in 100 seeds
        assert interval.low <= 0 <= interval.high, found.figure.attack


def test_a_model_of_fresh_patients_shows_nothing_of_the_members() -> None:
    # trained on others: "members" and control are alike to it. Eight figures; false alarm of one: 1 in 1,000
    for key, found in run(view(OVERFIT, group(7000, 200))).items():
        if key[0] != IN_TURN:  # that attacks the shadows, which did learn them
            interval = found.evidence.interval(0.999)
            assert interval.low <= 0 <= interval.high, key


def test_epsilon_one_tenth_hides_everybody_and_raises_no_alarm() -> None:
    mechanism = mechanism_for(0.1, 1e-5, 60, 1.0, 0.5)
    how = Noisy(60, 0.5, 1.0, 0.0, 0.5, sd=mechanism.sigma * 0.5)
    for key, found in run(view(how, PEOPLE.members, epsilon=0.1)).items():
        assert found.evidence.interval(0.999).low <= 0, key
        assert isinstance(found.figure.bound, float)
        assert "alarm" not in found.figure.details


def test_a_guarantee_that_is_not_kept_raises_the_alarm() -> None:
    # claimed epsilon .1, trained without noise
    found = run(replace(view(OVERFIT, PEOPLE.members), bound=attack_bound([mechanism_for(0.1, 1e-5, 1)], 1e-5)))
    assert found["lira", AUC].figure.details["alarm"] == 1.0
    assert "ALARM" in found["stacked", AUC].figure.note


def test_one_of_many_figures_a_little_above_the_bound_by_chance_is_no_alarm() -> None:
    # at epsilon .1 and with five hospitals, one cell in twelve had an alarm by chance when each interval counted alone
    seen = view(OVERFIT, group(7000, 200))
    lowest = run(seen)["lira", AUC].evidence.success_low()  # type: ignore[attr-defined]
    for below, alarms in ((0.001, False), (0.3, True)):
        bound = AttackBound(lowest - below, 1.0, "made up")
        assert ("alarm" in run(replace(seen, bound=bound))["lira", AUC].figure.details) is alarms


def test_shuffled_membership_is_chance(overfit: dict[tuple[str, str], Finding]) -> None:
    evidence = overfit["stacked", AUC].evidence
    shuffled = replace(evidence, inside=np.random.default_rng(1).permutation(evidence.inside[0])[None])  # type: ignore[type-var, attr-defined]
    interval = shuffled.interval(0.999)
    assert interval.low <= 0 <= interval.high


def test_each_hospital_has_a_figure_and_a_small_one_has_none() -> None:
    def mixed(first: int, big: int, small: int) -> Group:
        a, b = group(first, big), group(first + 500, small, site="small")
        return Group(
            pd.concat([a.rows, b.rows], ignore_index=True),
            np.concatenate([a.patient, b.patient]),
            np.concatenate([a.site, b.site]),
        )

    people = People(mixed(1000, 180, 20), mixed(5000, 140, 10), PEOPLE.attacker)
    found = Membership().run(view(OVERFIT, people.members), people, EFFORT)
    assert {f.figure.site for f in found} == {"*", "a"}
    assert {f.figure.patients for f in found if f.figure.site == "a"} == {180}


def test_too_few_patients_are_no_figure() -> None:
    people = replace(PEOPLE, control=PEOPLE.control.take(np.arange(10)))
    with pytest.raises(NotRun, match="fewer than 20"):
        run(view(OVERFIT, PEOPLE.members), people)


def test_shadows_have_as_many_patients_as_the_model() -> None:
    many = People(group(1000, 3000), group(5000, 300), group(9000, 60))
    targets = choose(many, Effort(targets=800))
    included = targets.inclusion(200, 0)
    assert included.sum(0).mean() == pytest.approx(3000, rel=0.01)
    share = included[targets.patients].mean(1)
    assert share.mean() == pytest.approx(500 / 800, abs=0.01)
    assert choose(many, Effort(targets=100)).inclusion(200, 0)[choose(many, Effort(targets=100)).patients].mean() < 0.53
    assert (targets.member.sum(), (~targets.member).sum()) == (500, 300)


def test_rows_of_one_patient_are_in_a_shadow_together_and_attacked_once() -> None:
    double = replace(PEOPLE.members, patient=np.repeat(PEOPLE.members.patient[::2], 2))
    people = replace(PEOPLE, members=double)
    targets = choose(people, EFFORT)
    assert targets.member.sum() == 100
    rows = targets.inclusion(10, 0)[targets.of_row]
    assert (rows[:200:2] == rows[1:200:2]).all()
    found = run(view(OVERFIT, PEOPLE.members), people)
    assert found["lira", AUC].figure.patients == 100
