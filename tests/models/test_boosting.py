"""Gradient boosting: our forest scores as scikit-learn does, and nothing but a forest is taken for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.models.boosting import Boosting, Forest, fit_forest
from pettoolkit.models.predictor import FIXED_TREES, TrainingSettings, predictor
from pettoolkit.models.training import Rows
from pettoolkit.records import ModelSpec, Weights

FEW = Boosting(trees=12)
GB = ModelSpec("gradient_boosting")


def patients(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Encoded as ours are: within [-1, 1], many zeros where a value is missing, an indicator."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.normal(0, 0.5, (n, 4)), -1, 1).astype(np.float32)
    x[:, 3] = rng.random(n) < 0.4
    x[x[:, 3] == 1, 2] = 0.0
    y = (rng.random(n) < 1 / (1 + np.exp(-4 * x[:, 0] * (x[:, 1] > 0) - x[:, 3]))).astype(np.float32)
    return x, y


def scikit_learns(x: np.ndarray, y: np.ndarray, boosting: Boosting):  # type: ignore[no-untyped-def]
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=boosting.trees,
        learning_rate=boosting.learning_rate,
        max_leaf_nodes=boosting.leaves,
        min_samples_leaf=boosting.patients_per_leaf,
        l2_regularization=boosting.ridge,
        early_stopping=False,
    ).fit(x, y)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(61, 500), st.integers(2, 20), st.integers(1, 40))
def test_scores_are_scikit_learns_on_seen_and_new_patients(seed: int, n: int, leaves: int, at_least: int) -> None:
    boosting = replace(FEW, leaves=leaves, patients_per_leaf=at_least)
    x, y = patients(n, seed)
    y[:2] = (0, 1)
    new = np.random.default_rng(seed).uniform(-3, 3, (200, 4)).astype(np.float32)

    forest, theirs = fit_forest(x, y, boosting), scikit_learns(x, y, boosting)

    for rows in (x, new):
        np.testing.assert_allclose(forest.scores(rows), theirs.predict_proba(rows)[:, 1], atol=1e-6)


def test_staged_losses_are_those_of_scikit_learns_stages() -> None:
    x, y = patients()
    forest = fit_forest(x, y, FEW)
    stages = [p[:, 1] for p in scikit_learns(x, y, FEW).staged_predict_proba(x)]
    slow = [-float((y * np.log(p) + (1 - y) * np.log(1 - p)).sum()) for p in stages]

    np.testing.assert_allclose(forest.staged_losses(x, y)[1:], slow, rtol=1e-6)
    np.testing.assert_allclose(forest.first(6).scores(x), stages[4], atol=1e-6)


def test_more_rows_than_a_chunk_are_scored_as_one_by_one() -> None:
    x, y = patients()
    forest = fit_forest(x, y, FEW)
    many = np.tile(x, (11, 1))
    np.testing.assert_array_equal(forest.scores(many), np.tile(forest.scores(x), 11))
    assert forest.staged_losses(many, np.tile(y, 11))[-1] == pytest.approx(11 * forest.staged_losses(x, y)[-1])


def test_a_forest_survives_messages_and_artifacts_and_holds_no_object() -> None:
    x, y = patients()
    forest = fit_forest(x, y, FEW)
    again = Forest.of(Weights.of(forest.arrays()).unpack(), 4)

    np.testing.assert_array_equal(again.scores(x), forest.scores(x))
    assert {a.dtype.kind for a in forest.arrays().values()} <= {"i", "f"}


@pytest.mark.parametrize(("y", "start"), [(np.zeros(50), 0.05), (np.ones(50), 0.05), (np.ones(1), 0.05)])
def test_one_class_or_one_patient_is_the_public_prevalence(y: np.ndarray, start: float) -> None:
    x = patients(len(y))[0]
    forest = fit_forest(x, y.astype(np.float32), FEW, prevalence=start)
    assert forest.trees == 1
    np.testing.assert_allclose(forest.scores(x), start)


def test_no_patient_and_a_constant_column_are_no_problem() -> None:
    x, y = patients()
    x[:, 0] = 0.25
    assert np.isfinite(fit_forest(x, y, FEW).scores(x)).all()
    assert len(fit_forest(x[:0], y[:0], FEW).scores(x[:0])) == 0


BAD = {
    "a child before its parent": ("left", 1, 0),
    "a child of another tree": ("right", 1, 10_000),
    "a feature that is not there": ("feature", 1, 4),
    "a threshold that is no number": ("threshold", 1, np.nan),
    "an infinite leaf": ("value", 2, np.inf),
    "a tree that starts nowhere": ("root", 1, -5),
}


@pytest.mark.parametrize("what", BAD)
def test_arrays_that_are_no_forest_are_refused(what: str) -> None:
    name, position, value = BAD[what]
    x, y = patients()
    arrays = fit_forest(x, y, FEW).arrays()
    arrays[name] = arrays[name].copy()
    arrays[name][position] = value
    with pytest.raises(ValueError, match=f"array {name}"):
        Forest.of(arrays, 4)


def test_missing_arrays_and_wrong_lengths_are_refused() -> None:
    x, y = patients()
    arrays = fit_forest(x, y, FEW).arrays()
    with pytest.raises(ValueError, match="must be root, feature"):
        Forest.of({k: v for k, v in arrays.items() if k != "value"}, 4)
    with pytest.raises(ValueError, match="array left"):
        Forest.of(arrays | {"left": arrays["left"][:-1]}, 4)
    with pytest.raises(ValueError, match="array value"):
        Forest.of(arrays | {"value": arrays["value"].astype(np.float32)}, 4)


@pytest.mark.parametrize("spec", [ModelSpec("logistic"), ModelSpec("mlp", 5), GB])
def test_every_predictor_picks_a_candidate_whose_loss_is_the_one_that_it_said(spec: ModelSpec) -> None:
    x, y = patients()
    rows = Rows(torch.from_numpy(x), torch.from_numpy(y))
    model = predictor(spec, 4)

    made = model.fit(rows, TrainingSettings(epochs=6, batch_size=64, prevalence=0.2), 0)
    losses = model.losses(made, rows)
    kept = model.pick(made, 3)
    model.check(kept)
    scores = model.scores(kept, rows.x)

    assert scores.shape == (400,)
    assert -np.sum(y * np.log(scores) + (1 - y) * np.log(1 - scores)) == pytest.approx(losses[3], rel=1e-4)
    assert losses[-1] < losses[0]


def test_without_anybody_to_ask_the_number_of_trees_is_fixed() -> None:
    x, y = patients()
    rows = Rows(torch.from_numpy(x), torch.from_numpy(y))
    made = predictor(GB, 4).fit_fixed(rows, TrainingSettings(epochs=1000), 0)
    assert len(made["root"]) == FIXED_TREES + 1
