"""LiRA, RMIA and their stack: what each computes, and that nothing is learnt where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.attacks.models.ranked import weighted_auc
from pettoolkit.attacks.models.scores import Known, Margins, Stacked, features, lira, log_ratio, rmia

SHADOWS, TARGETS = 40, 300


def world(shift: float, seed: int = 0) -> Margins:
    """Margins that are ``shift`` higher with the target inside."""
    rng = np.random.default_rng(seed)
    inside = rng.random((SHADOWS, TARGETS)) < 0.5
    return Margins(rng.normal(0, 3, TARGETS) + shift * inside + rng.normal(0, 1, inside.shape), inside)


def auc(score: np.ndarray, inside: np.ndarray) -> float:
    return float(weighted_auc(score, inside, np.ones((len(score), 1)))[0])


def test_lira_is_the_ratio_of_two_normals() -> None:
    from scipy.stats import norm

    known = Known(*(np.array([v]) for v in (1.0, 0.2, 0.8, 1.1, 0.5)), np.array([True]))
    expected = norm.logpdf(0.9, 1.0, 0.8) - norm.logpdf(0.9, 0.2, 1.1)
    assert lira(np.array([0.9]), known)[0] == pytest.approx(expected)


def test_the_attacked_shadow_is_left_out_of_what_is_known() -> None:
    margins = world(0.0)
    changed = margins.margin.copy()
    changed[3] += 100
    for before, after in zip(
        vars(margins.known(3)).values(), vars(Margins(changed, margins.inside).known(3)).values(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_attacks_find_what_is_there_and_nothing_else() -> None:
    found = {}
    for shift in (0.0, 1.5):
        margins = world(shift)
        fresh = world(shift, seed=0).margin[:, :]
        known = margins.known(0)
        found[shift] = {
            "lira": auc(lira(fresh[0], known), margins.inside[0]),
            "rmia": auc(rmia(fresh[0], known, log_ratio(np.zeros(1), np.full(1, 0.5))), margins.inside[0]),
        }
    assert min(found[1.5].values()) > 0.75
    assert max(abs(v - 0.5) for v in found[0.0].values()) < 4 * 0.034  # standard error of an AUC of 150 and 150


def test_rmia_counts_the_patients_over_whom_one_wins() -> None:
    known = Known(*(np.full(2, v) for v in (0.0, 0.0, 1.0, 1.0, 0.5)), np.array([True, True]))
    margin = np.array([2.0, -2.0])
    population = log_ratio(np.array([-3.0, -1.0, 0.0, 1.0]), np.full(4, 0.5))
    assert rmia(margin, known, population).round(3).tolist() == [1.0, 0.25]


def test_the_stack_learns_which_attack_to_trust() -> None:
    rng = np.random.default_rng(3)
    inside = rng.random(4000) < 0.5
    rows = np.column_stack([rng.normal(0, 1, 4000), inside + rng.normal(0, 1, 4000)])
    stack = Stacked.fit(rows[:2000], inside[:2000])
    assert auc(stack.score(rows[2000:]), inside[2000:]) > 0.72
    assert abs(stack.weights[1]) < 0.1 < stack.weights[2]


def test_a_target_in_all_shadows_says_nothing() -> None:
    margins = world(1.0)
    inside = margins.inside.copy()
    inside[:, 0] = True
    known = Margins(margins.margin, inside).known()
    assert not known.enough[0]
    assert lira(margins.margin[0], known)[0] == 0.0
    assert (features(margins.margin[0], known)[0] == 0).all()
