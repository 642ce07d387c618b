"""What insiders of finished cells saw: played again exactly, and attacked."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.rounds import contribution
from pettoolkit.attacks import outside
from pettoolkit.attacks.insider import outside as insider_outside
from pettoolkit.attacks.insider.decrypted import outside as played
from pettoolkit.attacks.insider.outside import _cell, insider_views, replay
from pettoolkit.attacks.insider.reconstruction import Reconstruction, candidates, read
from pettoolkit.attacks.insider.sums import SumMembership, _shares
from pettoolkit.attacks.insider.views import BOTH, COORDINATOR, HOSPITAL, HeldView, SumsView, UpdatesView
from pettoolkit.attacks.protocol import Effort, Finding, Group, NotRun, People, View
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.privacy.accounting import compose
from pettoolkit.privacy.bounds import AttackBound
from pettoolkit.privacy.events import gaussian
from pettoolkit.records import DpSpec, Guarantee, Models, NotMeasured, Outcome, RunSpec, Weights
from tests.small_cohort import SITES, grid, hospitals, spec
from tests.small_cohort import rows as small_rows

SGD = {"strategy": "fedsgd", "rounds": 12, "learning_rate": 0.5}


NEWTON, ONE_SHOT = {"clip": 3.5, "rounds": 2}, {"clip": 3.5, "rounds": 1, "method": "one_shot"}
SHARED = DpSpec(3.0, noise="shared")


def run(run_spec: RunSpec, patients: int = 250) -> tuple[Outcome, People]:
    tables = {site: small_rows(site, patients) for site in SITES}
    with grid(hospitals(run_spec if run_spec.arm.startswith("encrypted") else None, **tables)) as inner:
        metered = MeteredGrid(inner)
        return coordinate(metered, run_spec), outside.people_of(metered, run_spec)


def seen(run_spec: RunSpec) -> tuple[dict[str, View], People]:
    outcome, people = run(run_spec)
    views = insider_views(run_spec, outcome, people)
    return {_name(v): v for v in views}, people


def _name(view: View) -> str:
    if isinstance(view, UpdatesView):
        return "read by a hospital" if view.others else "updates"
    return view.holder  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    "run_spec",
    [
        spec("federated"),
        spec("federated", model="mlp", strategy="fedprox", proximal_mu=0.1),
        spec("federated", strategy="fedadam"),
        spec("federated", **SGD),
        spec("federated", dp=DpSpec(3.0), **SGD),
        spec("federated", dp=DpSpec(3.0), strategy="fedavg", rounds=4, local_epochs=2),
        spec("encrypted_statistics"),
        spec("encrypted_statistics", dp=SHARED, **NEWTON),
        spec("encrypted_statistics", dp=replace(SHARED, honest_sites=2), **ONE_SHOT),
    ],
    ids=["fedavg", "fedprox", "fedadam", "fedsgd", "dp", "dp local steps", "sums", "newton dp", "one_shot dp"],
)
def test_rounds_played_again_end_in_the_released_model(run_spec: RunSpec) -> None:
    outcome, people = run(run_spec)
    insider_views(run_spec, outcome, people)  # checks it, to .002 in each weight
    broken = Models({"*": Weights.of({k: v + 0.01 for k, v in outcome.models.by_site["*"].unpack().items()})})
    with pytest.raises(NotRun, match="could not be played again"):
        insider_views(run_spec, replace(outcome, models=broken), people)


def test_an_update_played_again_is_what_the_hospital_sent() -> None:
    run_spec = spec("federated", model="mlp")
    outcome, people = run(run_spec)
    rounds = replay(_cell(run_spec, contract_of(run_spec), outcome, people))
    site = hospitals()["north"]
    model = {k: v.numpy() for k, v in rounds[2].model.items()}
    sent, _ = contribution(site, run_spec, model, 3)
    for name, value in sent.items():
        torch.testing.assert_close(
            rounds[2].updates["north"][name], torch.from_numpy(value - model[name]), atol=1e-6, rtol=1e-4
        )


def test_who_sees_what() -> None:
    held = {arm: seen(spec(arm))[0] for arm in ("local", "pooled", "encrypted_statistics")}
    assert [v.held for v in held["local"].values() if isinstance(v, HeldView)] == ["nothing"]
    assert [v.held for v in held["pooled"].values() if isinstance(v, HeldView)] == ["raw_records"]
    assert set(held["encrypted_statistics"]) == {f"the {COORDINATOR}", HOSPITAL, "read by a hospital"}
    plain, encrypted = seen(spec("federated"))[0], seen(spec("encrypted_aggregation"))[0]
    assert set(plain) == {COORDINATOR, HOSPITAL, "updates", "read by a hospital"}
    assert set(encrypted) == {f"the {COORDINATOR}", HOSPITAL, BOTH, "read by a hospital"}  # no single update


def test_a_coordinator_of_full_batch_gradients_finds_the_members_and_noise_hides_them() -> None:
    found = {}
    for name, dp in (("plain", None), ("noisy", DpSpec(1.0))):
        views, people = seen(spec("federated", model="mlp", dp=dp, **SGD))
        view = views[COORDINATOR]
        assert isinstance(view, SumsView)
        found[name] = SumMembership().run(view, people, Effort())[0]
    assert found["plain"].figure.success > 0.9
    noisy = found["noisy"]
    assert noisy.evidence.interval(0.999).low <= 0
    assert isinstance(noisy.figure.bound, float)
    assert "alarm" not in noisy.figure.details


def test_a_hospital_subtracts_its_own_part_and_sees_less_than_the_coordinator() -> None:
    views, people = seen(spec("federated", model="mlp", **SGD))
    coordinator, hospital = (
        SumMembership().run(views[who], people, Effort())[0].figure  # type: ignore[arg-type]
        for who in (COORDINATOR, HOSPITAL)
    )
    assert hospital.success < coordinator.success
    assert hospital.patients < coordinator.patients
    view = views[HOSPITAL]
    assert isinstance(view, SumsView)
    assert all(len(s.sites) == len(SITES) - 1 for s in view.sums)


def test_the_share_of_a_patient_is_what_leaving_him_out_changes() -> None:
    run_spec = spec("federated", **SGD)
    outcome, people = run(run_spec)
    views = {getattr(v, "holder", ""): v for v in insider_views(run_spec, outcome, people)}
    view = views[COORDINATOR]
    assert isinstance(view, SumsView)
    for each in view.sums[:3]:
        (site,) = each.sites
        here = people.members.take(people.members.site == site)
        total = _shares(view, each, [here], np.arange(len(each.observed))).sum(0)
        np.testing.assert_allclose(total, each.observed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("run_spec", "patients", "dp"),
    [
        (spec("encrypted_aggregation", **SGD), 1, None),
        (spec("encrypted_statistics"), 1, None),
        (spec("encrypted_records"), 1, None),
        (spec("encrypted_aggregation", **SGD), 30, None),
        (spec("federated", dp=DpSpec(1.0), **SGD), 1, DpSpec(1.0)),
        (spec("encrypted_statistics", dp=SHARED, **NEWTON), 1, SHARED),
    ],
    ids=["update of one", "statistics of one", "records of one", "many", "one, with noise", "statistics, noise"],
)
def test_a_hospital_reads_the_only_other_patient_and_not_one_of_many_nor_through_noise(
    run_spec: RunSpec, patients: int, dp: DpSpec | None
) -> None:
    outcome, everybody = run(replace(run_spec, dp=dp))
    insider = min(SITES) if run_spec.arm == "encrypted_records" else "north"  # who refreshes, and the largest
    small = everybody.members.site != insider
    few = np.concatenate([np.flatnonzero(~small), np.flatnonzero(small)[:patients]])
    people = replace(everybody, members=everybody.members.take(few))
    cell = _few(run_spec, outcome, people, dp)
    found = Reconstruction().run(cell, people, Effort())[0].figure
    assert found.attack == "sum_reconstruction"
    assert found.patients == patients
    assert (found.success, found.control) == ((1.0, 0.0) if patients == 1 and dp is None else (0.0, 0.0))


def decrypted(run_spec: RunSpec, outcome: Outcome, people: People) -> list[View]:
    """What a hospital decrypted if these were the patients."""
    contract = contract_of(run_spec)
    play = played._steps if run_spec.arm == "encrypted_records" else played.statistics
    return played.views_of(run_spec, contract, outcome, play(run_spec, contract, people))


def _few(run_spec: RunSpec, outcome: Outcome, people: People, dp: DpSpec | None) -> UpdatesView:
    """What a hospital sees if the others have these patients."""
    run_spec = replace(run_spec, dp=dp, sites=tuple(sorted(set(people.members.site.tolist()))))
    if run_spec.arm in ("encrypted_statistics", "encrypted_records"):
        views = decrypted(run_spec, outcome, people)
    else:
        cell = _cell(run_spec, contract_of(run_spec), outcome, people)
        rounds = replay(cell)
        views = insider_outside._hospitals_views(cell, rounds[:-1], rounds[:2], outcome)
    return next(v for v in views if isinstance(v, UpdatesView))


def test_one_patient_left_after_subtraction_is_read() -> None:
    # three hospitals, one drops out between two sums: their difference is the update of the one that dropped out
    small = spec("federated", **SGD)
    outcome, people = run(small)
    cell = _cell(small, contract_of(small), outcome, people)
    rows = {site: replace(r, x=r.x[:1], y=r.y[:1]) if site == "west" else r for site, r in cell.rows.items()}
    alone = replace(cell, rows=rows)
    model = cell.initial
    everybody = {site: cell.net.gradient_sum(model, r.x, r.y) for site, r in alone.rows.items()}
    with_west = {k: sum(g[k] for g in everybody.values()) for k in model}
    without = {k: sum(g[k] for site, g in everybody.items() if site != "west") for k in model}
    difference = {k: with_west[k] - without[k] for k in model}
    record = rows["west"].x.double().numpy()
    assert read(candidates(difference), record).all()
    assert not read(candidates(with_west), record).any()


def test_sums_of_statistics_give_members_away_to_a_hospital_with_the_key() -> None:
    for arm, options in (("encrypted_statistics", {}), ("encrypted_statistics", {"method": "one_shot", "rounds": 1})):
        views, people = seen(spec(arm, **options))
        view = views[HOSPITAL]
        figure = SumMembership().run(view, people, Effort())[0].figure  # type: ignore[arg-type]
        assert figure.view == "insider"
        assert figure.success > 0.5


def few_of(people: People, each: int) -> People:
    """So many members and control patients of each hospital, and twice as many of the insider's."""

    def first(group: Group) -> Group:
        here = [np.flatnonzero(group.site == site)[: each * (1 + (site == "north"))] for site in SITES]
        return group.take(np.concatenate(here))

    return replace(people, members=first(people.members), control=first(people.control))


