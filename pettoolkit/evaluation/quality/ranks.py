"""Can synthetic data benchmark models? Whether they put eight models in the order in which real data put them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pettoolkit.cohort.contract import Contract
from pettoolkit.evaluation.intervals import LEVEL, Estimate
from pettoolkit.evaluation.quality.figures import Measured, RankAgreement
from pettoolkit.evaluation.quality.models import Fitted, fit
from pettoolkit.evaluation.quality.scores import HeldOut, Scored, scored_classes, scored_number
from pettoolkit.evaluation.quality.tables import Floats, Table, Task, classes_of, labelled, task_of
from pettoolkit.evaluation.quality.utility import prior_of
from pettoolkit.records import Interval, NotMeasured

TEST_SHARE = 0.3
"""Of each part: models of a table are tested on rows of the same table that they were not trained on."""

NOT_ALL = NotMeasured("undefined: not all configurations could be trained and tested on each part")


def configurations(task: Task, seed: int) -> dict[str, Callable[[], Any]]:
    """Eight models that people would choose among, strong and weak, by name."""
    from sklearn import ensemble, linear_model, naive_bayes, neighbors, tree

    if task == "number":
        return {
            "linear": lambda: linear_model.Ridge(alpha=1.0),
            "linear, strong ridge": lambda: linear_model.Ridge(alpha=1000.0),
            "boosting, 20 trees": lambda: _boosted(ensemble.HistGradientBoostingRegressor, seed, 20, 0.1),
            "boosting, 200 trees": lambda: _boosted(ensemble.HistGradientBoostingRegressor, seed, 200, 0.05),
            "forest, depth 3": lambda: ensemble.RandomForestRegressor(100, max_depth=3, random_state=seed),
            "forest": lambda: ensemble.RandomForestRegressor(100, max_features="sqrt", random_state=seed),
            "one tree, depth 3": lambda: tree.DecisionTreeRegressor(max_depth=3, random_state=seed),
            "25 neighbours": lambda: neighbors.KNeighborsRegressor(25),
        }
    return {
        "logistic": lambda: linear_model.LogisticRegression(C=1.0, max_iter=1000),
        "logistic, strong ridge": lambda: linear_model.LogisticRegression(C=0.001, max_iter=1000),
        "boosting, 20 trees": lambda: _boosted(ensemble.HistGradientBoostingClassifier, seed, 20, 0.1),
        "boosting, 200 trees": lambda: _boosted(ensemble.HistGradientBoostingClassifier, seed, 200, 0.05),
        "forest, depth 3": lambda: ensemble.RandomForestClassifier(100, max_depth=3, random_state=seed),
        "forest": lambda: ensemble.RandomForestClassifier(100, max_features="sqrt", random_state=seed),
        "naive Bayes": lambda: naive_bayes.GaussianNB(),
        "25 neighbours": lambda: neighbors.KNeighborsClassifier(25),
    }


def _boosted(kind: Any, seed: int, trees: int, rate: float) -> Any:
    return kind(max_iter=trees, learning_rate=rate, min_samples_leaf=30, early_stopping=False, random_state=seed)


@dataclass(frozen=True)
class Trial:
    """All configurations trained on one part of a table; ``test`` are further rows of the same table."""

    fitted: tuple[Fitted | None, ...]
    test: Table


def trial(rows: Table, contract: Contract, seed: int) -> Trial:
    """Train all configurations on 70 % of the rows."""
    task, classes = task_of(contract), classes_of(contract)
    order = np.random.default_rng([seed, 6]).permutation(np.flatnonzero(labelled(rows.y)))
    cut = round(TEST_SHARE * len(order))
    train, test = rows.take(order[cut:]), rows.take(order[:cut])
    made = configurations(task, seed)
    prior = prior_of(contract)
    if len(train) < 50:
        return Trial((None,) * len(made), test)
    return Trial(tuple(fit(build(), train.x, train.y, len(classes), prior) for build in made.values()), test)


def agreement(real: Trial, floor: Trial, synthetic: Trial, contract: Contract, resamples: int) -> RankAgreement:
    """Compare the orders.

    Parameters
    ----------
    real, floor, synthetic
        Of equally many rows: two disjoint parts of the real table, and the synthetic one.
    """
    names = tuple(configurations(task_of(contract), 0))
    at_home = {part: _scores(t.fitted, t.test, part, contract, resamples) for part, t in _named(real, floor, synthetic)}
    away = {part: _scores(real.fitted, t.test, part, contract, resamples) for part, t in _named(real, floor, synthetic)}
    tau = compared(at_home["real"], at_home["synthetic"])
    ours, theirs = (_values(at_home[part] or ()) for part in ("real", "synthetic"))
    known = not isinstance(tau, NotMeasured)
    return RankAgreement(
        configurations=names,
        on_real=ours,
        on_synthetic=theirs,
        tau=tau,
        floor=compared(at_home["real"], at_home["floor"]),
        same_models=compared(away["real"], away["synthetic"]),
        same_models_floor=compared(away["real"], away["floor"]),
        same_best=known and int(np.argmax(ours)) == int(np.argmax(theirs)),
        test_rows=len(real.test),
    )


def _named(real: Trial, floor: Trial, synthetic: Trial) -> tuple[tuple[str, Trial], ...]:
    return (("real", real), ("floor", floor), ("synthetic", synthetic))


def _values(scored: Sequence[Scored]) -> tuple[float, ...]:
    return tuple(s.headline for s in scored if not isinstance(s.headline, NotMeasured))


def _scores(
    fitted: Sequence[Fitted | None], test: Table, part: str, contract: Contract, resamples: int
) -> list[Scored] | None:
    """Headline figures of the configurations on one test set; None if not all can be had."""
    if not len(test):
        return None
    offset = {"real": 0, "floor": 1, "synthetic": 2}[part] * 2**40  # rows of different parts are resampled apart
    held = HeldOut(test.y, np.arange(len(test), dtype=np.int64) + offset, classes_of(contract), resamples)
    found = [_score(model, held, test) for model in fitted if model is not None]
    whole = len(found) == len(fitted) and all(s.draws is not None for s in found)
    return found if whole else None


def _score(model: Fitted, held: HeldOut, test: Table) -> Scored:
    said = model.answer(test.x)
    return scored_classes(held, said, model.decide(said)) if model.classes else scored_number(held, said)


def compared(first: list[Scored] | None, second: list[Scored] | None) -> Measured:
    """Kendall's tau-b of two lists of scores, with the central 95 % of its values over resampled test rows.

    Kendall (1945). Resampled scores carry the test's noise twice, so that the interval tends to lie low.
    """
    if first is None or second is None:
        return NOT_ALL
    value = kendall(np.array(_values(first)), np.array(_values(second)))
    if value is None:
        return NotMeasured("undefined: one table scores all configurations alike")
    a, b = (np.stack([s.draws for s in scored if s.draws is not None]) for scored in (first, second))
    draws = [t for i in range(a.shape[1]) if (t := kendall(a[:, i], b[:, i])) is not None]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, Interval(min(float(low), value), max(float(high), value)))


def kendall(a: Floats, b: Floats) -> float | None:
    """Kendall's tau-b: concordant minus discordant pairs over the root of the untied pairs of each; None: undefined."""
    upper = np.triu_indices(len(a), 1)
    first, second = np.sign(a[:, None] - a)[upper], np.sign(b[:, None] - b)[upper]
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 0 else None
