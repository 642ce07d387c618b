"""The questions that `marginals` asks of private rows under DP, in stages, and what it builds from noisy answers alone.

A stage's questions depend on the contract and on noisy answers of the stages before. So one conversation serves a
hospital that adds its own noise (:func:`answered`), and hospitals that answer together with sums under encryption: what
is built never sees a row. The proof of what the answers cost is in :mod:`pettoolkit.synthesis.marginals`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from pettoolkit.synthesis.cells import Cells
from pettoolkit.synthesis.noisy import Query, group_cells, group_count, histogram, on_simplex, shape_of
from pettoolkit.synthesis.protocol import GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, Ints
from pettoolkit.synthesis.tree import TINY, Tree, fit_margins, forest, independent, spanning_tree

COUNTS, SCREENING, TABLES = "class counts", "coarse tables of all pairs", "tables of chosen pairs"
"""Names of the queries besides one histogram per column."""

COARSE, FINE = 2, 4
"""Groups of cells, besides "missing", by which pairs are chosen and then counted."""

CLEAR = 4.0
"""A pair is kept if its dependence is so many times what noise alone would show."""


@dataclass(frozen=True)
class Fitted:
    """Shares of the outcome classes, shape (classes,), and each class's distribution of cells."""

    shares: Floats
    trees: dict[int, Tree]


TOGETHER = 4096
"""So many patients are counted at a time: coarse tables of all pairs have hundreds of parts."""


@dataclass(frozen=True)
class Question:
    """One question about (codes of shape (n, columns), classes of shape (n,)): how many patients, as ``size`` numbers.

    ``where`` says in which of the numbers each patient is counted, shape (n, parts), -1 for none: once in each part.
    """

    event: GuaranteeEvent
    where: Callable[[Ints, Ints], Ints]
    size: int

    def exact(self, codes: Ints, label: Ints) -> Floats:
        """The exact counts, shape (size,)."""
        total = np.zeros(self.size)
        for first in range(0, len(label), TOGETHER):
            some = slice(first, first + TOGETHER)
            places = self.where(codes[some], label[some])
            total += histogram(places[places >= 0], self.size)
        return total


Stage = tuple[Question, ...]
Talk = Generator[Stage, Sequence[Floats], Fitted]
"""Yields stages, is sent each question's noisy answer, and returns the model."""


def conversation(cells: Sequence[Cells], n_classes: int, patients: int, events: Sequence[GuaranteeEvent]) -> Talk:
    """Ask for class counts, histograms of the reference class, those of the others, and pairs where they are planned.

    Parameters
    ----------
    cells
        Public cells of each column.
    patients
        Public number of patients.
    events
        Plan of :class:`~pettoolkit.synthesis.marginals.Marginals`.
    """
    named = {event.query: event for event in events}
    (counted,) = yield (Question(named[COUNTS], lambda _, label: label[:, None], n_classes),)
    sizes = on_simplex(counted, float(patients))
    shares = sizes / sizes.sum()
    columns = [event for event in events if event.query not in (COUNTS, SCREENING, TABLES)]
    shapes = yield from _marginals(cells, sizes, columns)
    if SCREENING not in named:
        return Fitted(shares, {y: independent(marginals) for y, marginals in shapes.items()})
    overall = [sum((shares[y] * shapes[y][j] for y in shapes), np.zeros(len(c))) for j, c in enumerate(cells)]
    pairs = yield from _chosen(cells, overall, patients, named[SCREENING])
    tables = yield from _tables(cells, overall, pairs, patients, named[TABLES])
    return Fitted(shares, {y: _tree(own, overall, pairs, tables) for y, own in shapes.items()})


def longest(cells: Sequence[Cells], n_classes: int) -> int:
    """Count the numbers of the longest stage that there can be: a public bound."""
    sizes = [len(c) for c in cells]
    coarse = [_groups(c, COARSE) for c in cells]
    screening = (sum(coarse) ** 2 - sum(s**2 for s in coarse)) // 2
    fine = sorted((_groups(c, FINE) for c in cells), reverse=True)
    tables = sum(max(fine) * size for size in fine) if fine else 0
    return max(n_classes, max(n_classes - 1, 1) * sum(sizes), screening, tables)


def _groups(cells: Cells, count: int) -> int:
    """Most groups that :func:`group_cells` can make."""
    return min(len(cells), count + int(cells.can_miss)) if cells.ordered else len(cells)


def answered(talk: Talk, codes: Ints, label: Ints, noise: np.random.Generator) -> Fitted:
    """Hold the conversation with one table: exact counts plus Gaussian noise, rounded to whole numbers."""
    stage = next(talk)
    while True:
        answers = [Query(q.event, q.exact(codes, label)).answer(noise) for q in stage]
        try:
            stage = talk.send(answers)
        except StopIteration as end:
            fitted: Fitted = end.value
            return fitted


