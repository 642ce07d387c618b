"""k-anonymity, the honest competitor: Mondrian multidimensional generalisation.

LeFevre, DeWitt and Ramakrishnan 2006 (ICDE): the patients are halved again and again along the column in
which they differ most, as long as at least k stay on either side. Within a group every patient gets the same
interval (or set of levels) in every generalised column. The outcome is never generalised. What k-anonymity
does not promise: that a group's patients differ in what is sensitive (l-diversity, t-closeness are reported
as they came out), or anything about two releases taken together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.cells import Cells
from pettoolkit.synthesis.rows import Floats, Ints, classes, from_unit, number, to_unit

Scope = Literal["quasi_identifiers", "all"]

T_BINS = 32
"""Public bins over which the distance between distributions of a number is measured."""


@dataclass(frozen=True)
class AnonymityReport:
    """What was achieved, read off the released table in both of its forms.

    ``k`` is the smallest group, ``groups`` their number. ``l_diversity`` (least number of distinct values in a
    group) and ``t_closeness`` (largest distance of a group's distribution from the whole hospital's, in
    [0, 1]) are by column: the outcome and the sensitive columns that were not generalised.
    ``width`` is the mean width of the intervals as a share of the public range, by generalised column.
    """

    k_asked: int
    k: int
    groups: int
    columns: tuple[str, ...]
    l_diversity: dict[str, int]
    t_closeness: dict[str, float]
    width: dict[str, float]


@dataclass(frozen=True)
class Anonymised:
    """A k-anonymous table twice: for training and for reading.

    ``rows`` has the interval's midpoint on the contract's scale (a set of both binary values becomes .5, a set of
    several levels and a group without most of its values become missing); ``generalised`` has text such as
    ``[61, 70]``, ``{0, 1}``, ``missing or [1.2, 3]``. Row i of both is row i of the input.
    """

    rows: pd.DataFrame
    generalised: pd.DataFrame
    report: AnonymityReport


def anonymise(rows: pd.DataFrame, contract: Contract, *, k: int, scope: Scope = "quasi_identifiers") -> Anonymised:
    """Generalise one hospital's rows until each patient looks like at least k - 1 others.

    Parameters
    ----------
    rows
        One row per patient in natural units.
    scope
        ``quasi_identifiers``: only the contract's quasi-identifiers are generalised, all other columns stay as they
        are. ``all``: every feature column is.

    Raises
    ------
    BadInput
        If k is below 2, or there is nothing to generalise.
    Refused
        If the hospital has fewer than k patients.
    """
    if k < 2:
        raise BadInput(f"anonymised: k must be at least 2 (got {k})")
    if len(rows) < k:
        raise Refused(f"anonymised: this hospital has fewer than k = {k} patients (choose a smaller k or leave it out)")
    chosen = tuple(c for c in contract.feature_columns if scope == "all" or c.quasi_identifier)
    if not chosen:
        raise BadInput("anonymised: the contract has no quasi-identifier (mark columns with quasi_identifier: true)")
    label = classes(rows, contract)
    group = partition(np.column_stack([_position(rows, c) for c in chosen]), k)

    fed: dict[str, object] = {}
    text: dict[str, object] = {}
    width: dict[str, float] = {}
    for column in contract.feature_columns:
        if column in chosen:
            fed[column.name], text[column.name], width[column.name] = _generalise(rows, column, group)
        else:
            fed[column.name] = text[column.name] = _plain(rows, column)
    fed[contract.outcome.name] = text[contract.outcome.name] = rows[contract.outcome.name].to_numpy()
    generalised = pd.DataFrame(text)
    report = _report(rows, contract, label, _alike(chosen, fed, text), chosen, k, width)
    return Anonymised(pd.DataFrame(fed), generalised, report)


def partition(positions: Floats, k: int) -> Ints:
    """Divide patients into groups of at least k (strict Mondrian).

    Parameters
    ----------
    positions
        Place of each patient in each column on [0, 1], NaN where missing; shape (n, columns).

    Returns
    -------
    ndarray of int64, shape (n,)
        Group of each patient, numbered from 0.
    """
    group = np.zeros(len(positions), dtype=np.int64)
    waiting = [np.arange(len(positions))]
    done = 0
    while waiting:
        members = waiting.pop()
        cut = _cut(positions[members], k)
        if cut is None:
            group[members] = done
            done += 1
        else:
            waiting += [members[cut], members[~cut]]
    return group


def _cut(positions: Floats, k: int) -> npt.NDArray[np.bool_] | None:
    """Halve a group along the column that spreads most and can be cut; None if there is none."""
    if len(positions) < 2 * k:
        return None
    missing = np.isnan(positions)
    # missing counts as a place beyond the low end: a column that half the group lacks spreads more than any
    # present values can
    placed = np.where(missing, -1.0, positions)
    for j in np.argsort(-placed.std(axis=0), kind="stable"):
        if placed[:, j].max() == placed[:, j].min():
            return None  # no column after this one spreads either
        for side in (~missing[:, j], placed[:, j] > np.median(placed[:, j]), placed[:, j] >= np.median(placed[:, j])):
            if k <= side.sum() <= len(side) - k:
                return np.asarray(side)
    return None


def _position(rows: pd.DataFrame, column: Column) -> Floats:
    if column.kind == "number":
        return to_unit(number(rows, column.name), column)
    levels: tuple[object, ...] = (0, 1) if column.kind == "binary" else column.levels
    out = np.full(len(rows), np.nan)
    for i, level in enumerate(levels):
        out[(rows[column.name] == level).to_numpy(dtype=bool)] = i / (len(levels) - 1)
    return out


def _plain(rows: pd.DataFrame, column: Column) -> npt.NDArray[np.generic]:
    return rows[column.name].to_numpy(dtype=object) if column.kind == "category" else number(rows, column.name)


def _generalise(
    rows: pd.DataFrame, column: Column, group: Ints
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.object_], float]:
    """One column: the value fed to training, the text released, and the mean width on [0, 1]."""
    position = _position(rows, column)
    missing = np.isnan(position)
    n_groups = int(group.max()) + 1
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group[~missing], position[~missing])
    np.maximum.at(high, group[~missing], position[~missing])
    size = np.bincount(group, minlength=n_groups)
    absent = np.bincount(group, weights=missing, minlength=n_groups)
    present = absent < size
    low, high = np.where(present, low, 0.0), np.where(present, high, 0.0)
    width = high - low
    middle = np.where(present & (absent <= size / 2), low + width / 2, np.nan)
    seen = _names(column, position, group, n_groups)
    text = np.array(
        [_phrase(names, bool(some), bool(a)) for names, some, a in zip(seen, present, absent, strict=True)],
        dtype=object,
    )
    return _fed(column, middle, width)[group], text[group], float(width[group].mean())


def _names(column: Column, position: Floats, group: Ints, n_groups: int) -> list[str]:
    """Name each group's present values: an interval, or a set of levels."""
    order = np.argsort(group, kind="stable")
    members = np.split(position[order], np.cumsum(np.bincount(group, minlength=n_groups))[:-1])
    out: list[str] = []
    for values in members:
        known = np.unique(values[~np.isnan(values)])
        if len(known) == 0:
            out.append("")
        elif column.kind == "number":
            low, high = (f"{v:.6g}" for v in from_unit(known[[0, -1]], column))
            out.append(low if low == high else f"[{low}, {high}]")
        else:
            levels = ("0", "1") if column.kind == "binary" else column.levels
            names = [levels[int(i)] for i in np.rint(known * (len(levels) - 1))]
            out.append(names[0] if len(names) == 1 else "{" + ", ".join(names) + "}")
    return out


