"""Sums of counts that a hospital decrypts: held again exactly, and searched for members through the noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.released import rows_released, table_of
from pettoolkit.attacks import outside
from pettoolkit.attacks.insider.counts.outside import ObservedCounts, counted
from pettoolkit.attacks.insider.outside import seen_views
from pettoolkit.attacks.insider.sums import SumMembership
from pettoolkit.attacks.insider.views import SumsView
from pettoolkit.attacks.protocol import Effort, Finding, NotRun, People
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.privacy.accounting import compose
from pettoolkit.privacy.bounds import gaussian_bound
from pettoolkit.privacy.events import gaussian
from pettoolkit.records import DpSpec, Guarantee, NotMeasured, Outcome, RunSpec
from tests.attacks.insider.test_insider_outside import few_of
from tests.small_cohort import SITES, grid, hospitals, rows, spec


def asked(epsilon: float | None, seed: int = 0) -> RunSpec:
    dp = None if epsilon is None else DpSpec(epsilon, noise="shared")
    return spec("synthetic", dp=dp, seed=seed, generator="marginals", scope="secure_sum")


def run(run_spec: RunSpec, patients: int = 250) -> tuple[Outcome, People]:
    with grid(hospitals(run_spec, **{site: rows(site, patients) for site in SITES})) as inner:
        metered = MeteredGrid(inner)
        return coordinate(metered, run_spec), outside.people_of(metered, run_spec)


def seen(run_spec: RunSpec, patients: int = 250) -> tuple[SumsView, People, Outcome]:
    outcome, people = run(run_spec, patients)
    (view,) = seen_views(run_spec, outcome, people)
    assert isinstance(view, SumsView)
    return view, people, outcome


def left_of(view: SumsView, people: People) -> list[tuple[ObservedCounts, np.ndarray]]:
    """Each stage, and what is in it beside the patients of the others."""
    out = []
    for each in view.sums:
        assert isinstance(each, ObservedCounts)
        others = people.members.rows.loc[np.isin(people.members.site, each.sites)]
        share = each.of(others, view.contract, "east", np.arange(len(each.observed)))
        assert set(np.unique(share)) <= {0.0, 1.0}
        out.append((each, each.observed - share.sum(0)))
    return out


def auc(view: SumsView, people: People) -> Finding:
    return SumMembership().run(view, people, Effort())[0]


def test_exact_counts_are_the_sum_of_the_others_and_give_members_away() -> None:
    view, people, _ = seen(asked(None))
    assert len(view.sums) == 5
    for _, left in left_of(view, people):
        assert not left.any()
    found = auc(view, people).figure
    assert found.success > 0.8  # 198 numbers about 374 candidates
    assert isinstance(found.bound, NotMeasured)
    few = few_of(people, 12)
    _, sums, _ = counted(asked(None), contract_of(asked(None)), few)
    assert auc(replace(view, sums=tuple(sums)), few).figure.success > 0.99  # more numbers than candidates


def test_what_a_patient_adds_is_the_same_of_some_numbers_as_of_all() -> None:
    view, people, _ = seen(asked(None))
    for each in view.sums:
        everything, some = np.arange(len(each.observed)), np.arange(len(each.observed))[::3]
        whole, part = (each.of(people.control.rows, view.contract, "east", kept) for kept in (everything, some))
        np.testing.assert_array_equal(whole[:, some], part)


def test_noise_is_as_large_as_the_attacker_takes_it_for_and_bounds_what_is_found() -> None:
    view, people, outcome = seen(asked(3.0))
    squares = [left**2 / each.noise for each, left in left_of(view, people)]
    assert np.mean(np.concatenate(squares)) == pytest.approx(1.0, abs=0.5)  # of 74 numbers: SD .16
    stated, found = outcome.privacy.guarantee, auc(view, people).figure
    assert isinstance(stated, Guarantee)
    (ledger, *_) = outcome.privacy.ledgers.values()
    mu = np.sqrt(3 / 2) / ledger["mechanisms"][0]["sigma"]  # two of three parts are left
    assert found.bound == pytest.approx(gaussian_bound(mu).auc)
    assert compose([gaussian(1 / mu)], stated.delta) == pytest.approx(stated.epsilon_if_sites_collude["1"], rel=1e-3)


def test_much_noise_hides_members_and_little_does_not() -> None:
    faint = auc(*seen(asked(100.0))[:2]).figure
    assert faint.success > 0.8
    strict = [auc(*seen(asked(0.1, seed), 600)[:2]).figure for seed in range(4)]
    assert np.mean([f.success for f in strict]) < 0.55  # each has an SD of .03; the bound is .511
    assert not any("alarm" in f.details for f in (faint, *strict))


def test_another_table_than_these_sums_make_is_noticed() -> None:
    run_spec = asked(1.0)
    outcome, people = run(run_spec)
    assert outcome.released_table is not None
    released: pd.DataFrame = rows_released(outcome.released_table)
    other = table_of([released.assign(sex=1 - released["sex"])], "synthetic_records", guaranteed=True)
    with pytest.raises(NotRun, match="could not be played again"):
        seen_views(run_spec, replace(outcome, released_table=other), people)