def _marginals(
    cells: Sequence[Cells], sizes: Floats, events: Sequence[GuaranteeEvent]
) -> Generator[Stage, Sequence[Floats], dict[int, list[Floats]]]:
    """Histograms of the reference class first; their noisy shapes decide in which groups the others are counted."""
    reference = int(np.argmax(sizes))
    answers = yield tuple(
        Question(event, _of_class(j, reference, np.arange(len(c))), len(c))
        for j, (c, event) in enumerate(zip(cells, events, strict=True))
    )
    bases = [on_simplex(answer, max(float(sizes[reference]), 1.0)) for answer in answers]
    bases = [base / base.sum() for base in bases]
    others = [y for y in range(len(sizes)) if y != reference]
    jobs = [
        (y, j, group_cells(cells[j], bases[j], group_count(float(sizes[y]), event.sigma)), event)
        for j, event in enumerate(events)
        for y in others
    ]
    answers = yield tuple(
        Question(event, _of_class(j, y, groups), int(groups.max()) + 1) for y, j, groups, event in jobs
    )
    shapes: dict[int, list[Floats]] = {y: [] for y in range(len(sizes))}
    shapes[reference] = bases
    for (y, j, groups, event), counted in zip(jobs, answers, strict=True):
        shapes[y].append(shape_of(counted, groups, bases[j], float(sizes[y]), event.sigma))
    return shapes


def _chosen(
    cells: Sequence[Cells], overall: Sequence[Floats], patients: int, event: GuaranteeEvent
) -> Generator[Stage, Sequence[Floats], list[tuple[int, int | None]]]:
    """Coarse tables of all pairs at once; the pairs of a maximum spanning forest that stand clear of the noise."""
    groups = [group_cells(c, base, COARSE) for c, base in zip(cells, overall, strict=True)]
    sizes = [int(g.max()) + 1 for g in groups]
    couples = list(itertools.combinations(range(len(cells)), 2))
    lengths = [sizes[i] * sizes[j] for i, j in couples]

    starts = np.cumsum([0, *lengths[:-1]])

    def where(codes: Ints, label: Ints) -> Ints:
        coarse = [g[codes[:, j]] for j, g in enumerate(groups)]
        return np.column_stack(
            [s + coarse[i] * sizes[j] + coarse[j] for s, (i, j) in zip(starts, couples, strict=True)]
        )

    (answer,) = yield (Question(event, where, sum(lengths)),)
    shares = [np.bincount(g, weights=base) for g, base in zip(groups, overall, strict=True)]
    weights = np.zeros((len(cells), len(cells)))
    for (i, j), counted in zip(couples, np.split(answer, np.cumsum(lengths)[:-1]), strict=True):
        expected = np.maximum(patients * np.outer(shares[i], shares[j]).ravel(), max(event.sigma, 1.0))
        seen = float(((counted - expected) ** 2 / expected).sum())
        weights[i, j] = weights[j, i] = seen - CLEAR * float((event.sigma**2 / expected).sum())
    return [
        (node, None if parent is None or weights[node, parent] <= 0 else parent)
        for node, parent in spanning_tree(weights)
    ]


def _tables(
    cells: Sequence[Cells],
    overall: Sequence[Floats],
    pairs: Sequence[tuple[int, int | None]],
    patients: int,
    event: GuaranteeEvent,
) -> Generator[Stage, Sequence[Floats], dict[int, Floats]]:
    """Tables of the chosen pairs, each by column: joint shares of (parent, column) cells, with groups spread out."""
    edges = [(node, parent) for node, parent in pairs if parent is not None]
    if not edges:
        return {}
    each = GuaranteeEvent.gaussian(event.query, event.rho / len(edges))
    groups = [group_cells(c, base, FINE) for c, base in zip(cells, overall, strict=True)]
    sizes = [int(g.max()) + 1 for g in groups]

    def of_pair(node: int, parent: int) -> Callable[[Ints, Ints], Ints]:
        return lambda codes, _: (groups[parent][codes[:, parent]] * sizes[node] + groups[node][codes[:, node]])[:, None]

    answers = yield tuple(Question(each, of_pair(*edge), sizes[edge[0]] * sizes[edge[1]]) for edge in edges)
    out: dict[int, Floats] = {}
    for (node, parent), answer in zip(edges, answers, strict=True):
        joint = on_simplex(answer, float(patients)).reshape(sizes[parent], sizes[node])
        within = [
            overall[c] / np.maximum(np.bincount(groups[c], weights=overall[c])[groups[c]], TINY) for c in (parent, node)
        ]
        out[node] = joint[groups[parent]][:, groups[node]] * np.outer(*within)
    return out


def _tree(
    own: Sequence[Floats],
    overall: Sequence[Floats],
    pairs: Sequence[tuple[int, int | None]],
    tables: dict[int, Floats],
) -> Tree:
    """A class's tree: the pair tables of all patients, fitted to the class's own marginals."""
    nodes: list[tuple[int, int | None, Floats]] = []
    for node, parent in pairs:
        if parent is None:
            nodes.append((node, None, own[node][None, :]))
            continue
        loose = tables[node] + TINY * np.outer(overall[parent], overall[node])
        fitted = fit_margins(loose, own[parent], own[node])
        empty = fitted.sum(axis=1) <= 0
        fitted[empty] = own[node]
        nodes.append((node, parent, fitted))
    return forest(nodes)


def _of_class(column: int, y: int, groups: Ints) -> Callable[[Ints, Ints], Ints]:
    return lambda codes, label: np.where(label == y, groups[codes[:, column]], -1)[:, None]
