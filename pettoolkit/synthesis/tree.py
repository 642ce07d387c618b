"""A tree of pair tables: each column drawn given one other column, per outcome class.

The tree is the maximum spanning tree of the mutual information given the outcome (Chow and Liu 1968;
Friedman, Geiger and Goldszmidt 1997 for the class-conditional form). It reads exact counts and so
has no guarantee.

A rare class has too few patients for pair tables of its own. Its tables lean on those of all patients, fitted
to its marginals: were they smoothed towards independence instead, the rare class would come out less
correlated than the frequent one, and a flexible model would learn just that (on the PhysioNet data it cost the MLP .03
AUROC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pettoolkit.synthesis.rows import Floats, Ints

LOOSER = 0.02
"""Pseudo-patients of the table of all patients per pseudo-patient of a class's: it needs far fewer."""

SWEEPS = 10
"""Of :func:`fit_margins`; margins then fit to about a percent, and the class's own counts do the rest."""

TINY = 1e-300


@dataclass(frozen=True)
class Node:
    """A column drawn given its parent: ``cumulative`` has a row per cell of the parent (one row without parent)."""

    column: int
    parent: int | None
    cumulative: Floats


@dataclass(frozen=True)
class Tree:
    """Distribution of one class's rows: nodes with every parent before its children."""

    nodes: tuple[Node, ...]

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Draw the cells of ``n`` rows, shape (n, columns)."""
        codes = np.zeros((n, len(self.nodes)), dtype=np.int64)
        for node in self.nodes:
            row = np.zeros(n, dtype=np.int64) if node.parent is None else codes[:, node.parent]
            codes[:, node.column] = (rng.random(n)[:, None] >= node.cumulative[row, :-1]).sum(axis=1)
        return codes


def independent(marginals: Sequence[npt.NDArray[np.generic]]) -> Tree:
    """Draw columns independently from their marginals (counts or shares)."""
    return Tree(tuple(Node(j, None, _cumulative(m.astype(np.float64)[None, :])) for j, m in enumerate(marginals)))


def forest(nodes: Sequence[tuple[int, int | None, Floats]]) -> Tree:
    """Make a tree of (column, parent or None, table with a row per cell of the parent), parents before children."""
    return Tree(tuple(Node(column, parent, _cumulative(table)) for column, parent, table in nodes))


def grow(codes: Ints, label: Ints, sizes: Sequence[int], smoothing: float) -> dict[int, Tree]:
    """Grow one tree shape for all classes present, with each class's own tables.

    Parameters
    ----------
    codes
        Cells, shape (n, columns); column j has ``sizes[j]`` cells.
    label
        Outcome class of each row, shape (n,).
    smoothing
        Pseudo-patients added to each row of a class's pair table, who have the dependence of all
        patients; and :data:`LOOSER` times as many, who have none, to each row of the table of all patients.
    """
    starts = np.r_[0, np.cumsum(sizes)]
    tables = {int(y): _pair_counts(codes[label == y], starts) for y in np.unique(label)}
    parents = spanning_tree(sum((_information(t, starts) for t in tables.values()), np.zeros((len(sizes), len(sizes)))))
    everybody = sum(tables.values(), np.zeros((starts[-1], starts[-1])))
    return {y: _tables(table, everybody, parents, starts, smoothing) for y, table in tables.items()}


def spanning_tree(weights: Floats) -> list[tuple[int, int | None]]:
    """Find the maximum spanning tree (Prim) as (node, parent), root 0 first."""
    d = len(weights)
    out: list[tuple[int, int | None]] = [(0, None)] if d else []
    best = weights[0].copy() if d else np.zeros(0)
    nearest = np.zeros(d, dtype=np.int64)
    outside = np.arange(d) > 0
    while outside.any():
        node = int(np.argmax(np.where(outside, best, -np.inf)))
        out.append((node, int(nearest[node])))
        outside[node] = False
        closer = outside & (weights[node] > best)
        nearest[closer], best[closer] = node, weights[node][closer]
    return out


def _pair_counts(codes: Ints, starts: Ints) -> Floats:
    """Count all pairs of cells of all columns at once, shape (cells, cells); the diagonal holds the marginals."""
    width = int(starts[-1])
    hot = np.zeros((len(codes), width), dtype=np.float32)  # float32 is exact up to 16 million patients
    hot[np.arange(len(codes))[:, None], codes + starts[:-1]] = 1.0
    return (hot.T @ hot).astype(np.float64)


def _information(counts: Floats, starts: Ints) -> Floats:
    """Estimate each pair's mutual information times the number of patients, in nats, shape (columns, columns)."""
    n = counts[: starts[1], : starts[1]].sum()
    single = np.diag(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        term = np.where(counts > 0, counts * np.log(counts * n / np.outer(single, single)), 0.0)
    return np.add.reduceat(np.add.reduceat(term, starts[:-1], axis=0), starts[:-1], axis=1)


def _tables(
    counts: Floats, everybody: Floats, parents: list[tuple[int, int | None]], starts: Ints, smoothing: float
) -> Tree:
    nodes: list[Node] = []
    for column, parent in parents:
        own = slice(int(starts[column]), int(starts[column + 1]))
        marginal = _shares(np.diag(counts)[own])
        if parent is None or np.isinf(smoothing):
            nodes.append(Node(column, None, _cumulative(marginal[None, :])))
            continue
        above = slice(int(starts[parent]), int(starts[parent + 1]))
        loose = everybody[above, own] + LOOSER * smoothing * _shares(np.diag(everybody)[own])
        fitted = fit_margins(loose, _shares(np.diag(counts)[above]), marginal)
        sums = fitted.sum(axis=1, keepdims=True)
        given = np.where(sums > 0, fitted / np.maximum(sums, TINY), marginal)
        table = counts[above, own] + smoothing * given
        table[table.sum(axis=1) <= 0] = marginal
        nodes.append(Node(column, parent, _cumulative(table)))
    return Tree(tuple(nodes))


def fit_margins(table: Floats, rows: Floats, columns: Floats) -> Floats:
    """Scale rows and columns in turn until the margins fit (Deming and Stephan 1940): odds ratios stay.

    Parameters
    ----------
    table
        Counts, shape (r, c).
    rows, columns
        Shares that the margins shall have, shapes (r,) and (c,); what has no count stays 0.
    """
    for _ in range(SWEEPS):
        table = table * (rows / np.maximum(table.sum(axis=1), TINY))[:, None]
        table = table * (columns / np.maximum(table.sum(axis=0), TINY))
    return table


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum())


def _cumulative(table: Floats) -> Floats:
    out = np.cumsum(table, axis=1)
    return np.asarray(out / out[:, -1:])
