"""Whether a classifier can tell synthetic rows from real ones, and how well other columns tell a protected one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.features import encode
from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.evaluation.quality.figures import Measured, Value
from pettoolkit.evaluation.quality.groups import levels, memberships
from pettoolkit.evaluation.quality.models import Matrix, Name, build, out_of_fold
from pettoolkit.evaluation.quality.scores import HeldOut, scored_classes
from pettoolkit.evaluation.quality.tables import Ints, Table, encode_outcome
from pettoolkit.records import Interval, NotMeasured

FOLDS = 5
PROXY_FOLDS = 3
ROWS_AT_MOST = 10_000
"""Of each side that are told apart."""

WIDENED = 2**0.5
"""What an interval of a cross-validated AUROC is widened by.

Each pair of rows in different folds speaks twice, with about the same value: once the first row trains and the second
is tested, once the other way round. Where there is nothing to find, the AUROC's variance is therefore twice that of
as many independent tests: without this, 95 % intervals held .5 in 80-88 % of 40 simulated pairs of tables.
"""

TOO_RARE = NotMeasured(f"undefined: fewer than two groups with at least {PROXY_FOLDS} rows each")
ALONE = NotMeasured("undefined: the table has no other feature")


def told_apart(first: Table, second: Table, contract: Contract, *, seed: int, trees: int, resamples: int) -> Measured:
    """Cross-validated AUROC of gradient boosting that is shown the rows of two tables, with their outcomes.

    .5 where the tables are alike, but for chance; below it where each row has its like in the other table. The interval
    resamples rows.
    """
    x = np.vstack([_with_outcome(first, contract), _with_outcome(second, contract)])
    y = np.repeat([0, 1], [len(first), len(second)])
    rng = np.random.default_rng([seed, 4])
    found = out_of_fold(lambda: build("gradient_boosting", "binary", seed, trees=trees), x, y, 2, FOLDS, rng)
    assert found is not None, "both tables have rows"
    rows = HeldOut(y, np.arange(len(y)), ("real", "synthetic"), resamples)
    return _widened(scored_classes(rows, found, np.argmax(found, axis=1)).scores.figures["auroc"])


def _widened(figure: Measured) -> Measured:
    if isinstance(figure, NotMeasured) or isinstance(figure.interval, NotMeasured):
        return figure
    value, interval = figure.value, figure.interval
    low, high = (value + WIDENED * (end - value) for end in (interval.low, interval.high))
    return Estimate(value, Interval(max(0.0, low), min(1.0, high)))


def _with_outcome(table: Table, contract: Contract) -> Matrix:
    return np.hstack([table.x, encode_outcome(table.y, contract)])


def proxy_strength(rows: Table, column: Column, contract: Contract, *, name: Name, seed: int, trees: int) -> Value:
    """AUROC with which the other features tell a protected attribute, cross-validated within one table.

    Of several groups the unweighted mean of each against the rest. Groups with too few rows are left aside.
    """
    if len(contract.feature_columns) < 2:
        return ALONE
    member = memberships(rows.frame, column)
    kept = _in_large_groups(member, len(levels(column)))
    if kept is None:
        return TOO_RARE
    others = contract.model_copy(update={"columns": tuple(c for c in contract.columns if c.name != column.name)})
    index, groups = kept
    x = encode(rows.frame.iloc[index], others)
    y = np.searchsorted(groups, member[index])
    make: Callable[[], Any] = lambda: build(name, "classes", seed, trees=trees)  # noqa: E731
    found = out_of_fold(make, x, y, len(groups), PROXY_FOLDS, np.random.default_rng([seed, 5]))
    if found is None:
        return TOO_RARE
    held = HeldOut(y, np.arange(len(y)), tuple(str(g) for g in groups), 1)
    return scored_classes(held, found, np.argmax(found, axis=1)).headline


def _in_large_groups(member: Ints, groups: int) -> tuple[Ints, Ints] | None:
    counts = np.bincount(member[member >= 0], minlength=groups)
    large = np.flatnonzero(counts >= PROXY_FOLDS)
    if len(large) < 2:
        return None
    return np.flatnonzero(np.isin(member, large)), large
