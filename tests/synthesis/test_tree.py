import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.synthesis.tree import fit_margins, grow, independent, spanning_tree


def slow_information(a, b):
    total = 0.0
    for i, j in itertools.product(np.unique(a), np.unique(b)):
        both = np.mean((a == i) & (b == j))
        if both:
            total += both * np.log(both / (np.mean(a == i) * np.mean(b == j)))
    return total


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(0, 10_000))
def test_prim_finds_the_heaviest_of_all_trees(d, seed):
    weights = np.random.default_rng(seed).random((d, d))
    weights = weights + weights.T
    edges = list(itertools.combinations(range(d), 2))

    def connected(tree):
        seen = {0}
        for _ in range(d):
            seen |= {v for e in tree for v in e if seen & set(e)}
        return len(seen) == d

    best = max(sum(weights[e] for e in t) for t in itertools.combinations(edges, d - 1) if connected(t))

    found = spanning_tree(weights)

    assert sum(weights[n, p] for n, p in found if p is not None) == pytest.approx(best)
    assert all(p in [n for n, _ in found[:i]] for i, (_, p) in enumerate(found) if p is not None)


def test_information_equals_the_slow_formula():
    from pettoolkit.synthesis.tree import _information, _pair_counts

    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 200)
    codes = np.column_stack([a, (a + (rng.random(200) < 0.3)) % 3, rng.integers(0, 2, 200)])
    starts = np.array([0, 3, 6, 8])

    got = _information(_pair_counts(codes, starts), starts)

    for i, j in itertools.combinations(range(3), 2):
        assert got[i, j] == pytest.approx(200 * slow_information(codes[:, i], codes[:, j]))


def copied_pair(n=4000):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 4, n)
    return np.column_stack([a, rng.integers(0, 3, n), a]), (rng.random(n) < 0.3).astype(int)


def test_a_copied_column_is_drawn_with_its_original():
    codes, label = copied_pair()
    drawn = grow(codes, label, [4, 3, 4], smoothing=0.0)[1].sample(500, np.random.default_rng(0))
    assert (drawn[:, 0] == drawn[:, 2]).all()


def test_more_smoothing_loosens_the_pair():
    codes, label = copied_pair()
    agree = [
        (lambda d: np.mean(d[:, 0] == d[:, 2]))(
            grow(codes, label, [4, 3, 4], s)[0].sample(4000, np.random.default_rng(0))
        )
        for s in (0.0, 100.0, 1e4, np.inf)
    ]
    assert agree == sorted(agree, reverse=True)
    assert agree[-1] == pytest.approx(0.25, abs=0.03)


def test_a_rare_class_keeps_its_marginals_and_the_dependence_of_all_patients():
    codes, label = copied_pair()
    rare = np.flatnonzero(label == 1)[:12]
    keep = np.r_[np.flatnonzero(label == 0), rare]
    drawn = grow(codes[keep], label[keep], [4, 3, 4], 100.0)[1].sample(4000, np.random.default_rng(0))

    assert np.mean(drawn[:, 0] == drawn[:, 2]) > 0.95
    shares = np.bincount(codes[rare, 2], minlength=4) / len(rare)
    assert np.bincount(drawn[:, 2], minlength=4) / 4000 == pytest.approx(shares, abs=0.04)


@settings(max_examples=20)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 10_000))
def test_fitted_margins_are_those_asked_for_and_odds_ratios_stay(r, c, seed):
    rng = np.random.default_rng(seed)
    table, rows, columns = rng.uniform(0.2, 5, (r, c)), rng.dirichlet(np.ones(r) * 5), rng.dirichlet(np.ones(c) * 5)

    fitted = fit_margins(table, rows, columns)

    assert fitted.sum(axis=0) == pytest.approx(columns, abs=1e-3)
    assert fitted.sum(axis=1) == pytest.approx(rows, abs=2e-2)

    def odds(t):
        return t[0, 0] * t[1, 1] / (t[0, 1] * t[1, 0])

    assert odds(fitted) == pytest.approx(odds(table), rel=1e-6)


def test_independent_columns_follow_their_marginals():
    drawn = independent([np.array([1, 0, 3]), np.array([2, 2])]).sample(20_000, np.random.default_rng(0))
    assert np.bincount(drawn[:, 0], minlength=3) / 20_000 == pytest.approx([0.25, 0, 0.75], abs=0.015)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(0, abs=0.03)
