from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.errors import BadInput
from pettoolkit.privacy import accounting as module
from pettoolkit.privacy.accounting import (
    POINTS,
    REPLACE_ONE,
    _pld,
    accountant_of,
    calibrate,
    compose,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    mechanism_for,
    profile,
    prv_epsilon,
    zcdp_epsilon,
    zcdp_rho,
)
from pettoolkit.privacy.events import gaussian, zcdp

DELTA = 1e-5


@pytest.mark.parametrize(
    ("q", "sigma", "steps"),
    [
        *itertools.product((0.004, 0.04), (0.9, 1.5), (1000,)),
        (0.2, 2.0, 100),
        (0.2, 5.0, 1000),
        (1.0, 20.0, 30),
        (1.0, 3.0, 30),
        (1.0, 2.0, 50),
        (0.04, 0.7, 2000),
    ],
)
def test_what_is_reported_agrees_with_opacus_prv(q: float, sigma: float, steps: int) -> None:
    ours = compose([gaussian(sigma, steps, q=q)], DELTA)
    theirs = prv_epsilon(sigma, q, steps, DELTA)
    if theirs <= 20:
        assert ours == pytest.approx(theirs, abs=0.02)
    else:
        assert ours == pytest.approx(theirs, rel=0.002)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 30), st.floats(1e-9, 0.1), st.integers(1, 500))
def test_full_batch_noise_spends_the_budget_and_no_more(epsilon: float, delta: float, steps: int) -> None:
    spent = compose([gaussian(calibrate(epsilon, delta, steps), steps)], delta)
    assert epsilon * 0.99 <= spent <= epsilon * (1 + 1e-12)


@pytest.mark.parametrize(("epsilon", "steps", "q"), [(0.5, 100, 0.04), (1, 500, 0.04), (3, 50, 0.3), (10, 300, 0.02)])
def test_sampled_noise_spends_the_budget_and_no_more(epsilon: float, steps: int, q: float) -> None:
    spent = compose([mechanism_for(epsilon, DELTA, steps, q)], DELTA)
    assert epsilon * 0.99 <= spent <= epsilon


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 8), st.floats(1e-9, 1e-2))
def test_gaussian_epsilon_and_delta_are_inverse(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    if epsilon > 0:
        assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-6)
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-5)


def test_gaussian_delta_is_the_integral_it_stands_for() -> None:
    from scipy import integrate, stats

    mu, epsilon = 1.3, 0.9

    def excess(t: float) -> float:
        return max(0.0, float(stats.norm.pdf(t, mu) - math.exp(epsilon) * stats.norm.pdf(t)))

    assert gaussian_delta(mu, epsilon) == pytest.approx(integrate.quad(excess, -10, 15, limit=500)[0], rel=1e-6)


def test_gaussian_epsilon_agrees_with_dp_accounting() -> None:
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    for mu in (0.1, 0.5, 1.0, 4.0, 9.0):
        assert gaussian_epsilon(mu, DELTA) == pytest.approx(get_epsilon_gaussian(1 / mu, DELTA), abs=1e-6)


def test_ten_rounds_are_not_accounted_as_one() -> None:
    one = compose([gaussian(5.0)], DELTA)
    ten = compose([gaussian(5.0)] * 10, DELTA)
    assert ten == pytest.approx(compose([gaussian(5.0 / math.sqrt(10))], DELTA), rel=1e-9)
    assert ten > 3 * one


def test_rounds_composed_one_by_one_equal_all_at_once() -> None:
    assert compose([gaussian(1.0, q=0.1)] * 20, DELTA) == compose([gaussian(1.0, 20, q=0.1)], DELTA)


def test_replacing_a_patient_costs_twice_the_sensitivity() -> None:
    full = gaussian(20.0, 30)
    assert compose([full], DELTA, REPLACE_ONE) == pytest.approx(compose([gaussian(10.0, 30)], DELTA), rel=1e-9)
    assert 1.2 < compose([full], DELTA, REPLACE_ONE) / compose([full], DELTA) < 2.3
    sampled = gaussian(1.0, 300, q=0.04)
    assert 1.2 < compose([sampled], DELTA, REPLACE_ONE) / compose([sampled], DELTA) < 2.3


@pytest.mark.parametrize("adjacency", ["add_remove", REPLACE_ONE])
def test_a_full_batch_beside_a_negligible_sampled_one_costs_what_it_costs_alone(adjacency: str) -> None:
    full, next_to_nothing = gaussian(4.0, 10), gaussian(500.0, 1, q=0.01)
    together = compose([full, next_to_nothing], DELTA, adjacency)
    assert together == pytest.approx(compose([full], DELTA, adjacency), abs=0.01)