def found_by_a_hospital(run_spec: RunSpec, *, each: int | None = None, patients: int = 250) -> Finding:
    """AUC of a hospital's attack on the members of the others; of so few in each, if given."""
    outcome, people = run(run_spec, patients)
    views = insider_views(run_spec, outcome, people)
    if each is not None:
        people = few_of(people, each)
        views = decrypted(run_spec, outcome, people)
    (view,) = [v for v in views if isinstance(v, SumsView)]
    return SumMembership().run(view, people, Effort())[0]


@pytest.mark.parametrize("options", [NEWTON, ONE_SHOT], ids=["newton", "one_shot"])
def test_decrypted_sums_give_members_away_until_the_noise_hides_them(options: dict[str, Any]) -> None:
    def asked(dp: DpSpec | None) -> RunSpec:
        return spec("encrypted_statistics", dp=dp, **options)

    bare, faint = (found_by_a_hospital(asked(dp), each=12) for dp in (None, replace(SHARED, epsilon=100.0)))
    assert bare.figure.success > 0.85
    assert isinstance(bare.figure.bound, NotMeasured)
    assert bare.figure.success > faint.figure.success
    assert faint.figure.interval.low > 0.2  # noise is in the way, and far from enough
    strict = found_by_a_hospital(asked(replace(SHARED, epsilon=0.1)), patients=600)
    assert strict.figure.patients == 2 * 330
    assert strict.figure.interval.low <= 0
    assert strict.figure.success < 0.55
    assert strict.figure.bound == pytest.approx(0.511, abs=0.002)
    assert not {"alarm"} & {*strict.figure.details, *faint.figure.details}


