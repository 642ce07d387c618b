"""What insiders of finished cells saw: played again exactly, and attacked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.rounds import contribution
from pettoolkit.attacks import outside
from pettoolkit.attacks.insider import outside as insider_outside
from pettoolkit.attacks.insider.outside import _cell, insider_views, replay
from pettoolkit.attacks.insider.reconstruction import Reconstruction, candidates, read
from pettoolkit.attacks.insider.sums import SumMembership
from pettoolkit.attacks.insider.views import BOTH, COORDINATOR, HOSPITAL, HeldView, SumsView, UpdatesView
from pettoolkit.attacks.protocol import Effort, NotRun, People, View
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import DpSpec, Models, Outcome, RunSpec, Weights
from tests.small_cohort import SITES, grid, hospitals, spec

SGD = {"strategy": "fedsgd", "rounds": 12, "learning_rate": 0.5}


def run(run_spec: RunSpec) -> tuple[Outcome, People]:
    with grid(hospitals(run_spec if run_spec.arm.startswith("encrypted") else None)) as inner:
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
    ],
    ids=["fedavg", "fedprox", "fedadam", "fedsgd", "dp", "dp local steps"],
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
        from pettoolkit.attacks.insider.sums import _shares

        total = _shares(view, each, [here]).sum(0)
        np.testing.assert_allclose(total, each.observed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("run_spec", "patients", "dp"),
    [
        (spec("encrypted_aggregation", **SGD), 1, None),
        (spec("encrypted_statistics"), 1, None),
        (spec("encrypted_records"), 1, None),
        (spec("encrypted_aggregation", **SGD), 30, None),
        (spec("federated", dp=DpSpec(1.0), **SGD), 1, DpSpec(1.0)),
    ],
    ids=["update of one", "statistics of one", "records of one", "many", "one, with noise"],
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


def _few(run_spec: RunSpec, outcome: Outcome, people: People, dp: DpSpec | None) -> UpdatesView:
    """What a hospital sees if the others have these patients."""
    run_spec = replace(run_spec, dp=dp, sites=tuple(sorted(set(people.members.site.tolist()))))
    if run_spec.arm in ("encrypted_statistics", "encrypted_records"):
        views = insider_outside._regression_views(run_spec, contract_of(run_spec), people)
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
