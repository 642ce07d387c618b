"""The patient is the unit: a patient's rows are bounded, drawn and counted together, in every arm with a guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pettoolkit.arms import private
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of, start
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.errors import PetError, SiteFailed
from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pettoolkit.hospital.site import Site
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.noise import Draw, SeededNoise
from pettoolkit.privacy.optimiser import DpTraining
from pettoolkit.records import DpSpec, Guarantee, Outcome, RunSpec, from_json
from tests import small_cohort as small

CLIP = 0.4
ONE_STEP = DpTraining(steps=1, clip=CLIP, learning_rate=1.0, average_from=0.0)
SILENT = 1e8
"""An epsilon with next to no noise: what is left of a model's first step is the sum of clipped gradients."""
ADVERSARY, ROWS = "adversary", 60
TRAINED = ("local", "pooled", "federated", "encrypted_aggregation")
REFUSING = ("synthetic", "encrypted_statistics")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "local": {"learning_rate": 1.0},
    "pooled": {"learning_rate": 1.0},
    "federated": {"strategy": "fedsgd", "rounds": 1, "learning_rate": 1.0},
    "encrypted_aggregation": {"strategy": "fedsgd", "rounds": 1, "learning_rate": 1.0},
    "encrypted_statistics": {"rounds": 3, "clip": 2.0},
}
BARE = small.CONTRACT.model_copy(update={"columns": small.CONTRACT.columns[1:]})


def spec(arm: str, epsilon: float = SILENT, **dp: Any) -> RunSpec:
    noise = {"pooled": "central", "encrypted_aggregation": "shared", "encrypted_statistics": "shared"}.get(arm, "local")
    budget = DpSpec(epsilon, noise=noise, honest_sites=3 if noise == "shared" else None)
    return small.spec(arm, dp=replace(budget, **dp), **OPTIONS.get(arm, {}))


def several(site: str, n: int = 250) -> pd.DataFrame:
    """Patients of one to three rows each, and in the east one of very many, all alike and far out."""
    rows = small.rows(site, n)
    rows["patient"] = [f"{site}-{i // 2 if i % 5 else i // 4}" for i in range(n)]
    if site == "east":
        worst = rows.iloc[[0] * ROWS].assign(patient=ADVERSARY, age=100.0, lactate=30.0, pulse=200.0, y=np.int8(1))
        rows = pd.concat([rows, worst], ignore_index=True).sample(frac=1, random_state=0, ignore_index=True)
    return rows


def hospitals(of: RunSpec) -> dict[str, Site]:
    return small.hospitals(of if of.arm.startswith("encrypted") else None, **{s: several(s) for s in small.SITES})


def seed_that_trains_the_adversary() -> int:
    """A split in which the adversary is among the training patients."""
    site = hospitals(spec("local"))["east"]
    for seed in range(20):
        of = replace(spec("local"), seed=seed)
        if ADVERSARY in site.patients()[site.index(of, "train")]:
            return seed
    raise AssertionError("no such split")


SEED = seed_that_trains_the_adversary()


def run(of: RunSpec, sites: Mapping[str, Site] | None = None) -> Outcome:
    with small.grid(sites or hospitals(of)) as grid:
        return coordinate(grid, of)


