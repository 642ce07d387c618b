"""Differential privacy in every arm: what is stated is what was asked, and what is asked wrongly is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from pettoolkit.arms import private, registry
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import start
from pettoolkit.arms.private import at_hospital
from pettoolkit.arms.registry import ARMS
from pettoolkit.arms.rounds import contribution
from pettoolkit.errors import BadInput, PetError, Refused, SiteFailed
from pettoolkit.experiment.load import load
from pettoolkit.experiment.matrix import expand
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_arrays, to_params
from pettoolkit.privacy.accounting import compose, gaussian_epsilon
from pettoolkit.privacy.events import GAUSSIAN, SUBSAMPLED, Mechanism
from pettoolkit.privacy.statement import COORDINATOR
from pettoolkit.records import DpSpec, Guarantee, Models, NotMeasured, Outcome, RunSpec, from_json
from tests import small_cohort as small

EPSILON = 2.0
PATIENTS = 3 * 137
"""Training patients of the three small hospitals, about."""

DP: Mapping[str, tuple[str, ...]] = {
    "local": ("local",),
    "pooled": ("central",),
    "federated": ("local",),
    "encrypted_aggregation": ("shared", "local"),
    "encrypted_statistics": ("shared",),
    "synthetic": ("local",),
    "augmented": ("local",),
}
"""Arms that can give a guarantee, and who may add the noise."""
WITHOUT = {"anonymised", "encrypted_records"}
"""Arms that refuse it."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "federated": {"strategy": "fedsgd", "rounds": 5},
    "encrypted_aggregation": {"strategy": "fedsgd", "rounds": 5},
    "encrypted_statistics": {"rounds": 3, "clip": 2.0},
}
CASES = [(arm, noise) for arm, noises in DP.items() for noise in noises]


def spec(
    arm: str, noise: str | None = None, *, seed: int = 0, model: str = "logistic", dp: Any = None, **options: Any
) -> RunSpec:
    """A run with epsilon 2; ``dp`` overrides its fields."""
    mode = noise or DP[arm][0]
    budget = DpSpec(EPSILON, noise=mode, honest_sites=3 if mode == "shared" else None)
    wanted = {**OPTIONS.get(arm, {}), **options}
    return small.spec(arm, model=model, seed=seed, dp=replace(budget, **(dp or {})), **wanted)


def run(of: RunSpec, sites: Mapping[str, Site] | None = None) -> Outcome:
    with small.grid(sites or small.hospitals(of)) as grid:
        return coordinate(grid, of)


def guarantee(outcome: Outcome) -> Guarantee:
    assert isinstance(outcome.privacy.guarantee, Guarantee)
    return outcome.privacy.guarantee


def weights(outcome: Outcome) -> np.ndarray:
    models = [w.unpack() for _, w in sorted(outcome.models.by_site.items())]
    return np.concatenate([a.ravel() for m in models for _, a in sorted(m.items())])


def initial(of: RunSpec) -> dict[str, np.ndarray]:
    return to_arrays(start(of, small.CONTRACT)[1])