@pytest.mark.parametrize("honest", [None, 2])
def test_the_bound_beside_noisy_sums_is_that_against_a_curious_hospital(honest: int | None) -> None:
    run_spec = spec("encrypted_statistics", dp=replace(SHARED, honest_sites=honest), **NEWTON)
    outcome, people = run(run_spec)
    (view,) = [v for v in insider_views(run_spec, outcome, people) if isinstance(v, SumsView)]
    stated = outcome.privacy.guarantee
    assert isinstance(stated, Guarantee)
    assert isinstance(view.bound, AttackBound)
    mu = math.sqrt(2) * NormalDist().inv_cdf(view.bound.auc)  # AUC = Phi(mu / sqrt 2)
    against = compose([gaussian(1 / mu)], stated.delta)
    assert against == pytest.approx(stated.epsilon_if_sites_collude["1"], rel=1e-3)
    assert (against > 1.05 * stated.epsilon) == (honest is None)  # of three, of whom two had to be honest


def test_what_is_left_of_the_noise_is_as_large_as_the_attacker_takes_it_for() -> None:
    run_spec = spec("encrypted_statistics", dp=SHARED, **NEWTON)
    outcome, people = run(run_spec)
    (view,) = [v for v in insider_views(run_spec, outcome, people) if isinstance(v, SumsView)]
    for each in view.sums:
        others = people.members.take(np.isin(people.members.site, each.sites))
        left = each.observed - _shares(view, each, [others], np.arange(len(each.observed))).sum(0)
        assert np.mean(left**2) == pytest.approx(float(each.noise), rel=0.6)  # 35 numbers, and 0 is far away