def flat(arrays: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


def clipped_by_patient(of: RunSpec, site: Site, *, by_row: bool = False, without: str = "") -> np.ndarray:
    """Slow and obvious: autograd row by row, summed per patient, cut down to C, summed."""
    rows = site.rows.iloc[site.index(of, "train")]
    net, initial = start(of, contract_of(of))
    contract = site.narrowed(of)
    gradients: dict[Any, np.ndarray] = {}
    for i, (whose, x, y) in enumerate(
        zip(rows["patient"], encode(rows, contract), outcome(rows, contract), strict=True)
    ):
        params = {name: value.clone().requires_grad_() for name, value in initial.items()}
        net.loss(params, torch.from_numpy(x)[None], torch.tensor([y])).backward()
        if whose != without:
            key = i if by_row else whose
            gradients[key] = gradients.get(key, 0.0) + flat({k: v.grad for k, v in params.items()})
    return np.sum([g * min(1.0, CLIP / np.linalg.norm(g)) for g in gradients.values()], axis=0)


def sums(of: RunSpec, found: Outcome, sites: Mapping[str, Site]) -> dict[str, np.ndarray]:
    """What the first step moved the model by, as sums over patients: per hospital, or of all hospitals."""
    _, initial = start(of, contract_of(of))
    count = {name: site.training_patients(of)[1] for name, site in sites.items()}
    moved = {key: flat(initial) - flat(w.unpack()) for key, w in found.models.by_site.items()}
    return {key: step * count.get(key, sum(count.values())) for key, step in moved.items()}


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "settings_for", lambda *_, **__: ONE_STEP)


@pytest.mark.parametrize("gradients", ["vectorised", "opacus"])
@pytest.mark.parametrize("arm", TRAINED)
def test_a_patient_with_many_rows_contributes_no_more_than_anybody(arm: str, gradients: str, one_step: None) -> None:
    of = replace(spec(arm, gradients=gradients), seed=SEED)
    sites = hospitals(of)
    exact, others, by_row = (
        {name: clipped_by_patient(of, site, **how) for name, site in sites.items()}
        for how in ({}, {"without": ADVERSARY}, {"by_row": True})
    )

    found = sums(of, run(of, sites), sites)

    tolerance = 0.05 if arm.startswith("encrypted") else 1e-2  # flooding; the noise that is left
    for key, moved in found.items():
        expected, rest, wrong = (part[key] if key in part else sum(part.values()) for part in (exact, others, by_row))
        np.testing.assert_allclose(moved, expected, atol=tolerance)
        assert np.linalg.norm(moved - rest) <= CLIP + 3 * tolerance
        if key in ("east", "*"):
            assert np.linalg.norm(wrong - expected) > 10 * CLIP  # what clipping rows would have let through


@pytest.mark.parametrize("arm", TRAINED[1:])  # accounting for samples takes a second
def test_patients_are_counted_not_rows(arm: str) -> None:
    of = replace(spec(arm, 2.0, batch=16), seed=SEED)
    sites = hospitals(of)
    rows, patients = ({n: f(s) for n, s in sites.items()} for f in (lambda s: len(s.index(of, "train")), count_of(of)))
    assert all(rows[name] > 1.5 * patients[name] for name in sites)

    found = run(of, sites)

    guarantee = found.privacy.guarantee
    assert isinstance(guarantee, Guarantee)
    assert 1.9 < guarantee.epsilon <= 2.0
    total = sum(patients.values())
    for name, ledger in found.privacy.ledgers.items():
        (mechanism,) = [from_json(Mechanism, m) for m in ledger["mechanisms"]]
        places = {"coordinator": total, **patients}
        whole = total // 3 if arm == "encrypted_aggregation" else places[name]
        assert mechanism.q == 16 / whole


def count_of(of: RunSpec) -> Any:
    return lambda site: site.training_patients(of)[1]