def flat(arrays: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


# -- what is stated ------------------------------------------------------------------------------


def test_every_arm_has_dp_or_refuses_it(tmp_path: Path) -> None:
    assert set(DP) | WITHOUT == set(ARMS)
    for arm in WITHOUT:
        (line,) = written(tmp_path, f"arm: {arm}", "epsilon: 1")
        assert f"{arm}" in line
        assert "write arm:" in line  # the way out


@pytest.mark.parametrize(("arm", "noise"), CASES)
def test_the_stated_epsilon_is_the_one_asked_for_under_both_adjacencies(arm: str, noise: str) -> None:
    outcome = run(spec(arm, noise))

    stated = guarantee(outcome)
    assert stated.epsilon == pytest.approx(EPSILON, abs=0.01)
    assert stated.epsilon <= EPSILON * (1 + 1e-6)
    assert isinstance(stated.epsilon_replace_one, float)
    assert 1.2 * EPSILON < stated.epsilon_replace_one < 2.5 * EPSILON
    assert (stated.delta, stated.unit, stated.simulated_noise) == (1e-5, "patient", True)
    assert "simulation: epsilon is what a deployment would give" in stated.assumptions
    assert set(outcome.privacy.ledgers) == ({COORDINATOR} if arm == "pooled" else set(small.SITES))


@pytest.mark.parametrize(("arm", "noise"), CASES)
def test_shared_noise_and_no_other_states_what_collusion_leaves(arm: str, noise: str) -> None:
    stated = guarantee(run(spec(arm, noise)))

    if noise == "shared":
        assert set(stated.epsilon_if_sites_collude) == {"1", "2"}
        assert isinstance(stated.epsilon_if_coordinator_and_site_collude, float)
        assert stated.epsilon_if_coordinator_and_site_collude > 1.5 * EPSILON
    else:
        assert not stated.epsilon_if_sites_collude
        assert isinstance(stated.epsilon_if_coordinator_and_site_collude, NotMeasured)


@pytest.mark.parametrize(("arm", "noise"), CASES)
def test_nothing_of_validation_patients_is_asked_or_used(arm: str, noise: str) -> None:
    of = spec(arm, noise)
    spoilt = {}
    for name, site in small.hospitals().items():
        rows = small.rows(name)
        held_out = np.concatenate([site.index(of, part) for part in ("validation", "test", "control", "attacker")])
        rows.loc[held_out, ["age", "lactate", "pulse"]] = (100.0, 30.0, 200.0)
        spoilt[name] = rows

    plain, other = run(of), run(of, small.hospitals(of, **spoilt))

    assert not [t for t in plain.exposure.traffic if t.purpose == "validation"]
    tolerance = 1e-4 if arm.startswith("encrypted") else 0.0  # ciphertexts are never seeded
    np.testing.assert_allclose(weights(other), weights(plain), atol=tolerance, rtol=tolerance)


def test_ten_rounds_are_not_accounted_as_one() -> None:
    """The mistake of examples that make a new privacy engine each round."""
    outcome = run(spec("federated", rounds=10))

    (mechanism,) = [from_json(Mechanism, m) for m in outcome.privacy.ledgers["east"]["mechanisms"]]
    assert (mechanism.kind, mechanism.steps) == (GAUSSIAN, 10)
    assert guarantee(outcome).epsilon == pytest.approx(gaussian_epsilon(10**0.5 / mechanism.sigma, 1e-5), abs=1e-6)
    assert compose([mechanism.times(1)], 1e-5) < EPSILON / 2


def test_local_steps_are_accounted_each() -> None:
    outcome = run(spec("federated", strategy="fedavg", rounds=3, local_epochs=4))

    (mechanism,) = [from_json(Mechanism, m) for m in outcome.privacy.ledgers["west"]["mechanisms"]]
    assert mechanism.steps == 12
    assert guarantee(outcome).epsilon == pytest.approx(EPSILON, abs=0.01)


def test_poisson_batches_run_and_are_accounted_as_subsampled() -> None:
    outcome = run(spec("federated", rounds=3, dp={"batch": 32}))

    stated = guarantee(outcome)
    assert (stated.accountant, "Poisson" in stated.mechanism) == ("PLD", True)
    assert 0.98 * EPSILON < stated.epsilon <= EPSILON
    for ledger in outcome.privacy.ledgers.values():
        (mechanism,) = [from_json(Mechanism, m) for m in ledger["mechanisms"]]
        assert (mechanism.kind, mechanism.steps) == (SUBSAMPLED, 3)
        assert mechanism.q == pytest.approx(32 / 137, abs=0.01)


def test_training_on_synthetic_rows_alone_guarantees_nothing_to_patients() -> None:
    outcome = run(spec("synthetic", "central", dp={"target": "downstream"}))

    assert isinstance(outcome.privacy.guarantee, NotMeasured)
    assert outcome.privacy.guarantee.reason.startswith("no guarantee for patients")
    assert not outcome.privacy.ledgers


# -- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_encrypted_aggregation_with_local_noise_is_federated_with_local_noise(model: str) -> None:
    plain = run(spec("federated", "local", model=model))
    encrypted = run(spec("encrypted_aggregation", "local", model=model))

    np.testing.assert_allclose(weights(encrypted), weights(plain), atol=1e-4)


def test_so_it_is_where_patients_have_several_rows() -> None:
    tables = {}
    for name in small.SITES:
        rows = small.rows(name)
        tables[name] = pd.concat([rows, rows.iloc[: len(rows) // 2]], ignore_index=True)
    plain, encrypted = (spec(arm, "local") for arm in ("federated", "encrypted_aggregation"))

    found = run(encrypted, small.hospitals(encrypted, **tables))

    np.testing.assert_allclose(weights(found), weights(run(plain, small.hospitals(**tables))), atol=1e-4)


@pytest.mark.parametrize("arm", ["local", "pooled", "federated"])
@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_opacus_and_vectorised_gradients_give_the_same_model(arm: str, model: str) -> None:
    options = {"rounds": 4} if arm == "federated" else {}
    found = [
        weights(run(spec(arm, model=model, dp={"gradients": gradients}, **options)))
        for gradients in ("opacus", "vectorised")
    ]

    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


# -- the noise -----------------------------------------------------------------------------------

ROUNDS = 250


def noise_of_rounds(of: RunSpec) -> tuple[dict[str, np.ndarray], float]:
    """Noise of each hospital in every round at a fixed model, shape (rounds, values), and sigma C."""
    model = initial(of)
    noise = {}
    for name, site in small.hospitals().items():
        rows, _, plan, here = at_hospital(site, of, PATIENTS)
        clip = plan.mechanism.sensitivity
        exact = flat(rows.engine.clipped_sum(to_params(model), rows.x, rows.y, clip, rows.patient).gradient)
        answers = [contribution(site, of, model, number, PATIENTS)[0] for number in range(1, ROUNDS + 1)]
        noise[name] = np.stack([flat(a) * here - exact for a in answers])
    return noise, plan.mechanism.sigma * clip


def assert_sd(values: np.ndarray, sd: float) -> None:
    """Two-sided chi-square test at 1e-4."""
    statistic, n = float(np.sum(values**2)) / sd**2, values.size
    assert chi2.ppf(5e-5, n) < statistic < chi2.ppf(1 - 5e-5, n)


@pytest.mark.parametrize("honest", [2, 3])
def test_shared_noise_adds_up_to_one_noise_over_the_honest_hospitals(honest: int) -> None:
    of = spec("encrypted_aggregation", "shared", rounds=ROUNDS, dp={"honest_sites": honest})

    noise, whole = noise_of_rounds(of)

    for own in noise.values():
        assert_sd(own, whole / honest**0.5)
    assert_sd(sum(list(noise.values())[:honest]), whole)  # type: ignore[arg-type]


def test_local_noise_is_whole_at_each_hospital() -> None:
    noise, whole = noise_of_rounds(spec("federated", rounds=ROUNDS))

    for own in noise.values():
        assert_sd(own, whole)


def test_noise_differs_between_hospitals_rounds_and_seeds() -> None:
    first, _ = noise_of_rounds(spec("federated", rounds=ROUNDS))
    other, _ = noise_of_rounds(spec("federated", rounds=ROUNDS, seed=1))

    pairs = [
        (first["east"], first["west"]),
        (first["east"], first["north"]),
        (first["east"][1:], first["east"][:-1]),
        (first["east"], other["east"]),
    ]
    for a, b in pairs:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / a.size**0.5


# -- the ledger ----------------------------------------------------------------------------------


def test_the_same_round_again_gets_the_stored_answer_and_spends_nothing() -> None:
    of = spec("federated", rounds=2)
    site, model = small.hospitals()["east"], initial(of)

    once, _ = contribution(site, of, model, 1, PATIENTS)
    spent = site.ledgers[of.run_id].epsilon()
    again, _ = contribution(site, of, model, 1, PATIENTS)

    assert np.array_equal(flat(once), flat(again))
    assert site.ledgers[of.run_id].epsilon() == spent
    assert len(site.ledgers[of.run_id].events) == 1


def test_the_same_round_with_another_model_is_charged_anew_and_then_refused() -> None:
    of = spec("federated", rounds=2)
    site, model = small.hospitals()["east"], initial(of)
    moved = {name: value + 1 for name, value in model.items()}
    further = {name: value + 2 for name, value in model.items()}

    first, _ = contribution(site, of, model, 1, PATIENTS)
    second, _ = contribution(site, of, moved, 1, PATIENTS)

    assert not np.array_equal(flat(first), flat(second))
    assert site.ledgers[of.run_id].epsilon() == pytest.approx(EPSILON, abs=1e-6)
    for number, asked in ((1, further), (2, model)):
        with pytest.raises(Refused, match=r"hospital east.*beyond this run's budget of 2"):
            contribution(site, of, asked, number, PATIENTS)


def test_a_ledger_on_the_disk_goes_on_after_a_restart(tmp_path: Path) -> None:
    of = spec("federated", rounds=2)
    model = initial(of)

    def hospital() -> Site:
        return Site("east", small.rows("east"), small.CONTRACT, folder=tmp_path)

    before = hospital()
    first, _ = contribution(before, of, model, 1, PATIENTS)
    restarted = hospital()
    again, _ = contribution(restarted, of, model, 1, PATIENTS)
    contribution(restarted, of, model, 2, PATIENTS)

    assert np.array_equal(flat(first), flat(again))
    assert len(restarted.ledgers[of.run_id].events) == 2
    with pytest.raises(Refused, match="beyond this run's budget"):
        contribution(hospital(), of, {k: v + 1 for k, v in model.items()}, 2, PATIENTS)


def test_a_run_does_not_depend_on_where_its_ledgers_are(tmp_path: Path) -> None:
    of = spec("federated")
    sites = small.hospitals()
    for name, site in sites.items():
        site.folder = tmp_path / name

    on_disk, in_memory = run(of, sites), run(of)

    assert np.array_equal(weights(on_disk), weights(in_memory))
    assert guarantee(on_disk) == guarantee(in_memory)


def test_a_second_model_on_the_same_generator_spends_nothing_more() -> None:
    sites = small.hospitals()
    first = run(spec("synthetic", model="logistic"), sites)
    second = run(spec("synthetic", model="mlp"), sites)

    assert second.privacy.ledgers == first.privacy.ledgers
    assert [len(ledger.events) for site in sites.values() for ledger in site.ledgers.values()] == [1, 1, 1]


def test_another_seed_fits_another_generator_with_a_ledger_of_its_own() -> None:
    sites = small.hospitals()
    run(spec("synthetic"), sites)
    run(spec("synthetic", seed=1), sites)

    assert [len(site.ledgers) for site in sites.values()] == [2, 2, 2]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_hospitals_lifetime_cap_holds_over_runs(tmp_path: Path, on_disk: bool) -> None:
    sites = small.hospitals()
    sites["north"].policy = sites["north"].policy.model_copy(update={"lifetime_epsilon": 2.5})
    if on_disk:
        sites["north"].folder = tmp_path
    run(spec("federated"), sites)

    with pytest.raises(SiteFailed, match=r"north.*lifetime privacy budget of epsilon 2\.5.*only its owner"):
        run(spec("federated", seed=1), sites)


def test_the_lifetime_cap_is_counted_at_the_hospitals_own_delta() -> None:
    """At a delta that each run brings, one with a large delta would find room that the cap doesn't have."""
    site = small.hospitals()["east"]
    site.policy = site.policy.model_copy(update={"lifetime_epsilon": 1.0, "lifetime_delta": 1e-5})
    spent = []
    for seed, (epsilon, delta) in enumerate([(0.5, 1e-5), *[(0.3, 1e-3)] * 20]):
        of = spec("federated", rounds=1, seed=seed, dp={"epsilon": epsilon, "delta": delta})
        with contextlib.suppress(Refused):
            contribution(site, of, initial(of), 1, PATIENTS)
            spent += [event.mechanism for event in site.ledgers[of.run_id].events]
    assert compose(spent, 1e-5) <= 1.0 + 1e-6


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["federated", "synthetic", "anonymised"])
def test_no_exact_losses_of_validation_patients_under_dp(arm: str) -> None:
    of = replace(small.spec(arm), dp=DpSpec(EPSILON))
    asked = Request("validate", "validation", of, arrays=initial(of))
    site = small.hospitals()["east"]

    with pytest.raises(Refused, match="hospital east: a run with differential privacy gets no exact losses"):
        registry.handlers(arm)["validate"](site, asked)


def test_no_arm_without_a_mechanism_hands_rows_over_under_dp() -> None:
    """Whatever the coordinator's own checks would have said."""
    site = small.hospitals()["east"]
    of = replace(small.spec("anonymised"), dp=DpSpec(EPSILON))
    with pytest.raises(Refused, match="gets no exact rows"):
        registry.handlers("anonymised")["records"](site, Request("records", "training", of))
    of = replace(small.spec("pooled"), dp=DpSpec(EPSILON, noise="central"))
    with pytest.raises(Refused, match="gets no exact rows of validation patients"):
        registry.handlers("pooled")["records"](site, Request("records", "validation", of, extra={"part": "validation"}))
    from pettoolkit.arms.encrypted_records.inside import design

    with pytest.raises(Refused, match="gets no exact rows"):
        design(site, replace(small.spec("encrypted_records"), dp=DpSpec(EPSILON)), 10)


@pytest.mark.parametrize(("arm", "noise"), [case for case in CASES if case[0] != "pooled"])
def test_a_delta_that_is_no_protection_is_refused_by_the_hospital(arm: str, noise: str) -> None:
    with pytest.raises(SiteFailed, match=r"east.*dp\.delta: 0\.01 must be below 1/1\d\d"):
        run(spec(arm, noise, dp={"delta": 0.01}))


def test_a_delta_that_is_no_protection_is_refused_by_the_coordinator_of_pooled() -> None:
    with pytest.raises(Refused, match=r"dp\.delta: 0\.01 must be below 1/4\d\d"):
        run(spec("pooled", dp={"delta": 0.01}))


@pytest.mark.parametrize(
    ("dp", "options", "line"),
    [
        ({"honest_sites": 4}, {}, r"dp\.honest_sites: must lie between 1 and the 3 hospitals.*got 4"),
        ({"honest_sites": 3}, {"strategy": "fedavg"}, r"dp\.noise: shared noise protects one clipped sum a round"),
        ({"epsilon": -1.0}, {}, r"dp\.epsilon: must be greater than 0 \(got -1"),
        ({"batch": 1000}, {}, r"dp\.batch: 1000 patients can't be sampled from 1\d\d"),
    ],
)
def test_hospitals_refuse_what_would_not_mean_what_it_says(dp: Any, options: Any, line: str) -> None:
    """Whatever the coordinator's own checks would have said: here they are left out."""
    of = spec("encrypted_aggregation", "shared", dp=dp, **options)
    site = small.hospitals()["east"]

    with pytest.raises(Refused, match=line):
        at_hospital(site, of, PATIENTS)
    assert not site.ledgers


@pytest.mark.parametrize(
    ("arm", "noise", "options"),
    [
        ("encrypted_aggregation", "shared", {}),
        ("encrypted_statistics", "shared", {}),
        ("encrypted_statistics", "shared", {"method": "one_shot", "rounds": 1}),
        ("encrypted_aggregation", "local", {"strategy": "fedavg", "rounds": 5}),
    ],
)
def test_a_budget_whose_noise_no_encryption_has_room_for_is_named(arm: str, noise: str, options: Any) -> None:
    of = spec(arm, noise, dp={"epsilon": 1e-6}, **options)
    sites = small.hospitals(of)

    with pytest.raises(SiteFailed, match=r"east.*dp\.epsilon: 1e-06 takes .*noise.*write a larger epsilon"):
        run(of, sites)
    if noise == "shared":  # where the refusal could tell of one hospital's part, nothing was answered before it
        assert not any(ledger.events for site in sites.values() for ledger in site.ledgers.values())


@pytest.mark.parametrize("arm", ["federated", "local"])
def test_a_hospital_never_sends_a_part_of_the_noise_in_the_clear(arm: str) -> None:
    with pytest.raises(SiteFailed, match=rf"east.*dp\.noise: {arm} sends each hospital's part in the clear"):
        run(spec(arm, "shared"))


def written(tmp_path: Path, arm: str, dp: str) -> list[str]:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\narms:\n  - {{{arm}}}\ndp: {{{dp}}}\n", encoding="utf-8")
    with pytest.raises(BadInput) as found:
        expand(load(path), small.SITES)
    return [line.removeprefix(str(path)) for line in found.value.lines]


@pytest.mark.parametrize(
    ("arm", "dp", "line"),
    [
        ("arm: federated", "epsilon: -1", ":4: dp.epsilon: must be greater than 0 (got -1)"),
        ("arm: federated", "epsilon: 0", ":4: dp.epsilon: must be greater than 0 (got 0)"),
        ("arm: federated", "epsilon: 1, delta: 1.0", ":4: dp.delta: must be less than 1 (got 1.0)"),
        (
            "arm: encrypted_aggregation",
            "epsilon: 1, honest_sites: 4",
            ":4: dp.honest_sites: must be at most 3, the hospitals (got 4)",
        ),
        ("arm: encrypted_aggregation, strategy: fedavg", "epsilon: 1", ":3: arms.0: shared noise covers one clipped"),
        ("arm: federated", "epsilon: 1, noise: shared", ":3: arms.0: shared noise needs a sum whose parts nobody sees"),
        ("arm: encrypted_records", "epsilon: 1", ":3: arms.0: differential privacy is not possible with encrypted_rec"),
        ("arm: synthetic", "epsilon: 1", ":3: arms.0: generator gaussian_copula has no differential privacy"),
    ],
)
def test_what_can_be_seen_in_the_file_is_refused_with_its_line(tmp_path: Path, arm: str, dp: str, line: str) -> None:
    (found,) = written(tmp_path, arm, dp)

    assert found.startswith(line)


@pytest.mark.parametrize("on_failure", ["fail", "drop"])
def test_a_missing_hospital_under_shared_noise_refuses_the_round(on_failure: Any, monkeypatch: Any) -> None:
    """Its part of the noise is missing: the others must not let the sum out as if it were there."""
    from pettoolkit.arms import rounds

    whole = rounds._private_contribution

    def dies_in_round_two(site: Site, of: RunSpec, model: Any, number: int, patients: int) -> Any:
        if (site.name, number) == ("north", 2):
            raise OSError("gone")
        return whole(site, of, model, number, patients)

    monkeypatch.setattr(rounds, "_private_contribution", dies_in_round_two)
    of = spec("encrypted_aggregation", "shared")
    sites = small.hospitals(of)

    with small.grid(sites) as grid, pytest.raises(PetError, match=r"north|2 hospital\(s\), 3 are expected"):
        coordinate(MeteredGrid(grid, on_failure=on_failure, min_sites=2), of)
    assert not any(f"{of.run_id}/round/2" in str(key) for site in sites.values() for key in vars(site.store)["_values"])


def test_a_hospital_that_was_asked_nothing_private_has_no_ledger_to_show() -> None:
    of = spec("federated")
    with pytest.raises(Refused, match="hospital east: it has no ledger of this run"):
        private.ledger_summary(small.hospitals()["east"], Request("ledger", "release", of))


def test_models_are_shared_or_each_hospitals_own_as_without_dp() -> None:
    assert set(run(spec("local")).models.by_site) == set(small.SITES)
    assert set(run(spec("federated")).models.by_site) == {Models.SHARED}
