"""The fault-injection suite: every fault in every arm has an expected outcome, and none is a wrong average."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

from pettoolkit.arms.app import build_app, coordinate
from pettoolkit.errors import PetError, SiteFailed
from pettoolkit.federation import wire
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.site import Site
from pettoolkit.records import DpSpec, Outcome, RunSpec
from tests import small_cohort as small
from tests.arms import faults
from tests.arms.faults import FAULTS, PATIENT, VICTIM, BrokenSite, DyingSite, FaultyGrid, HangingSite

GOES_ON = ("local", "pooled", "federated", "anonymised", "synthetic", "augmented")
"""Arms that go on without a hospital where the fault policy says so; all others fail, whatever it says."""
SUM = "synthetic, scope: secure_sum"
STOPS = ("encrypted_aggregation", "encrypted_statistics", SUM)
ENCRYPTED_ROWS = "encrypted_records"
QUICK = {"epochs": 2, "rounds": 2, "iterations": 2}
OTHERS = tuple(site for site in small.SITES if site != VICTIM)


def spec_of(arm: str, **options: object) -> RunSpec:
    if arm == SUM:
        return small.spec("synthetic", **{"scope": "secure_sum", "epochs": 2, **options})
    quick = {name: value for name, value in QUICK.items() if name in small.OPTIONS[arm]}
    return small.spec(arm, **{**quick, **options})


@functools.cache
def keys(arm: str) -> Path | None:
    return small.carried(spec_of(arm)) if arm.startswith("encrypted") or arm == SUM else None


@functools.cache
def tables() -> dict[str, object]:
    return {site: small.rows(site, 120) for site in small.SITES}


def hosted(arm: str, fault: str = "") -> dict[str, Site]:
    def site(name: str) -> Site:
        kind = BrokenSite if fault == "raises" and name == VICTIM else Site
        return kind(name, tables()[name], small.CONTRACT, keys=keys(arm))  # type: ignore[arg-type]

    return {name: site(name) for name in small.SITES}


def grid_with(arm: str, fault: str, after: int = 0) -> FaultyGrid:
    # a hospital that raises does so by itself; nothing is done to its answers then
    return FaultyGrid(hosted(arm, fault), fault, after=10**6 if fault == "raises" else after)


def failed(arm: str, fault: str) -> str:
    inner = grid_with(arm, fault)
    with pytest.raises(PetError) as caught:
        coordinate(MeteredGrid(inner), spec_of(arm))
    assert fault == "raises" or inner.injected, "the fault was never put in"
    return str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("arm", [*GOES_ON, *STOPS, pytest.param(ENCRYPTED_ROWS, marks=pytest.mark.slow)])
def test_every_fault_in_every_arm_names_the_hospital_and_gives_no_model(arm: str, fault: str) -> None:
    said = failed(arm, fault)
    assert f"hospital {VICTIM}: " in said
    assert PATIENT not in said
    assert "9.7" not in said


LOCAL, SHARED = DpSpec(3.0, 1e-3), DpSpec(3.0, 1e-3, noise="shared", honest_sites=3)
PRIVATE = {
    "federated": LOCAL,
    "synthetic": LOCAL,
    "augmented": LOCAL,
    "local": LOCAL,
    "encrypted_aggregation": SHARED,
    "encrypted_statistics": SHARED,
}
IN_ROUNDS: dict[str, dict[str, object]] = {
    "federated": {"strategy": "fedsgd", "rounds": 3},
    "encrypted_aggregation": {"strategy": "fedsgd", "rounds": 3},
    "encrypted_statistics": {"rounds": 3, "clip": 2.0},
}


def private(arm: str) -> RunSpec:
    return small.spec(arm, dp=PRIVATE[arm], **IN_ROUNDS.get(arm, {}))


def spent(sites: dict[str, Site]) -> dict[str, int]:
    return {name: sum(len(ledger.events) for ledger in site.ledgers.values()) for name, site in sites.items()}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "raises"])  # broken code does not get well
@pytest.mark.parametrize("arm", PRIVATE)
def test_under_differential_privacy_a_fault_is_named_and_the_next_try_spends_nothing_twice(
    arm: str, fault: str
) -> None:
    spec, sites = private(arm), hosted(arm)
    after = int(arm in IN_ROUNDS)
    with pytest.raises(SiteFailed, match=f"hospital {VICTIM}: "):
        coordinate(MeteredGrid(FaultyGrid(sites, fault, after=after)), spec)
    before = spent(sites)
    with small.grid(sites) as grid:
        again = coordinate(MeteredGrid(grid), spec)
    others = hosted(arm)
    with small.grid(others) as grid:
        wanted = coordinate(MeteredGrid(grid), spec)

    assert spent(sites) == spent(others)
    assert before[VICTIM], "nothing had been spent"
    answers = {site: ledger["answers"] for site, ledger in again.privacy.ledgers.items()}
    assert answers == {site: ledger["answers"] for site, ledger in wanted.privacy.ledgers.items()}
    assert again.privacy.guarantee == wanted.privacy.guarantee
    tolerance = 1e-3 if arm.startswith("encrypted") else 0
    expected = weights(wanted)
    assert all(np.allclose(w, expected[name], rtol=0, atol=tolerance) for name, w in weights(again).items())


@functools.cache
def undisturbed(arm: str) -> Outcome:
    """What the other hospitals get among themselves."""
    without = {**spec_of(arm).__dict__, "sites": OTHERS}
    others = {name: site for name, site in hosted(arm).items() if name != VICTIM}
    with small.grid(others) as grid:
        return coordinate(grid, RunSpec(**without))


def weights(outcome: Outcome) -> dict[str, np.ndarray]:
    return {f"{key}/{name}": array for key, w in outcome.models.by_site.items() for name, array in w.unpack().items()}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("arm", GOES_ON)
def test_a_dropped_hospital_leaves_exactly_what_the_others_get_among_themselves(arm: str, fault: str) -> None:
    grid = MeteredGrid(grid_with(arm, fault), on_failure="drop", min_sites=2, sites=small.SITES)

    found = weights(coordinate(grid, spec_of(arm)))

    wanted = weights(undisturbed(arm))
    assert found.keys() == wanted.keys()
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    (drop,) = grid.drops
    assert drop.site == VICTIM
    assert PATIENT not in drop.reason


@pytest.mark.parametrize("arm", GOES_ON)
def test_too_few_that_remain_fail_the_cell(arm: str) -> None:
    grid = MeteredGrid(grid_with(arm, "nan"), on_failure="drop", min_sites=3, sites=small.SITES)
    with pytest.raises(SiteFailed, match=f"hospital {VICTIM}: .*; 2 hospitals remain and min_sites is 3"):
        coordinate(grid, spec_of(arm))


def test_a_hospital_dropped_in_the_second_round_is_noted_with_its_round() -> None:
    grid = MeteredGrid(grid_with("federated", "nan", after=1), on_failure="drop", min_sites=2, sites=small.SITES)
    outcome = coordinate(grid, spec_of("federated"))
    (drop,) = grid.drops
    assert (drop.site, drop.round, drop.purpose) == (VICTIM, 2, "training")
    assert outcome.rounds == 2
    assert all(np.isfinite(a).all() for a in weights(outcome).values())


@pytest.mark.parametrize("claimed", [0.5, 1e300, 1e6, -5.0])
@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedmedian"])
def test_a_weight_that_is_no_number_of_patients_or_changes_joins_no_average(
    strategy: str, claimed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heavier(content: RecordDict) -> RecordDict:
        return RecordDict({**content, wire.METRICS: MetricRecord({"num-examples": claimed})})

    monkeypatch.setitem(faults.CHANGES, "weight", heavier)  # type: ignore[index]
    inner = grid_with("federated", "weight", after=1)
    with pytest.raises(SiteFailed, match=f"hospital {VICTIM}: metric 'num-examples' is "):
        coordinate(MeteredGrid(inner), spec_of("federated", strategy=strategy))


@pytest.mark.parametrize("arm", STOPS)
def test_a_ciphertext_under_a_foreign_key_joins_no_sum(arm: str) -> None:
    sites = hosted(arm)
    foreign = small.carried(spec_of(arm))
    sites["west"] = Site("west", tables()["west"], small.CONTRACT, keys=foreign)  # type: ignore[arg-type]
    with small.grid(sites) as grid, pytest.raises(SiteFailed, match=r"hospital west: its ciphertexts can't be added"):
        coordinate(grid, spec_of(arm))


@pytest.mark.slow
def test_rows_encrypted_under_a_foreign_key_are_not_trained_on() -> None:
    spec, sites = spec_of(ENCRYPTED_ROWS), hosted(ENCRYPTED_ROWS)
    foreign = small.carried(spec)
    sites["west"] = Site("west", tables()["west"], small.CONTRACT, keys=foreign)  # type: ignore[arg-type]
    with small.grid(sites) as grid, pytest.raises(SiteFailed, match=r"hospital west: its encrypted rows can't be used"):
        coordinate(grid, spec)


@pytest.mark.parametrize("arm", [*GOES_ON, *STOPS])
def test_in_this_process_a_hospital_that_hangs_is_named(arm: str) -> None:
    sites = hosted(arm)
    sites[VICTIM] = HangingSite(VICTIM, tables()[VICTIM], small.CONTRACT, keys=keys(arm))  # type: ignore[arg-type]
    spec = RunSpec(**{**spec_of(arm).__dict__, "faults": {"round_timeout": 1.0}})
    with small.grid(sites) as grid, pytest.raises(SiteFailed, match=f"hospital {VICTIM}: gave no answer in time"):
        coordinate(MeteredGrid(grid), spec)


def test_in_this_process_the_others_go_on_without_a_hospital_that_hangs() -> None:
    sites = hosted("federated")
    sites[VICTIM] = HangingSite(VICTIM, tables()[VICTIM], small.CONTRACT)  # type: ignore[arg-type]
    spec = RunSpec(**{**spec_of("federated").__dict__, "faults": {"on_failure": "drop", "round_timeout": 1.0}})
    with small.grid(sites) as inner:
        grid = MeteredGrid(inner, on_failure="drop", min_sites=2, sites=small.SITES)
        found = weights(coordinate(grid, spec))
    wanted = weights(undisturbed("federated"))
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    assert [(drop.site, drop.round, drop.reason) for drop in grid.drops] == [(VICTIM, 1, "gave no answer in time")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"), [(DyingSite, "its worker died"), (HangingSite, "gave no answer in time")], ids=["dies", "hangs"]
)
def test_on_ray_a_hospital_that_dies_or_hangs_is_dropped_and_the_others_go_on(kind: type[Site], words: str) -> None:
    sites = hosted("federated")
    sites[VICTIM] = kind(VICTIM, tables()[VICTIM], small.CONTRACT)  # type: ignore[arg-type]
    spec = spec_of("federated")
    spec = RunSpec(**{**spec.__dict__, "faults": {"on_failure": "drop", "round_timeout": 20.0}})
    with open_grid("ray", build_app, sites, workers=3) as inner:
        grid = MeteredGrid(inner, on_failure="drop", min_sites=2, sites=small.SITES)
        found = weights(coordinate(grid, spec))
    (drop,) = grid.drops
    assert drop.site == VICTIM
    assert words in drop.reason
    wanted = weights(undisturbed("federated"))
    assert all(np.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)