def test_delta_is_held_against_patients_not_rows() -> None:
    of = replace(spec("federated", 2.0), seed=SEED)
    east = hospitals(of)["east"]
    rows, patients = len(east.index(of, "train")), count_of(of)(east)
    delta = 1 / ((rows + patients) // 2)

    run(replace(of, dp=replace(of.dp, delta=delta)))  # type: ignore[type-var]
    with pytest.raises(SiteFailed, match=rf"must be below 1/{patients}"):
        run(replace(of, dp=replace(of.dp, delta=1 / patients)), {"east": east, **hospitals(of)})  # type: ignore[type-var]


def test_a_sample_takes_all_rows_of_a_patient_or_none(one_step: None) -> None:
    of = replace(spec("federated", 2.0, batch=16), seed=SEED)
    rows, _, plan, patients = private.at_hospital(hospitals(of)["east"], of, 300)
    assert rows.patient is not None
    sizes = torch.bincount(rows.patient)
    draws = []
    for number in range(300):
        _, _, drawn = rows._sample(plan.mechanism.q, Draw("training", number))
        assert drawn is not None
        whose, count = torch.unique(drawn, return_counts=True)
        assert torch.equal(count, sizes[whose])
        draws.append(len(whose))
    sd = (16 * (1 - 16 / patients) / 300) ** 0.5
    assert abs(np.mean(draws) - 16) < 5 * sd


@pytest.mark.parametrize("arm", REFUSING)
def test_what_bounds_rows_alone_refuses_patients_with_several(arm: str) -> None:
    with pytest.raises(SiteFailed, match=r"several rows.*(federated|encrypted_aggregation)") as refused:
        run(replace(spec(arm, 2.0), seed=SEED))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("arm", [*TRAINED, *REFUSING])
def test_a_table_that_does_not_say_whose_rows_they_are_gets_no_guarantee(arm: str) -> None:
    of = replace(spec(arm, 2.0), contract=BARE.model_dump(mode="json"), contract_digest=BARE.digest())
    sites = {
        name: replace(site, rows=site.rows.drop(columns="patient"), contract=BARE)
        for name, site in small.hospitals(of if arm.startswith("encrypted") else None).items()
    }

    with pytest.raises(PetError, match="no column with role patient_id, so nobody knows"):
        run(of, sites)
    assert not any(ledger.events for site in sites.values() for ledger in site.ledgers.values())


def test_pooled_records_carry_numbers_for_patients_and_no_ids() -> None:
    of = replace(spec("pooled", 2.0), seed=SEED)
    from pettoolkit.arms.pooled.inside import records
    from pettoolkit.hospital.request import Request

    sent = records(hospitals(of)["east"], Request("records", "training", of, extra={"part": "train"})).payload.rows  # type: ignore[union-attr]
    plain = records(
        hospitals(of)["east"], Request("records", "training", replace(of, dp=None), extra={"part": "train"})
    ).payload.rows  # type: ignore[union-attr]
    assert pd.api.types.is_integer_dtype(sent["patient"])
    pd.testing.assert_frame_equal(sent.drop(columns="patient"), plain)


# -- where the noise came from -------------------------------------------------------------------


@pytest.mark.parametrize("arm", [*TRAINED, *REFUSING])
@pytest.mark.parametrize("deployed", [True, False])
def test_the_statement_says_where_the_noise_came_from(arm: str, deployed: bool) -> None:
    of = spec(arm, 2.0)
    sites = small.hospitals(of if arm.startswith("encrypted") else None)
    for site in sites.values():
        site.system_noise = deployed

    first, again = run(of, sites), run(replace(of, experiment="again"), small.hospitals(of))
    del again

    guarantee = first.privacy.guarantee
    assert isinstance(guarantee, Guarantee)
    assert guarantee.simulated_noise is not deployed
    assert ("simulation: epsilon is what a deployment would give" in guarantee.assumptions) is not deployed
    assert {ledger["simulated_noise"] for ledger in first.privacy.ledgers.values()} == {not deployed}


def test_the_coordinator_draws_from_the_system_where_hospitals_are_deployed() -> None:
    """A seed that everybody knows would let everybody subtract the noise."""
    sites = small.hospitals()
    seeded = [flat(run(spec("pooled", 2.0), sites).models.by_site["*"].unpack()) for _ in range(2)]
    sites["north"].system_noise = True  # one is enough
    deployed = [flat(run(spec("pooled", 2.0), sites).models.by_site["*"].unpack()) for _ in range(2)]

    assert np.array_equal(*seeded)
    assert not np.array_equal(*deployed)


def test_one_hospital_with_noise_from_a_seed_makes_it_a_simulation() -> None:
    sites = small.hospitals()
    sites["north"].system_noise = sites["east"].system_noise = True
    guarantee = run(spec("federated", 2.0), sites).privacy.guarantee
    assert isinstance(guarantee, Guarantee)
    assert guarantee.simulated_noise


# -- from files to figures -----------------------------------------------------------------------

CONTRACT = """\
name: visits
prevalence: 0.2
columns:
  - {name: patient, role: patient_id}
  - {name: age, low: 18, high: 100, integer: true, missing: never, quasi_identifier: true}
  - {name: sex, kind: binary, missing: never, quasi_identifier: true}
  - {name: lactate, low: 0.01, high: 100, log: true, sensitive: true}
  - {name: pulse, low: 0, high: 250}
  - {name: y, kind: binary, role: outcome}
"""
EXPERIMENT = """\
name: visits
task: table-outcome
sites: {source: tables, path: DATA}
arms: [{arm: local}, {arm: pooled}, {arm: federated}, {arm: encrypted_aggregation}]
dp: {delta: 1.0e-4, epsilon: 3}
MATRIX
seeds: [0]
engine: inline
tracking: {dir: MLRUNS}
"""


def experiment(folder: Path, database: Path, contract: str = CONTRACT, matrix: str = "") -> Path:
    data, mlruns = folder / "data", folder / "mlruns"
    data.mkdir()
    mlruns.mkdir()
    (mlruns / database.name).write_bytes(database.read_bytes())
    (data / "contract.yaml").write_text(contract)
    for site in small.SITES:
        several(site).to_csv(data / f"{site}.csv", index=False)
    path = folder / "visits.yaml"
    text = EXPERIMENT.replace("DATA", str(data)).replace("MLRUNS", str(mlruns)).replace("MATRIX", matrix)
    path.write_text(text)
    return path


def test_a_table_with_several_rows_a_patient_goes_through_every_arm(tmp_path: Path, empty_database: Path) -> None:
    found = runner.run(load(experiment(tmp_path, empty_database)))

    assert {(cell.spec.arm, cell.status) for cell in found.cells} == {(arm, "done") for arm in TRAINED}
    for cell in found.cells:
        assert cell.result is not None
        assert isinstance(cell.result.privacy.guarantee, Guarantee)
        assert cell.result.privacy.guarantee.epsilon == pytest.approx(3.0, abs=0.01)
        assert cell.result.per_site["west"]["patients"] < 0.8 * 0.2 * 250


def test_without_a_patient_id_it_is_refused_where_it_is_written(tmp_path: Path, empty_database: Path) -> None:
    path = experiment(tmp_path, empty_database, CONTRACT.replace("role: patient_id", "role: ignored"))
    with pytest.raises(PetError, match=r"visits\.yaml:5: dp: the contract has no column with role patient_id"):
        runner.run(load(path))


def test_a_matrix_keeps_its_cells_without_differential_privacy(tmp_path: Path, empty_database: Path) -> None:
    contract = CONTRACT.replace("role: patient_id", "role: ignored")
    path = experiment(tmp_path, empty_database, contract, "matrix: {dp.epsilon: [null, 3]}")
    planned = runner.plan(load(path))
    assert {(cell.spec.dp is None, cell.status) for cell in planned} == {(True, "to run"), (False, "excluded")}
    assert {cell.reason for cell in planned if cell.spec.dp} == {
        "the contract has no column with role patient_id, so nobody knows which rows are the same patient's; "
        "name it (where each row is another patient, a column that numbers the rows will do)"
    }


def test_the_seed_of_the_noise_is_no_patients(one_step: None) -> None:
    """The helper above leaves next to no noise: it is drawn, and it is small."""
    of = replace(spec("federated"), seed=SEED)
    _, _, plan, _ = private.at_hospital(hospitals(of)["east"], of, 300)
    sd = plan.mechanism.sigma * CLIP
    assert 0 < sd < 1e-3
    assert np.abs(SeededNoise(SEED, "east").normals(Draw("training", 1), 10)).max() * sd < 1e-2
