import math

import numpy as np
import pandas as pd
import pytest
import torch
from toy_table import CONTRACT, NAMES, people

from pettoolkit.errors import BadInput, Refused
from pettoolkit.privacy.accounting import ADD_REMOVE, REPLACE_ONE, compose
from pettoolkit.synthesis.protocol import DpBudget, one_mechanism, total_rho
from pettoolkit.synthesis.rows import violations
from pettoolkit.synthesis.vae import DpVae, VaeSettings

SMALL = VaeSettings(hidden=16, latent=2, steps=30)


def budget(rho=1.0, seed=0):
    return DpBudget(rho, np.random.default_rng(seed))


def fitted(rows, rho=1.0, noise_seed=0, seed=0, settings=SMALL):
    generator = DpVae(settings)
    generator.fit(rows, CONTRACT, seed=seed, dp=budget(rho, noise_seed))
    return generator


def test_rows_obey_the_contract():
    rows = fitted(people(300)).sample(500, seed=1)
    assert list(rows.columns) == NAMES
    assert rows["Sepsis"].dtype == np.int8
    assert set(violations(rows, CONTRACT).values()) == {0}


def test_class_differences_and_missingness_survive_a_large_budget():
    real = people(3000)
    rows = fitted(real, rho=1e4, settings=VaeSettings(hidden=32, latent=2, steps=150)).sample(4000, seed=1)
    for y in (0, 1):
        a, b = real[real.Sepsis == y], rows[rows.Sepsis == y]
        assert b.HR.mean() == pytest.approx(a.HR.mean(), abs=4)
        assert b.Lactate.isna().mean() == pytest.approx(a.Lactate.isna().mean(), abs=0.1)
    assert rows.Sepsis.mean() == pytest.approx(0.2, abs=0.01)


def test_the_plan_spends_the_budget_under_both_adjacencies():
    plan = DpVae(SMALL).plan(CONTRACT, DpBudget.for_epsilon(3.0, 1e-5, np.random.default_rng(0)))
    each = [event.mechanism() for event in plan]
    assert len(plan) == 1 + SMALL.steps
    assert compose(each, 1e-5, ADD_REMOVE) == pytest.approx(3.0, rel=1e-6)
    # one entry of a ledger stands for all of them
    for adjacency in (ADD_REMOVE, REPLACE_ONE):
        assert compose([one_mechanism(plan)], 1e-5, adjacency) == pytest.approx(
            compose(each, 1e-5, adjacency), rel=1e-6
        )


def test_every_step_gets_the_noise_that_its_event_claims(monkeypatch):
    """Two-sided chi-square test at 1e-4 of the noise that reaches the optimiser, when gradients are zero."""
    from scipy.stats import chi2

    from pettoolkit.synthesis import vae

    def nothing(network, losses, clip):
        return {name: torch.zeros_like(p) for name, p in network.named_parameters()}

    seen = []
    whole = torch.optim.Adam.step

    def step(self, *rest):
        seen.append(np.concatenate([p.grad.numpy().ravel() for g in self.param_groups for p in g["params"]]))
        return whole(self, *rest)

    monkeypatch.setattr(vae, "clipped_sum", nothing)
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    generator = fitted(people(50), rho=0.5)

    noise = np.concatenate(seen) * 50
    assert len(seen) == SMALL.steps
    statistic = float((noise**2).sum()) / generator.events[-1].sigma ** 2
    assert chi2.ppf(5e-5, len(noise)) < statistic < chi2.ppf(1 - 5e-5, len(noise))


def test_noise_and_seed_fix_everything_and_global_state_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (fitted(people(60), noise_seed=n).sample(30, seed=1) for n in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(first, same)
    assert not first.equals(other)


def test_it_exists_with_differential_privacy_only():
    with pytest.raises(Refused, match="with differential privacy only"):
        DpVae().fit(people(60), CONTRACT, seed=0, dp=None)


@pytest.mark.parametrize("changed", [{"HR": 80.0}, {"Lactate": np.nan}, {"Sepsis": np.int8(0)}, {"Ward": "west"}])
def test_odd_columns_are_no_error(changed):
    assert len(fitted(people(40).assign(**changed)).sample(30, seed=0)) == 30


def test_one_patient_is_enough():
    assert len(fitted(people(1)).sample(7, seed=0)) == 7


def test_nobody_and_nothing_are_refused():
    with pytest.raises(Refused, match="no training patient"):
        fitted(people(0))
    with pytest.raises(Refused, match="before fit"):
        DpVae().sample(3, seed=0)
    bare = CONTRACT.model_copy(update={"columns": tuple(c for c in CONTRACT.columns if c.role != "feature")})
    with pytest.raises(BadInput, match="has no feature"):
        DpVae().fit(people(10), bare, seed=0, dp=budget())


def test_rho_of_the_plan_is_the_budgets():
    assert total_rho(DpVae().plan(CONTRACT, budget(0.3))) == pytest.approx(0.3)
    assert math.isclose(DpVae().plan(CONTRACT, budget())[-1].replace_factor, 2.0)


def test_one_patient_moves_each_step_of_the_vae_by_its_sensitivity_whatever_the_seed(monkeypatch):
    """The other patients' random codes are the same with and without the patient, and nobody else knows them."""
    from pettoolkit.synthesis import vae

    rows = people(50)
    more = pd.concat([rows, people(80, seed=9).iloc[[2]]], ignore_index=True)
    whole, clip = vae.clipped_sum, VaeSettings().clip

    def sums(table, noise_seed):
        seen = []

        def record(network, losses, bound):
            made = whole(network, losses, bound)
            seen.append(torch.cat([v.ravel() for v in made.values()]).double())
            return made

        with monkeypatch.context() as patch:
            patch.setattr(vae, "clipped_sum", record)
            patch.setattr(torch.optim.Adam, "step", lambda self: None)  # both are asked at the same parameters
            generator = DpVae(VaeSettings(hidden=16, latent=3, steps=5))
            generator.fit(table, CONTRACT, seed=0, dp=budget(1.0, noise_seed))
        return seen

    for a, b in zip(sums(rows, 4), sums(more, 4), strict=True):
        assert 0 < float((a - b).norm()) <= clip * (1 + 1e-5)
    assert not torch.equal(sums(rows, 4)[0], sums(rows, 5)[0])  # codes come from the private noise, not from the seed
