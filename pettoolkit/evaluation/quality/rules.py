"""What can be counted: rules broken, classes and levels lost, prevalence, rows that are copies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.distances import Draws
from pettoolkit.evaluation.quality.figures import Copies, LevelCount, Levels, Prevalence, Rule
from pettoolkit.evaluation.quality.tables import Array, Ints, classes_of, labelled, labels, used_columns
from pettoolkit.records import NotMeasured
from pettoolkit.synthesis.rows import violations

NO_OUTCOME = "outcome missing, or no class of the contract"
OUTCOME_BOUNDS = "outcome out of bounds"
NO_OUTCOMES = NotMeasured("undefined: no row of the table has an outcome")


def rules(real: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract) -> tuple[Rule, ...]:
    """Count what breaks the contract or physiology in each table; nothing is repaired."""
    ours, theirs = _broken(real, contract), _broken(synthetic, contract)
    return tuple(
        Rule(name, ours[name], theirs[name], 1000 * ours[name] / len(real), 1000 * theirs[name] / len(synthetic))
        for name in ours
    )


def _broken(frame: pd.DataFrame, contract: Contract) -> dict[str, int]:
    y = labels(frame, contract)
    out = {**violations(frame, contract), NO_OUTCOME: int((~labelled(y)).sum())}
    if contract.outcome.kind == "number":
        assert contract.outcome.low is not None  # the contract's validator saw to it
        assert contract.outcome.high is not None
        out[OUTCOME_BOUNDS] = int(((y < contract.outcome.low) | (y > contract.outcome.high)).sum())
    return out


def levels(real: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract) -> Levels:
    """List classes and levels that only one table has, and columns that no longer vary."""
    lost: list[LevelCount] = []
    new: list[LevelCount] = []
    classes: list[LevelCount] = []
    for column in used_columns(contract):
        if column.kind == "number":
            continue
        ours, theirs = _level_counts(real, column), _level_counts(synthetic, column)
        gone = [LevelCount(column.name, level, n, 0) for level, n in sorted(ours.items()) if level not in theirs]
        (classes if column.role == "outcome" else lost).extend(gone)
        new += [LevelCount(column.name, level, 0, n) for level, n in sorted(theirs.items()) if level not in ours]
    return Levels(
        classes_lost=tuple(classes),
        levels_lost=tuple(lost),
        levels_new=tuple(new),
        columns_constant=tuple(
            c.name for c in used_columns(contract) if real[c.name].nunique() > 1 and synthetic[c.name].nunique() == 1
        ),
        columns_all_missing=tuple(
            c.name for c in used_columns(contract) if real[c.name].notna().any() and synthetic[c.name].isna().all()
        ),
    )


def _level_counts(frame: pd.DataFrame, column: Column) -> dict[str, int]:
    counts = frame[column.name].value_counts()
    return {f"{level:g}" if column.kind == "binary" else str(level): int(n) for level, n in counts.items()}


def prevalence(real: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract, draws: Draws) -> tuple[Prevalence, ...]:
    """Share of each class among rows with an outcome; of a number its mean and standard deviation."""
    ours, theirs = labels(real, contract), labels(synthetic, contract)
    classes = classes_of(contract)
    names = tuple(f"share of {name}" for name in classes) if classes else ("mean", "standard deviation")

    def figures(y: Array, index: Ints | None = None) -> Array:
        y = y if index is None else y[index]
        y = y[labelled(y)]
        if not len(y):
            return np.full(len(names), np.nan)
        if not classes:
            return np.array([y.mean(), y.std()])
        return np.bincount(y, minlength=len(classes)) / len(y)

    floor, value = [], []
    for (first, second), pick in zip(draws.halves, draws.picks, strict=True):
        half = figures(ours, first)
        floor.append(np.abs(half - figures(ours, second)))
        value.append(np.abs(half - figures(theirs, pick)))
    known = [v for v in value if not np.isnan(v).any()]  # a sample of the rows may have no outcome where others do
    return tuple(
        Prevalence(
            what=name,
            real=float(figures(ours)[i]),
            synthetic=float(figures(theirs)[i]) if labelled(theirs).any() else NO_OUTCOMES,
            floor=float(np.mean(floor, axis=0)[i]),
            difference=float(np.mean(known, axis=0)[i]) if known else NO_OUTCOMES,
        )
        for i, name in enumerate(names)
    )


def copies(
    real: pd.DataFrame, synthetic: pd.DataFrame, holdout: pd.DataFrame | None, contract: Contract, draws: Draws
) -> Copies:
    """Count synthetic rows that equal a real one in every feature and the outcome.

    A table of few columns has equal rows by chance: the floor is the share of one half of the real rows that equal a
    row of the other half.
    """
    names = [c.name for c in used_columns(contract)]
    ours, made = _row_hashes(real[names]), _row_hashes(synthetic[names])
    identical = int(np.isin(made, ours).sum())
    chance = [float(np.isin(ours[first], ours[second]).mean()) for first, second in draws.halves]
    return Copies(
        rows=len(made),
        identical=identical,
        identical_share=identical / len(made),
        floor_share=float(np.mean(chance)),
        repeated=len(made) - len(np.unique(made)),
        identical_to_holdout=NotMeasured("no holdout given")
        if holdout is None
        else int(np.isin(made, _row_hashes(holdout[names])).sum()),
    )


def _row_hashes(frame: pd.DataFrame) -> Array:
    """A 64-bit hash of each row: two different rows of a million share one with a chance of 3 in 100 million."""
    return np.asarray(pd.util.hash_pandas_object(frame, index=False).to_numpy())
