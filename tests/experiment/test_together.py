"""What all shown cells add up to."""

from __future__ import annotations

import math

import pytest

from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.together import together
from pettoolkit.privacy.accounting import gaussian_epsilon, gaussian_mu, mechanism_for
from pettoolkit.privacy.events import Identity
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.statement import COORDINATOR, guarantee
from pettoolkit.records import (
    Cost,
    Exposure,
    ModelSpec,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    RunSpec,
)

DELTA = 1e-5
TWICE = gaussian_epsilon(math.sqrt(2) * gaussian_mu(3.0, DELTA), DELTA)
"""Epsilon of two runs with epsilon 3 on the same patients: 4.46."""
NONE = PrivacyStatement(NotMeasured("no differential privacy"), "all", "all", "yes")


def report(privacy: PrivacyStatement | None) -> CellReport:
    spec = RunSpec("t", "federated", {}, ModelSpec("logistic"), "compact", 0, ("a", "b"))
    if privacy is None:
        return CellReport(spec, "failed", reason="why")
    result = RunResult(spec, "h", {}, {}, {}, NotMeasured("one model"), {}, privacy, Exposure(()), Cost(1.0))
    return CellReport(spec, "done", result, "id")


def private(run: str, *places: str, epsilon: float = 3.0) -> PrivacyStatement:
    mechanism = mechanism_for(epsilon, DELTA, 10)
    ledgers = {}
    for place in places:
        ledger = Ledger(place, run, Budget(epsilon, DELTA), mechanism)
        ledger.answer(Identity(run, place, 0, "training", "h"), mechanism, lambda _: b"")
        ledgers[place] = ledger.summary()
    stated = guarantee(ledgers, noise="local", sites=2, simulated=True)
    return PrivacyStatement(stated, "nobody", "nothing", "no", ledgers=ledgers)


def epsilon_in(text: str) -> float:
    return float(text.split("epsilon ")[1].split()[0])


def test_one_cell_adds_up_to_itself() -> None:
    text = together([report(private("r", "a", "b"))])

    assert epsilon_in(text) == pytest.approx(3.0, abs=0.01)
    assert "the one cell with a guarantee" in text
    assert "any release without a guarantee" in text


def test_cells_on_the_same_patients_add_up_and_those_on_others_do_not() -> None:
    """Gaussian noise: mu grows by sqrt(2) for two runs on the same hospital."""
    same = together([report(private("r", "a")), report(private("s", "a"))])
    other = together([report(private("r", "a")), report(private("s", "b"))])

    assert epsilon_in(same) == pytest.approx(TWICE, abs=0.01)
    assert epsilon_in(other) == pytest.approx(3.0, abs=0.01)


def test_the_coordinators_ledger_is_about_everybody() -> None:
    text = together([report(private("r", "a", "b")), report(private("s", COORDINATOR))])

    assert epsilon_in(text) == pytest.approx(TWICE, abs=0.01)


def test_a_generator_that_serves_two_models_counts_once() -> None:
    text = together([report(private("fit", "a", "b")), report(private("fit", "a", "b"))])

    assert epsilon_in(text) == pytest.approx(3.0, abs=0.01)
    assert "all 2 cells" in text


def test_cells_without_a_guarantee_make_it_infinite_and_failed_ones_do_not() -> None:
    with_dp = report(private("r", "a"))

    assert together([with_dp, report(NONE)]).endswith("the 1 cell without one makes it infinite.")
    assert together([with_dp, report(NONE), report(NONE)]).endswith("the 2 cells without one make it infinite.")
    assert "without one" not in together([with_dp, report(None)])


def test_simulated_cells_that_share_their_noise_are_said_to_hide_less() -> None:
    one, other = report(private("r", "a")), report(private("s", "a"))

    assert "simulated cells of one seed and noise mode share their noise" in together([one, other])
    assert "share their noise" not in together([one])


def test_without_any_guarantee_nothing_is_said() -> None:
    assert together([report(NONE), report(None)]) == ""
