"""Train on synthetic, test on real: what a model loses that never saw a real row.

Each model is trained three times on equally many rows: on one part of the real rows, on another part of them (the noise
floor), and on synthetic rows. All three are scored on the same real test patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pettoolkit.cohort.contract import Contract
from pettoolkit.evaluation.quality.figures import GroupUtility, Trained, Utility
from pettoolkit.evaluation.quality.groups import Names, named_groups
from pettoolkit.evaluation.quality.models import Fitted, Name, build, fit
from pettoolkit.evaluation.quality.scores import (
    NOT_TRAINED,
    HeldOut,
    Scored,
    lost,
    not_scored,
    scored_classes,
    scored_number,
)
from pettoolkit.evaluation.quality.tables import Floats, Ints, Table, Task, classes_of, labelled, task_of
from pettoolkit.models.seeding import derived_seed
from pettoolkit.records import NotMeasured

ROWS_AT_MOST = 20_000
"""Rows that a model is trained or tested on; of more, a random sample is taken."""

TEST_SHARE = 0.3
"""Of the real rows, where no holdout is given."""

LEAST_TRAIN, LEAST_TEST = 20, 20

REAL, FLOOR, SYNTHETIC = "real", "floor", "synthetic"


@dataclass(frozen=True)
class Parts:
    """The real rows that models see, the same for all candidates.

    Attributes
    ----------
    train
        By name: ``real`` and ``floor`` rows, disjoint and equally many.
    test
        Real test patients, disjoint from both; ``hospital`` names the hospital of each.
    """

    train: Mapping[str, Table]
    test: Table
    hospital: Names | None
    test_from: str


def parts(
    real: Table, holdout: Table | None, hospital: Names | None, holdout_hospital: Names | None, smallest: int, seed: int
) -> Parts | NotMeasured:
    """Divide the real rows; ``smallest`` is the size of the smallest synthetic table.

    With a holdout, which the generator must not have seen, it is the test set and the real rows are the two training
    parts. Without one, 30 % of the real rows are: then the generator has seen the test patients.
    """
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(np.flatnonzero(labelled(real.y)))
    if holdout is None:
        cut = _stratified(real.y, order, TEST_SHARE)
        test, rest = order[cut], order[~cut]
        tested, where = real.take(test[:ROWS_AT_MOST]), "real rows that the generators may have seen (no holdout given)"
        named = None if hospital is None else hospital[test[:ROWS_AT_MOST]]
    else:
        test = rng.permutation(np.flatnonzero(labelled(holdout.y)))[:ROWS_AT_MOST]
        tested, rest, where = holdout.take(test), order, "the holdout"
        named = None if holdout_hospital is None else holdout_hospital[test]
    size = min(len(rest) // 2, smallest, ROWS_AT_MOST)
    if size < LEAST_TRAIN or len(test) < LEAST_TEST:
        return NotMeasured(f"too few rows with an outcome: {size} to train on and {len(test)} to test on")
    train = {REAL: real.take(rest[:size]), FLOOR: real.take(rest[size : 2 * size])}
    return Parts(train, tested, named, where)


def _stratified(y: Floats | Ints, order: Ints, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark ``share`` of the rows of each class (of all rows, of a number) in ``order``."""
    marked = np.zeros(len(order), dtype=bool)
    strata = np.zeros(len(order), dtype=np.int64) if y.dtype.kind == "f" else y[order]
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        marked[rows[: round(share * len(rows))]] = True
    return marked


@dataclass(frozen=True)
class Answers:
    """What one model said of the test patients: probabilities and decisions, or predictions."""

    probabilities: Floats
    decided: Ints


def train_and_answer(
    name: Name, rows: Table, test: Table, contract: Contract, seed: int, trees: int | None = None
) -> Answers | None:
    """Train a model on rows and apply it to the test patients; None if it can't be trained."""
    task, classes = task_of(contract), classes_of(contract)
    kept = rows.take(np.flatnonzero(labelled(rows.y)))
    seed = derived_seed(seed, "declare", name) % 2**31
    fitted = fit(build(name, task, seed, trees=trees), kept.x, kept.y, len(classes), prior_of(contract))
    return None if fitted is None else answers(fitted, test)


def answers(fitted: Fitted, test: Table) -> Answers:
    """Apply a model."""
    said = fitted.answer(test.x)
    return Answers(said, fitted.decide(said) if fitted.classes else np.zeros(len(said), dtype=np.int64))


def prior_of(contract: Contract) -> Floats | None:
    """Give the published prevalence as shares of the two classes, if there is one."""
    if contract.prevalence is None or task_of(contract) != "binary":
        return None
    return np.array([1 - contract.prevalence, contract.prevalence])


def utility(
    parts: Parts,
    on_real: Mapping[str, Mapping[str, Answers | None]],
    on_synthetic: Mapping[str, Answers | None],
    contract: Contract,
    resamples: int,
) -> Utility:
    """Score the answers, over all test patients and in each group.

    Parameters
    ----------
    on_real
        ``{model: {part: answers}}`` of the models trained on the two real parts.
    on_synthetic
        ``{model: answers}`` of the models trained on synthetic rows.
    """
    task = task_of(contract)
    said = {name: {**on_real[name], SYNTHETIC: on_synthetic[name]} for name in on_synthetic}
    whole = HeldOut(parts.test.y, np.arange(len(parts.test)), classes_of(contract), resamples)
    groups = []
    for (attribute, level), rows in named_groups(parts.test.frame, contract, parts.hospital).items():
        models = {name: _trained(whole.take(rows), by_part, rows, task) for name, by_part in said.items()}
        groups.append(GroupUtility(attribute, level, len(rows), models))
    everybody = np.arange(len(parts.test))
    return Utility(
        headline="r2" if task == "number" else "auroc",
        train_rows=len(parts.train[REAL]),
        test_rows=len(parts.test),
        test_from=parts.test_from,
        decision=_decision(contract),
        models={name: _trained(whole, by_part, everybody, task) for name, by_part in said.items()},
        groups=tuple(groups),
    )


def _decision(contract: Contract) -> str:
    if task_of(contract) == "number":
        return "none: the outcome is a number"
    if prior_of(contract) is not None:
        return f"positive from a probability of {contract.prevalence:g} on, the contract's published prevalence"
    return "the class whose probability gained most over its share of the training rows"


def _trained(test: HeldOut, by_part: Mapping[str, Answers | None], rows: Ints, task: Task) -> Trained:
    score: Callable[[Answers], Scored] = (
        (lambda a: scored_number(test, a.probabilities[rows]))
        if task == "number"
        else (lambda a: scored_classes(test, a.probabilities[rows], a.decided[rows]))
    )
    scored = {part: not_scored(NOT_TRAINED) if said is None else score(said) for part, said in by_part.items()}
    return Trained(
        real=scored[REAL].scores,
        floor_rows=scored[FLOOR].scores,
        synthetic=scored[SYNTHETIC].scores,
        loss=lost(scored[REAL], scored[SYNTHETIC]),
        floor=lost(scored[REAL], scored[FLOOR]),
    )
