from __future__ import annotations

import json
import math

import pytest

from pettoolkit.errors import BadInput
from pettoolkit.privacy.accounting import compose, mechanism_for
from pettoolkit.privacy.events import Identity, Mechanism, gaussian, zcdp
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.statement import COORDINATOR, SIMULATION, compose_cells, guarantee
from pettoolkit.records import Guarantee, NotMeasured, from_json, to_json

DELTA = 1e-5


def spent(site: str, *mechanisms: Mechanism, delta: float = DELTA) -> dict:
    ledger = Ledger(site, "run", Budget(math.inf, delta))
    for i, mechanism in enumerate(mechanisms):
        ledger.answer(Identity("run", site, i, "training", "x"), mechanism, lambda _: b"")
    return json.loads(json.dumps(ledger.summary()))


def test_the_system_guarantees_the_largest_epsilon_and_not_the_sum() -> None:
    small, large = mechanism_for(1.0, DELTA, 30), mechanism_for(3.0, DELTA, 30)
    got = guarantee({"a": spent("a", small), "b": spent("b", large)}, noise="local", sites=2, simulated=True)
    assert got.epsilon == pytest.approx(3.0)
    assert got.epsilon_replace_one > 1.2 * 3
    assert (got.delta, got.unit, got.accountant) == (DELTA, "patient", "Gaussian, closed form")
    assert isinstance(got.noise_multiplier, NotMeasured)


def test_shared_noise_states_both_kinds_of_collusion() -> None:
    shared = mechanism_for(1.0, DELTA, 30, honest_sites=5)
    got = guarantee({s: spent(s, shared) for s in "abcde"}, noise="shared", sites=5, simulated=True)
    assert got.epsilon == pytest.approx(1.0)
    assert got.epsilon_if_coordinator_and_site_collude == pytest.approx(2.44, abs=0.01)
    assert got.epsilon_if_sites_collude == pytest.approx({"1": 1.13, "2": 1.33, "3": 1.66, "4": 2.44}, abs=0.01)
    assert got.noise_multiplier == shared.sigma
    assert any("5 of 5 hospitals are honest" in a for a in got.assumptions)
    assert any("no collusion" in a for a in got.assumptions)


def test_noise_that_is_not_shared_says_so() -> None:
    got = guarantee({"a": spent("a", gaussian(5.0))}, noise="local", sites=1, simulated=False)
    assert got.epsilon_if_sites_collude == {}
    assert isinstance(got.epsilon_if_coordinator_and_site_collude, NotMeasured)


def test_a_simulation_says_that_it_is_one_and_a_deployment_does_not() -> None:
    for simulated in (True, False):
        got = guarantee({"a": spent("a", gaussian(5.0))}, noise="local", sites=1, simulated=simulated)
        assert (SIMULATION in got.assumptions) == simulated == got.simulated_noise


def test_assumptions_and_gaps_are_named() -> None:
    got = guarantee({"a": spent("a", gaussian(1.0, 20, q=0.1))}, noise="local", sites=1, simulated=True)
    text = " ".join(got.assumptions)
    secret = "sampled in a step stays secret"
    for part in ("number of training patients", "given the split", "one hospital only", secret, "honest"):
        assert part in text
    assert any("tuning" in n for n in got.not_covered)
    assert any("test metrics" in n for n in got.not_covered)
    assert got.accountant == "PLD"
    assert "q = 0.1" in got.mechanism


def test_the_statement_survives_its_json() -> None:
    got = guarantee({"a": spent("a", gaussian(5.0), zcdp(0.1))}, noise="local", sites=1, simulated=True)
    assert from_json(Guarantee, json.loads(json.dumps(to_json(got)))) == got


@pytest.mark.parametrize("ledgers", [{}, {"a": spent("a", gaussian(5.0)), "b": spent("b", gaussian(5.0), delta=1e-6)}])
def test_ledgers_that_do_not_belong_together_are_refused(ledgers: dict) -> None:
    with pytest.raises(BadInput, match="one delta"):
        guarantee(ledgers, noise="local", sites=2, simulated=True)


def test_cells_on_the_same_patients_add_up() -> None:
    one, two = gaussian(20.0, 30), gaussian(30.0, 100)
    cells = [{"a": spent("a", one), "b": spent("b", one)}, {"a": spent("a", two)}]
    assert compose_cells(cells, DELTA) == pytest.approx(compose([one, two], DELTA))
    pooled = {COORDINATOR: spent(COORDINATOR, two)}
    assert compose_cells([*cells, pooled], DELTA) == pytest.approx(compose([one, two, two], DELTA))
    assert compose_cells([pooled], DELTA) == pytest.approx(compose([two], DELTA))


def test_a_cell_without_privacy_makes_the_sum_infinite() -> None:
    assert compose_cells([{"a": spent("a", gaussian(20.0))}, None], DELTA) == math.inf