def test_mixed_events_cost_more_than_each_and_less_than_their_sum() -> None:
    parts = [gaussian(8.0, 30), gaussian(1.0, 200, q=0.04), zcdp(0.01)]
    for some in ([0, 1], [0, 2], [1, 2], [0, 1, 2]):
        alone = [compose([parts[i]], DELTA) for i in some]
        together = compose([parts[i] for i in some], DELTA)
        assert max(alone) < together < sum(alone) + 0.2  # dividing delta costs a little


def test_zcdp_conversion_is_tight_but_never_below_the_gaussian_it_contains() -> None:
    for mu in (0.05, 0.3, 1.0, 3.0):
        exact, converted = gaussian_epsilon(mu, DELTA), zcdp_epsilon(mu**2 / 2, DELTA)
        assert exact < converted < mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / DELTA))
    # the standard conversion gives 5.3 here
    assert zcdp_epsilon(0.5, DELTA) == pytest.approx(4.73, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 20), st.floats(1e-9, 1e-2))
def test_zcdp_budget_is_spent_and_no_more(epsilon: float, delta: float) -> None:
    assert epsilon * 0.999 <= zcdp_epsilon(zcdp_rho(epsilon, delta), delta) <= epsilon


def test_the_zcdp_minimum_is_found() -> None:
    for rho, delta in itertools.product((1e-4, 0.02, 1.0, 30.0), (1e-3, 1e-8)):
        alphas = [1 + 10 ** (k / 500) for k in range(-1500, 2500)]
        grid = min(a * rho - math.log(a * delta) / (a - 1) + math.log(1 - 1 / a) for a in alphas)
        assert zcdp_epsilon(rho, delta) == pytest.approx(max(0.0, grid), abs=1e-4)


def test_a_release_without_noise_is_infinite() -> None:
    assert compose([gaussian(5.0), gaussian(0.0)], DELTA) == math.inf


def test_nothing_released_costs_nothing() -> None:
    assert compose([], DELTA) == 0.0


def test_the_accountant_is_named() -> None:
    assert accountant_of([gaussian(1.0)]) == "Gaussian, closed form"
    assert accountant_of([gaussian(1.0), gaussian(1.0, q=0.1)]) == "PLD"
    assert accountant_of([zcdp(0.1)]) == "zCDP, tight conversion"


@pytest.mark.parametrize(
    ("epsilon", "delta", "steps", "q"),
    [
        (0, DELTA, 1, 1),
        (-1, DELTA, 1, 1),
        (math.nan, DELTA, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 1, 1),
        (1, DELTA, 0, 1),
        (1, DELTA, 1, 2),
    ],
)
def test_impossible_budgets_are_refused(epsilon: float, delta: float, steps: int, q: float) -> None:
    with pytest.raises(BadInput, match="dp"):
        calibrate(epsilon, delta, steps, q)


def test_a_budget_that_no_memory_can_account_for_is_refused_for_samples_alone() -> None:
    with pytest.raises(BadInput, match="Poisson batches are accounted up to epsilon 100"):
        calibrate(1e7, 1e-5, 100, q=0.1)
    assert calibrate(1e7, 1e-5, 100) > 0


def test_the_privacy_profile_is_the_inverse_of_epsilon() -> None:
    for some in ([gaussian(20.0, 30)], [gaussian(1.0, 100, q=0.05)], [gaussian(1.0, 100, q=0.05), gaussian(20.0, 30)]):
        deltas = (1e-7, 1e-5, 1e-3)
        epsilons = sorted(compose(some, delta) for delta in deltas)
        assert profile(some, epsilons) == pytest.approx(sorted(deltas, reverse=True), rel=1e-3)


@pytest.mark.parametrize(("sigma", "q", "steps"), [(0.2, 0.00125, 50), (0.7, 0.04, 500), (20.0, 0.3, 50)])
def test_losses_are_cut_finely_enough(sigma: float, q: float, steps: int) -> None:
    """Ten times as fine, epsilon is the same."""
    usual, finer = (_pld(((sigma, q, steps),), 0.0, "add_remove", points) for points in (POINTS, 10 * POINTS))
    assert usual.get_epsilon(DELTA) == pytest.approx(finer.get_epsilon(DELTA), abs=1e-3, rel=1e-4)


def test_a_large_budget_for_small_batches_is_found_without_cutting_losses_ever_finer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Losses are the larger the less noise there is; a fixed part would make it minutes and gigabytes."""
    sizes = []
    monkeypatch.setattr(module, "_pld", lambda *a: sizes.append(a[-1]) or _pld(*a))
    calibrate(50.0, DELTA, 50, q=2 / 1600)
    assert len(sizes) < 40
    assert sum(sizes) < 10 * POINTS
