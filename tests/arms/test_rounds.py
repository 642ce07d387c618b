"""What a hospital answers in a private round: the same refusals whoever its patients are, and noise of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.arms.common import start
from pettoolkit.arms.rounds import contribution, settings_of
from pettoolkit.cohort.features import feature_names
from pettoolkit.errors import Refused
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_arrays
from pettoolkit.records import DpSpec, RunSpec
from tests import small_cohort as small

PATIENTS = 411


def spec(arm: str = "federated", strategy: str = "fedsgd", rounds: int = 5, **options: object) -> RunSpec:
    noise = "shared" if arm == "encrypted_aggregation" else "local"
    dp = DpSpec(2.0, noise=noise, honest_sites=3 if noise == "shared" else None)
    return small.spec(arm, dp=dp, strategy=strategy, rounds=rounds, **options)


def initial(of: RunSpec) -> dict[str, np.ndarray]:
    return to_arrays(start(of, small.CONTRACT)[1])


def hospitals_that_differ_in_one_patient(of: RunSpec) -> tuple[Site, Site]:
    """In the second one patient, and nobody else, has no measured lactate."""
    rows = small.rows("east")
    rows["lactate"] = 1.0
    without = rows.copy()
    without.loc[Site("east", rows, small.CONTRACT).index(of, "train")[7], "lactate"] = np.nan
    return Site("east", rows, small.CONTRACT), Site("east", without, small.CONTRACT)


@pytest.mark.parametrize(
    ("arm", "strategy"), [("federated", "fedsgd"), ("federated", "fedavg"), ("encrypted_aggregation", "fedsgd")]
)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_refusal_tells_nothing_about_a_patient(arm: str, strategy: str, value: float) -> None:
    """An infinite weight on "lactate is missing" spoils the gradient of the one patient in whom it is."""
    of = spec(arm, strategy, local_epochs=1)
    evil = initial(of)
    evil["layer0.weight"][0, feature_names(small.CONTRACT).index("lactate?")] = value
    said = []
    for site in hospitals_that_differ_in_one_patient(of):
        with pytest.raises(Refused, match=r"not finite \(layer0\.weight\)") as refused:
            contribution(site, of, evil, 1, PATIENTS)
        said.append(str(refused.value))
        assert not site.ledgers, "nothing was asked of the ledger"
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"layer0.weight": np.zeros((1, 3), np.float32)}, r"layer0\.weight .* is \(1, 3\), it should be \(1, "),
        ({"layer9.bias": np.zeros(1, np.float32)}, r"layer9\.bias .* it should be unknown here"),
        ({"layer0.bias": None}, r"layer0\.bias .* is missing, it should be \(1,\)"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_rows_are_read(change: dict[str, np.ndarray], line: str) -> None:
    of = spec()
    model = {name: value for name, value in (initial(of) | change).items() if value is not None}
    site = Site("east", small.rows("east"), small.CONTRACT)

    with pytest.raises(Refused, match=line):
        contribution(site, of, model, 1, PATIENTS)
    assert not site.ledgers


def test_a_huge_but_finite_model_is_answered() -> None:
    """Gradients that overflow contribute nothing, and the answer is noise: not a refusal, which would tell."""
    of = spec()
    huge = {name: np.full_like(value, 3e38) for name, value in initial(of).items()}
    for site in hospitals_that_differ_in_one_patient(of):
        arrays, _ = contribution(site, of, huge, 1, PATIENTS)
        assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_total_below_the_hospitals_own_count_is_refused() -> None:
    of = spec("encrypted_aggregation")
    site = Site("east", small.rows("east"), small.CONTRACT)

    with pytest.raises(Refused, match=r"east: the run says that 5 patients train in all, and 1\d\d do so here"):
        contribution(site, of, initial(of), 1, 5)
    assert not site.ledgers


@pytest.mark.parametrize("epochs", [60, 200])
def test_local_steps_that_would_leave_a_part_of_the_budget_are_refused(epochs: int) -> None:
    of = spec(strategy="fedavg", local_epochs=epochs, learning_rate=None)
    of = replace(of, options={**of.options, "rounds": None})

    with pytest.raises(Refused, match=f"local_epochs: {epochs} steps a round do not divide the 100"):
        settings_of(of, PATIENTS)
    assert settings_of(replace(of, options={**of.options, "local_epochs": 20}), PATIENTS)["rounds"] == 5


def test_a_hospital_refuses_a_pull_that_private_steps_do_not_have() -> None:
    of = spec(strategy="fedprox")
    with pytest.raises(Refused, match="hospital east: fedprox: steps with differential privacy have no pull"):
        contribution(Site("east", small.rows("east"), small.CONTRACT), of, initial(of), 1, PATIENTS)


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


def test_local_steps_draw_other_noise_in_each_round() -> None:
    """From the same model, two rounds differ by their noise alone: the same noise twice would cancel."""
    of = spec(strategy="fedavg", rounds=40, local_epochs=1)
    site, model = Site("east", small.rows("east"), small.CONTRACT), initial(of)

    answers = [contribution(site, of, model, number, PATIENTS)[0] for number in range(1, 41)]
    moves = np.stack([flat(arrays) - flat(model) for arrays in answers])

    assert len(np.unique(moves, axis=0)) == len(moves)
    spread = moves - moves.mean(axis=0)
    correlation = np.corrcoef(spread[1:].ravel(), spread[:-1].ravel())[0, 1]
    assert abs(correlation) < 5 / spread[1:].size ** 0.5 + 1 / 40  # false alarm below 1e-5; the mean takes 1/40


def test_local_steps_within_a_round_draw_other_noise_each() -> None:
    """With the same noise in all of a round's steps the noise of its model would grow with steps, not their root."""
    spreads = []
    for steps in (1, 16):
        of = spec(strategy="fedavg", rounds=16 // steps * 8, local_epochs=steps, learning_rate=1e-3)
        model = initial(of)
        moved = []
        for seed in range(8):
            site = Site("east", small.rows("east"), small.CONTRACT)
            seeded = replace(of, seed=seed)
            for number in range(1, 6):
                moved.append(flat(contribution(site, seeded, model, number, PATIENTS)[0]) - flat(model))
        spreads.append(np.std(np.stack(moved) - np.mean(moved, axis=0)))
    # 128 noisy steps in all both times, so one step's noise is the same and 16 of them have 4 times its SD
    assert spreads[1] / spreads[0] == pytest.approx(4.0, rel=0.25)
