"""Poisson batches (``dp.batch``) in the arms: what is stated is what other accountants find, and is really done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from pettoolkit.arms import private
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import start
from pettoolkit.arms.rounds import contribution
from pettoolkit.experiment.load import load
from pettoolkit.experiment.matrix import expand
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_arrays, to_params
from pettoolkit.privacy.accounting import prv_epsilon
from pettoolkit.privacy.events import SUBSAMPLED, Mechanism
from pettoolkit.records import DpSpec, Guarantee, RunSpec, from_json
from tests import small_cohort as small

DELTA = 1e-5
SIZES = {"east": 160, "north": 250, "west": 500}
"""Hospitals of unequal size: their sampling probabilities would differ."""


def spec(arm: str, noise: str, epsilon: float = 2.0, batch: int | None = 32, **options: Any) -> RunSpec:
    honest = 3 if noise == "shared" else None
    written = {"strategy": "fedsgd", "rounds": 6, **options} if arm not in ("local", "pooled") else options
    return small.spec(arm, dp=DpSpec(epsilon, DELTA, noise, honest, batch=batch), **written)


def hospitals(of: RunSpec) -> dict[str, Site]:
    key = of if of.arm.startswith("encrypted") else None
    return small.hospitals(key, **{name: small.rows(name, n) for name, n in SIZES.items()})


def mechanism_of(ledger: Mapping[str, Any]) -> Mechanism:
    (mechanism,) = [from_json(Mechanism, m) for m in ledger["mechanisms"]]
    return mechanism


def flat(arrays: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


@pytest.mark.parametrize(
    ("arm", "noise", "options", "steps"),
    [
        ("pooled", "central", {}, 100),
        ("federated", "local", {"strategy": "fedavg", "rounds": 3, "local_epochs": 4}, 12),
        ("encrypted_aggregation", "shared", {}, 6),
    ],
)
def test_the_stated_epsilon_is_what_other_accountants_find(
    arm: str, noise: str, options: dict[str, Any], steps: int
) -> None:
    of = spec(arm, noise, **options)
    sites = hospitals(of)
    with small.grid(sites) as grid:
        found = coordinate(grid, of)

    stated = found.privacy.guarantee
    assert isinstance(stated, Guarantee)
    assert stated.accountant == "PLD"
    for ledger in found.privacy.ledgers.values():
        mechanism = mechanism_of(ledger)
        assert (mechanism.kind, mechanism.sampling, mechanism.steps) == (SUBSAMPLED, "poisson", steps)
    if noise == "local":  # each hospital by its own size
        sampled = {name: mechanism_of(ledger).q for name, ledger in found.privacy.ledgers.items()}
        assert sampled == {name: 32 / site.training_patients(of)[1] for name, site in sites.items()}
    mechanism = max((mechanism_of(ledger) for ledger in found.privacy.ledgers.values()), key=lambda m: m.q)
    accountant = PLDAccountant()
    accountant.compose(dp_event.PoissonSampledDpEvent(mechanism.q, dp_event.GaussianDpEvent(mechanism.sigma)), steps)
    assert stated.epsilon == pytest.approx(accountant.get_epsilon(DELTA), abs=0.02)
    assert stated.epsilon == pytest.approx(prv_epsilon(mechanism.sigma, mechanism.q, steps, DELTA), abs=0.03)
    assert 1.95 < stated.epsilon <= 2.0


def test_noise_that_is_shared_out_is_one_noise_however_unequal_hospitals_are() -> None:
    """With probabilities of their own hospitals would calibrate to different sigmas, and the largest get too little."""
    of = spec("encrypted_aggregation", "shared")
    sites = hospitals(of)
    patients = {name: site.training_patients(of)[1] for name, site in sites.items()}
    total = sum(patients.values())
    plans = {name: private.at_hospital(site, of, total)[2] for name, site in sites.items()}
    assert len({plan.mechanism for plan in plans.values()}) == 1

    mechanism = plans["east"].mechanism
    model = to_arrays(start(of, small.CONTRACT)[1])
    # the noise on what is decrypted, against the most that one patient moves it by
    noise = np.zeros(len(patients))
    for i, (name, site) in enumerate(sites.items()):
        rows = private.at_hospital(site, of, total)[0]
        empty = replace(rows, x=rows.x[:0], y=rows.y[:0])
        own = [flat(empty.noisy_sum(to_params(model), mechanism, draw)) for draw in draws()]
        noise[i] = np.var(np.concatenate(own))
        sent, weight = contribution(site, of, model, 1, total)
        assert weight == patients[name]
        assert np.abs(flat(sent)).max() * weight * mechanism.q < weight  # divided by the expected size, once
    moves = mechanism.sensitivity
    assert np.sqrt(noise.sum()) / moves == pytest.approx(mechanism.sigma, rel=0.05)


def draws() -> list[Any]:
    from pettoolkit.privacy.noise import Draw

    return [Draw("training", number) for number in range(600)]


def test_an_experiment_varies_the_batch(tmp_path: Any) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\narms: [{arm: federated}]\ndp: {epsilon: 1}\nmatrix: {dp.batch: [null, 64]}\n")
    assert [cell.spec.dp.batch for cell in expand(load(path), small.SITES) if cell.spec.dp] == [None, 64]
