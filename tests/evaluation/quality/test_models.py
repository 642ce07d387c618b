"""Models answer for all public classes, and decisions give rare classes a chance."""

from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.evaluation.quality.models import Fitted, build, fit, out_of_fold
from pettoolkit.evaluation.quality.tables import Task


def rows(n: int = 120, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    return (rng.standard_normal((n, 3)) + y[:, None]).astype(np.float32), y


def test_a_forest_has_500_trees_with_square_root_splits() -> None:
    for task in ("binary", "number"):
        forest = build("random_forest", task, 0)
        assert (forest.n_estimators, forest.max_features) == (500, "sqrt")


@pytest.mark.parametrize("name", ["logistic", "gradient_boosting", "random_forest"])
@pytest.mark.parametrize("task", ["binary", "classes", "number"])
def test_every_model_learns_every_kind_of_outcome(name: str, task: Task) -> None:
    k = {"binary": 2, "classes": 3, "number": 0}[task]
    x, y = rows(k=k or 2)
    y = y if k else x[:, 0].astype(float)
    fitted = fit(build(name, task, 0, trees=20), x, y, k)  # type: ignore[arg-type]
    assert fitted is not None

    said = fitted.answer(x)

    if k:
        assert said.sum(axis=1) == pytest.approx(1)
        assert (said.argmax(axis=1) == y).mean() > 0.7
    else:
        assert np.corrcoef(said, y)[0, 1] > 0.8


def test_a_class_without_training_rows_gets_no_probability_and_is_never_named() -> None:
    x, y = rows()
    fitted = fit(build("logistic", "classes", 0), x, 2 * y, 3)
    assert fitted is not None
    said = fitted.answer(x)
    assert (said[:, 1] == 0).all()
    assert set(fitted.decide(said)) == {0, 2}


def test_one_class_can_not_be_learned_from() -> None:
    assert fit(build("logistic", "binary", 0), rows()[0], np.zeros(120, dtype=int), 2) is None


def test_of_two_classes_an_alarm_is_a_probability_of_at_least_the_prevalence() -> None:
    p = np.array([0.04, 0.05, 0.06, 0.5])
    decided = Fitted(None, 2, np.array([0.95, 0.05])).decide(np.stack([1 - p, p], axis=1))
    assert decided.tolist() == [0, 1, 1, 1]


def test_the_forest_says_the_same_on_one_core_and_on_two() -> None:
    x, y = rows()
    answers = []
    for jobs in (1, 2):
        model = build("random_forest", "binary", 0, trees=50).set_params(n_jobs=jobs)
        fitted = fit(model, x, y, 2)
        assert fitted is not None
        answers.append(fitted.answer(x))
    np.testing.assert_array_equal(*answers)


def test_out_of_fold_no_row_answers_for_itself() -> None:
    class Remembers:
        """Knows the rows it was trained on."""

        def fit(self, x: np.ndarray, y: np.ndarray) -> None:
            self.seen = {row.tobytes() for row in x}
            self.classes_ = np.array([0, 1])

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            known = np.array([row.tobytes() in self.seen for row in x], dtype=float)
            return np.stack([1 - known, known], axis=1)

    x, y = rows()
    said = out_of_fold(Remembers, x, y, 2, 5, np.random.default_rng(0))
    assert said is not None
    assert (said[:, 1] == 0).all()


def test_out_of_fold_needs_each_class_in_each_fold() -> None:
    x, y = rows()
    y[:] = 0
    y[:4] = 1
    assert out_of_fold(lambda: build("logistic", "binary", 0), x, y, 2, 5, np.random.default_rng(0)) is None
