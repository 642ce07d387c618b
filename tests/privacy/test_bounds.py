from __future__ import annotations

import itertools

import numpy as np
import pytest

from pettoolkit.errors import BadInput
from pettoolkit.privacy.accounting import compose, mechanism_for, profile
from pettoolkit.privacy.bounds import (
    attack_bound,
    epsilon_if_coordinator_and_site_collude,
    epsilon_if_sites_collude,
    gaussian_bound,
    generic_bound,
)
from pettoolkit.privacy.events import Mechanism, gaussian, zcdp

DELTA = 1e-5


@pytest.mark.parametrize(
    ("epsilon", "auc", "tpr"), [(0.5, 0.540, 0.014), (1, 0.575, 0.020), (3, 0.694, 0.054), (10, 0.921, 0.372)]
)
def test_the_gaussian_attacker(epsilon: float, auc: float, tpr: float) -> None:
    bound = attack_bound([mechanism_for(epsilon, DELTA, steps=30)], DELTA)
    assert (round(bound.auc, 3), round(bound.tpr_at_1pct_fpr, 3)) == (auc, tpr)


def test_the_gaussian_attacker_is_the_best_test_of_two_normals() -> None:
    draw = np.random.default_rng(0)
    mu, out, member = 1.5, draw.normal(size=400_000), draw.normal(1.5, size=400_000)
    bound = gaussian_bound(mu)
    assert np.mean(member > np.quantile(out, 0.99)) == pytest.approx(bound.tpr_at_1pct_fpr, abs=0.01)
    assert np.mean(member > out) == pytest.approx(bound.auc, abs=0.005)


@pytest.mark.parametrize(("epsilon", "tpr"), [(1, 0.027), (3, 0.201)])
def test_the_attacker_on_any_mechanism(epsilon: float, tpr: float) -> None:
    assert round(generic_bound(epsilon, DELTA).tpr_at_1pct_fpr, 3) == tpr


def test_the_generic_area_is_that_under_its_two_lines() -> None:
    for epsilon, delta in itertools.product((0.1, 1.0, 5.0), (1e-5, 0.05)):
        fpr = np.linspace(0, 1, 200_001)
        tpr = np.minimum(1, np.minimum(np.exp(epsilon) * fpr + delta, 1 - np.exp(-epsilon) * (1 - delta - fpr)))
        area = float(np.mean((tpr[1:] + tpr[:-1]) / 2))
        assert generic_bound(epsilon, delta).auc == pytest.approx(area, abs=1e-5)


@pytest.mark.parametrize("sampled", [gaussian(2.0, 100, q=0.05), gaussian(0.6, 50, q=0.04), gaussian(8.0, 200, q=0.3)])
def test_sampled_batches_get_the_bound_of_their_own_mechanism(sampled: Mechanism) -> None:
    bound, generic = attack_bound([sampled], DELTA), generic_bound(compose([sampled], DELTA), DELTA)
    assert 0.01 < bound.tpr_at_1pct_fpr < 0.9 * generic.tpr_at_1pct_fpr
    assert 0.5 < bound.auc < generic.auc


def test_batches_do_not_help_the_attacker() -> None:
    """At the same epsilon sampled steps were once given a weaker bound than the full batch."""
    for epsilon in (1.0, 3.0):
        full, sampled = (attack_bound([mechanism_for(epsilon, DELTA, 50, q)], DELTA) for q in (1.0, 0.04))
        assert sampled.tpr_at_1pct_fpr < full.tpr_at_1pct_fpr
        assert sampled.auc < full.auc


