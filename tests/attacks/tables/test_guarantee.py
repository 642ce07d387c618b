"""The bound beside a figure is that of the best test there is, and a private table keeps below it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pettoolkit.attacks.tables.guarantee import bounded, most
from pettoolkit.privacy.bounds import generic_bound
from pettoolkit.records import NotMeasured
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.protocol import DpBudget
from tests.attacks.hospital_rows import CONTRACT, everything, people, view


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0, 1000.0])
def test_at_one_percent_false_alarms_it_is_the_generic_bound(epsilon: float) -> None:
    assert most(0.01, epsilon, 1e-5) == pytest.approx(generic_bound(epsilon, 1e-5).tpr_at_1pct_fpr)


def test_randomised_response_reaches_the_bound_and_without_budget_nothing_is_gained() -> None:
    truth = math.exp(1.0) / (1 + math.exp(1.0))
    assert most(1 - truth, 1.0, 0.0) == pytest.approx(truth)
    assert most(0.3, 0.0, 0.0) == pytest.approx(0.3)


def test_a_private_tables_attacks_stay_below_their_bounds() -> None:
    whom = people(400)
    maker = protocol.create("marginals")
    maker.fit(whom.members.rows, CONTRACT, seed=0, dp=DpBudget.for_epsilon(0.5, 1e-5, np.random.default_rng(0)))
    found = bounded(list(everything(view(made=maker.sample(400, seed=1)), whom).values()), 0.5, 1e-5)
    below = [f.figure.success <= f.figure.bound + 0.05 for f in found if not isinstance(f.figure.bound, NotMeasured)]
    assert all(below)
    assert len(below) >= 6
    assert {f.figure.attack for f in found if isinstance(f.figure.bound, NotMeasured)} <= {
        "singling_out_univariate",
        "singling_out_multivariate",
    }