def _phrase(name: str, some: bool, absent: bool) -> str:
    if not some:
        return "missing"
    return f"missing or {name}" if absent else name


def _fed(column: Column, middle: Floats, width: Floats) -> npt.NDArray[np.generic]:
    if column.kind == "number":
        return np.where(np.isnan(middle), np.nan, from_unit(np.nan_to_num(middle), column))
    if column.kind == "binary":
        return middle
    single = ~np.isnan(middle) & (width == 0)
    index = np.where(single, np.rint(np.nan_to_num(middle) * (len(column.levels) - 1)), len(column.levels))
    return np.array([*column.levels, None], dtype=object)[index.astype(np.int64)]


def _alike(chosen: tuple[Column, ...], *tables: dict[str, object]) -> Ints:
    """Number the groups that look alike in all of these tables.

    They are read off what is released, not taken from the partition: two groups may have come out alike. But groups
    whose text agrees, which has six digits, can still be told apart by their midpoints.
    """
    both = pd.DataFrame({f"{i}/{c.name}": table[c.name] for i, table in enumerate(tables) for c in chosen})
    return both.groupby(list(both), sort=False, dropna=False).ngroup().to_numpy().astype(np.int64)


def _report(
    rows: pd.DataFrame,
    contract: Contract,
    label: Ints,
    group: Ints,
    chosen: tuple[Column, ...],
    k: int,
    width: dict[str, float],
) -> AnonymityReport:
    ell: dict[str, int] = {contract.outcome.name: _distinct(label, group)}
    close: dict[str, float] = {contract.outcome.name: _distance(label, group, int(label.max()) + 1, ordered=False)}
    for column in contract.feature_columns:
        if column.sensitive and column not in chosen:
            values = pd.factorize(rows[column.name], use_na_sentinel=False)[0].astype(np.int64)
            ell[column.name] = _distinct(values, group)
            cells = Cells.of(column, T_BINS)
            close[column.name] = _distance(cells.encode(rows), group, len(cells), ordered=cells.ordered)
    sizes = np.bincount(group)
    names = tuple(c.name for c in chosen)
    return AnonymityReport(k, int(sizes.min()), len(sizes), names, ell, close, width)


def _distinct(values: Ints, group: Ints) -> int:
    return int(pd.Series(values).groupby(group).nunique().min())


def _distance(codes: Ints, group: Ints, n_cells: int, *, ordered: bool) -> float:
    """Largest distance between a group's shares of cells and everybody's (t-closeness; Li et al. 2007, ICDE).

    Total variation for levels, the earth mover's distance over cells (missing last) for numbers; in [0, 1].
    """
    counts = np.zeros((int(group.max()) + 1, n_cells))
    np.add.at(counts, (group, codes), 1.0)
    difference = counts / counts.sum(axis=1, keepdims=True) - counts.sum(axis=0) / len(codes)
    if ordered:
        return float((np.abs(np.cumsum(difference, axis=1)).sum(axis=1) / max(n_cells - 1, 1)).max())
    return float((np.abs(difference).sum(axis=1) / 2).max())