def test_nearly_all_patients_in_every_sample_is_the_full_batch() -> None:
    full, nearly = (attack_bound([gaussian(8.0, 50, q=q)], DELTA) for q in (1.0, 1 - 1e-6))
    assert nearly.tpr_at_1pct_fpr == pytest.approx(full.tpr_at_1pct_fpr, rel=0.01)
    assert nearly.auc == pytest.approx(full.auc, abs=1e-3)


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "slack"), [(0.7, 0.1, 20, 0.02), (0.5, 0.3, 1, 0.06), (2.0, 0.2, 100, 0.02)]
)
def test_the_best_attack_on_samples_comes_close_to_the_bound_and_stays_below(
    sigma: float, q: float, steps: int, slack: float
) -> None:
    """The likelihood ratio of sampled noisy sums, with and without the patient; 2 x 40,000 runs, SE about .0025.

    One step alone is easier to tell from above than from below: the bound, which is for both, is above its AUC.
    """
    draw = np.random.default_rng(1)
    n = 40_000
    score = np.zeros((2, n))
    for _ in range(steps):
        for member in (0, 1):
            there = draw.random(n) < q * member
            x = draw.normal(there.astype(float), sigma)
            score[member] += np.log1p(q * np.expm1((2 * x - 1) / (2 * sigma**2)))
    bound = attack_bound([gaussian(sigma, steps, q=q)], DELTA)
    tpr = float(np.mean(score[1] > np.quantile(score[0], 0.99)))
    # the bound is for adding and removing alike: attacks that look for absence count, as the mirrored curve
    absent = float(np.mean(score[0] < np.quantile(score[1], 0.01)))
    ranks = np.argsort(np.argsort(np.concatenate(score)))
    auc = (ranks[n:].mean() - (n - 1) / 2) / n
    assert max(tpr, absent) < bound.tpr_at_1pct_fpr + 0.01
    assert max(tpr, absent) > 0.9 * bound.tpr_at_1pct_fpr
    assert auc - 0.005 < bound.auc < auc + slack


def test_what_is_known_by_its_zcdp_alone_gets_the_generic_bound() -> None:
    mixed = [gaussian(2.0, 100, q=0.05), zcdp(0.01)]
    assert attack_bound(mixed, DELTA) == generic_bound(compose(mixed, DELTA), DELTA)
    with pytest.raises(BadInput, match="no privacy profile"):
        profile(mixed, [0.0])


def test_without_noise_the_attacker_is_not_bounded() -> None:
    bound = attack_bound([gaussian(0.0)], DELTA)
    assert (round(bound.auc, 6), round(bound.tpr_at_1pct_fpr, 6)) == (1, 1)


def test_hospitals_that_collude_subtract_their_own_noise() -> None:
    shared = mechanism_for(1.0, DELTA, steps=30, honest_sites=5)
    got = epsilon_if_sites_collude([shared], DELTA, sites=5)
    assert got == pytest.approx({"1": 1.13, "2": 1.33, "3": 1.66, "4": 2.44}, abs=0.01)


def test_as_many_dishonest_hospitals_as_assumed_change_nothing() -> None:
    shared = mechanism_for(1.0, DELTA, steps=30, honest_sites=3)
    got = epsilon_if_sites_collude([shared], DELTA, sites=5)
    assert got["1"] == got["2"] == pytest.approx(1.0)
    assert got["3"] > 1.1


@pytest.mark.parametrize(
    ("epsilon", "honest", "exposed"),
    [(1, 3, 1.83), (1, 5, 2.44), (1, 6, 2.71), (3, 3, 5.66), (3, 5, 7.67), (3, 6, 8.56)],
)
def test_coordinator_and_one_key_holder_read_single_updates(epsilon: float, honest: int, exposed: float) -> None:
    shared = mechanism_for(epsilon, DELTA, steps=30, honest_sites=honest)
    assert round(epsilon_if_coordinator_and_site_collude([shared], DELTA), 2) == exposed


def test_collusion_changes_nothing_where_each_place_adds_all_the_noise() -> None:
    local = mechanism_for(1.0, DELTA, steps=30)
    assert epsilon_if_coordinator_and_site_collude([local], DELTA) == pytest.approx(1.0)
