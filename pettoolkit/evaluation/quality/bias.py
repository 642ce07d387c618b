"""Whether the synthetic rows, and models trained on them, treat groups as differently as the real rows do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.figures import Beside, Bias, Value
from pettoolkit.evaluation.quality.groups import levels, memberships, protected
from pettoolkit.evaluation.quality.tables import Array, Ints, Table, classes_of, labelled, task_of
from pettoolkit.evaluation.quality.utility import FLOOR, REAL, SYNTHETIC, Answers
from pettoolkit.records import NotMeasured

LEAST = 10
"""Patients (for rates among positives: positives) below which a group is left out of a gap."""

FEWER_THAN_TWO = NotMeasured(f"undefined: fewer than two groups with at least {LEAST} patients")
NOT_TRAINED = NotMeasured("undefined: no model could be trained on these rows")
NO_ERRORS = NotMeasured("not defined for a continuous outcome")


def biases(
    tables: Mapping[str, Table],
    test: Table,
    answers: Mapping[str, Answers | None],
    proxies: Mapping[str, Mapping[str, Value]],
    contract: Contract,
) -> tuple[Bias, ...]:
    """Measure each protected attribute of the contract.

    Parameters
    ----------
    tables
        Rows by part (real, floor, synthetic), equally many.
    answers
        What a model trained on each part said of the ``test`` patients.
    proxies
        Within each part the strength of the other columns as a proxy of each attribute.
    """
    return tuple(
        Bias(
            attribute=column.name,
            groups=levels(column),
            prevalence_gap=_beside({k: _prevalence_gap(t, column, contract) for k, t in tables.items()}),
            parity_gap=_beside({k: _parity(a, test, column, contract) for k, a in answers.items()}),
            odds_gap=_beside({k: _odds(a, test, column, contract) for k, a in answers.items()}),
            proxy=_beside({k: strengths[column.name] for k, strengths in proxies.items()}),
        )
        for column in protected(contract)
    )


def _beside(by_part: Mapping[str, Value]) -> Beside:
    return Beside(by_part[REAL], by_part[FLOOR], by_part[SYNTHETIC])


def _prevalence_gap(rows: Table, column: Column, contract: Contract) -> Value:
    kept = labelled(rows.y)
    return rate_gap(rows.y[kept], memberships(rows.frame, column)[kept], contract, _spread(rows.y[kept]))


def _parity(said: Answers | None, test: Table, column: Column, contract: Contract) -> Value:
    if said is None:
        return NOT_TRAINED
    outcomes = said.probabilities if task_of(contract) == "number" else said.decided
    return rate_gap(outcomes, memberships(test.frame, column), contract, _spread(test.y))


def _spread(y: Array) -> float:
    return float(y.std()) if len(y) and y.dtype.kind == "f" else 1.0


def rate_gap(outcomes: Array, member: Ints, contract: Contract, spread: float) -> Value:
    """Largest difference between groups in the share of an outcome class (demographic parity; Dwork et al. 2012).

    Of several classes the largest gap of any; of a number the difference of means in units of ``spread``.
    """
    large = [g for g in np.unique(member[member >= 0]) if (member == g).sum() >= LEAST]
    if len(large) < 2 or spread == 0:
        return FEWER_THAN_TWO
    if task_of(contract) == "number":
        means = [float(outcomes[member == g].mean()) for g in large]
        return (max(means) - min(means)) / spread
    shares = [[float((outcomes[member == g] == c).mean()) for g in large] for c in _named(contract)]
    return max(max(share) - min(share) for share in shares)


def _odds(said: Answers | None, test: Table, column: Column, contract: Contract) -> Value:
    if said is None:
        return NOT_TRAINED
    if task_of(contract) == "number":
        return NO_ERRORS
    return odds_gap(test.y, said.decided, memberships(test.frame, column), contract)


def odds_gap(y: Ints, decided: Ints, member: Ints, contract: Contract) -> Value:
    """Largest difference between groups in a true or a false positive rate (equalised odds; Hardt et al. 2016).

    Of several classes each against the rest. A group counts in a rate if at least :data:`LEAST` of its patients do.
    """
    gaps = []
    for c in _named(contract):
        for positive in (True, False):
            having = (y == c) == positive
            rates = [
                float((decided[having & (member == g)] == c).mean())
                for g in np.unique(member[member >= 0])
                if (having & (member == g)).sum() >= LEAST
            ]
            if len(rates) > 1:
                gaps.append(max(rates) - min(rates))
    return max(gaps) if gaps else FEWER_THAN_TWO


def _named(contract: Contract) -> range:
    """Classes that shares are taken of: of two the positive one is enough."""
    classes = len(classes_of(contract))
    return range(1, 2) if classes == 2 else range(classes)
