from __future__ import annotations

import itertools
import math

import pytest

from pettoolkit.errors import Refused
from pettoolkit.privacy.accounting import calibrate, compose
from pettoolkit.privacy.settings import LOGISTIC, MLP, effective_epsilon, louder_by, plan_for, settings_for
from pettoolkit.records import DpSpec, ModelSpec

LR, NET = ModelSpec("logistic"), ModelSpec("mlp", 32)


def test_effective_epsilon_counts_who_adds_noise() -> None:
    assert effective_epsilon(3.0, "shared", sites=9) == 3.0
    assert effective_epsilon(3.0, "central", sites=9) == 3.0
    assert effective_epsilon(3.0, "local", sites=9) == 1.0
    assert effective_epsilon(3.0, "alone", sites=9) == pytest.approx(1 / 3)
    assert effective_epsilon(3.0, "shared", sites=9, patients=8_500) == 1.5


@pytest.mark.parametrize("table", [LOGISTIC, MLP])
def test_the_tables_cover_everything_once_in_order(table) -> None:
    limits = [below for below, _ in table]
    assert limits == sorted(set(limits))
    assert limits[-1] == math.inf


@pytest.mark.parametrize(
    ("epsilon", "noise", "model"), itertools.product((0.5, 1.0, 3.0, 10.0), ("local", "shared"), (LR, NET))
)
def test_a_plan_spends_exactly_the_budget(epsilon: float, noise: str, model: ModelSpec) -> None:
    plan = plan_for(DpSpec(epsilon, noise=noise, honest_sites=5 if noise == "shared" else None), model, sites=6)
    assert compose([plan.mechanism], 1e-5) == pytest.approx(epsilon, rel=1e-9)
    assert (plan.mechanism.steps, plan.mechanism.sensitivity) == (plan.training.steps, plan.training.clip)
    assert plan.mechanism.honest_sites == (5 if noise == "shared" else 1)


def test_more_budget_never_shortens_or_clips_harder() -> None:
    for model in (LR, NET):
        chosen = [settings_for(0.01 * 1.3**k, "shared", model, 5) for k in range(40)]
        for less, more in itertools.pairwise(chosen):
            assert less.clip <= more.clip
            assert less.steps <= more.steps
            assert less.learning_rate <= more.learning_rate


def test_batches_are_accounted_as_samples() -> None:
    plan = plan_for(DpSpec(1.0, batch=64), LR, sites=5, site_patients=1600)
    assert plan.mechanism.sampling == "poisson"
    assert plan.mechanism.q == 0.04
    assert compose([plan.mechanism], 1e-5) <= 1.0


def test_an_arm_may_know_better_where_noise_is_added() -> None:
    assert plan_for(DpSpec(1.0), LR, sites=6, noise="central").mode == "central"


@pytest.mark.parametrize("site_patients", [None, 50])
def test_batches_larger_than_the_hospital_are_refused(site_patients: int | None) -> None:
    with pytest.raises(Refused, match=r"dp\.batch: 64"):
        plan_for(DpSpec(1.0, batch=64), LR, sites=5, site_patients=site_patients)


def test_an_unknown_noise_mode_is_refused() -> None:
    with pytest.raises(Refused, match=r"dp\.noise"):
        settings_for(1.0, "none", LR, 5)


def test_batches_are_read_at_a_smaller_effective_epsilon() -> None:
    """Clipping and rates for louder noise: those of a full batch whose noise on the mean gradient is as loud."""
    q = 64 / 8800
    louder = louder_by(q, 3.0, 1e-5, 100)
    sampled = settings_for(3.0, "central", LR, 5, 8800, q=q)
    assert sampled == settings_for(3.0 / louder, "central", LR, 5, 8800)
    assert sampled != settings_for(3.0, "central", LR, 5, 8800)


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize("q", [0.007, 0.15])
def test_how_much_louder_batches_are_is_right_to_a_third(epsilon: float, q: float) -> None:
    exact = calibrate(epsilon, 1e-5, 100, q) / (q * calibrate(epsilon, 1e-5, 100))
    assert exact / 1.5 < louder_by(q, epsilon, 1e-5, 100) < exact * 1.1


def test_batches_of_nearly_everybody_change_nothing() -> None:
    assert settings_for(3.0, "central", LR, 5, 8800, q=0.999) == settings_for(3.0, "central", LR, 5, 8800)
