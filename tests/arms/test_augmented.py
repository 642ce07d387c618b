"""The augmented arm, and gradient boosting in every arm that can train it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.augmented.mixed import GENERATOR_SHARE
from pettoolkit.arms.registry import ARMS
from pettoolkit.errors import BadInput, Refused, SiteFailed
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.execute import execute
from pettoolkit.experiment.matrix import expand
from pettoolkit.hospital.site import Site
from pettoolkit.privacy.accounting import compose, gaussian_mu
from pettoolkit.records import DpSpec, Models, Outcome
from tests import small_cohort as small

BOOSTED = ("local", "pooled", "anonymised", "synthetic", "augmented")
FEW_TREES = {"epochs": 15, "learning_rate": 0.2}


def run(arm: str = "augmented", tables: dict[str, pd.DataFrame] | None = None, **options: object) -> Outcome:
    with small.grid(small.hospitals(**(tables or {}))) as grid:
        return coordinate(grid, small.spec(arm, **options))  # type: ignore[arg-type]


def test_each_hospital_keeps_a_model_of_its_own() -> None:
    outcome = run()
    assert set(outcome.models.by_site) == set(small.SITES)
    assert not outcome.models.shared


def test_a_hospital_gets_the_others_rows_and_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.arms.augmented import inside

    got: dict[str, int] = {}
    whole = inside.encoded

    def encoded(table, contract):  # type: ignore[no-untyped-def]
        got[str(len(got))] = len(table)
        return whole(table, contract)

    monkeypatch.setattr(inside, "encoded", encoded)
    sites = small.hospitals()
    own = [len(sites[name].index(small.spec("augmented"), "train")) for name in small.SITES]
    run(rows=40)

    assert list(got.values()) == [80] * 3
    assert min(own) > 80  # so that it is not the hospital's own table that was counted


def test_rows_of_the_others_change_what_a_hospital_learns() -> None:
    alone, helped = run("local"), run()
    for site in small.SITES:
        a, b = (o.models.by_site[site].unpack()["layer0.weight"] for o in (alone, helped))
        assert not np.allclose(a, b)


def test_own_rows_come_as_often_as_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.arms.augmented import inside

    trained: list[int] = []
    whole = inside.train_shifted

    def train_shifted(spec, contract, rows, *rest):  # type: ignore[no-untyped-def]
        trained.append(len(rows))
        return whole(spec, contract, rows, *rest)

    monkeypatch.setattr(inside, "train_shifted", train_shifted)
    sites = small.hospitals()
    own = [len(sites[name].index(small.spec("augmented"), "train")) for name in small.SITES]

    run(rows=40, own_weight=3)

    assert trained == [3 * n + 80 for n in own]


def test_what_goes_in_is_metered_as_synthetic_rows() -> None:
    traffic = run().exposure.traffic
    into = {t.kind for t in traffic if t.direction == "in" and t.purpose == "training"}
    assert "synthetic_records" in into
    assert {t.kind for t in traffic if t.direction == "out" and t.purpose == "evaluation"} == {"model"}


def test_others_help_a_small_hospital() -> None:
    from pettoolkit.records import RunSpec

    def auroc(arm: str) -> float:
        spec: RunSpec = replace(small.spec(arm, model="mlp"), patients_per_site=20)
        tables = {name: small.rows(name, 600) for name in small.SITES}
        with small.grid(small.hospitals(**tables)) as grid:
            return execute(grid, replace(spec), "hash").result.metrics["utility/auroc"]

    assert auroc("augmented") > auroc("local") - 0.05


def test_one_hospital_alone_is_refused() -> None:
    with small.grid(small.hospitals()) as grid, pytest.raises(BadInput, match="at least two hospitals"):
        coordinate(grid, replace(small.spec("augmented"), sites=("east",)))


@pytest.mark.parametrize("arm", ["augmented", "local", "pooled", "synthetic"])
@pytest.mark.parametrize("model", ["logistic", "gradient_boosting"])
@pytest.mark.parametrize("what", ["constant", "missing", "one class", "one level"])
def test_an_odd_table_breaks_nothing(arm: str, model: str, what: str) -> None:
    west = small.rows("west")
    column, value = {"constant": ("pulse", 80.0), "missing": ("lactate", np.nan), "one level": ("sex", 1.0)}.get(
        what, ("y", np.int8(0))
    )
    west[column] = value
    options = FEW_TREES if model == "gradient_boosting" else {}
    with small.grid(small.hospitals(west=west)) as grid:
        spec = small.spec(arm, model=model, **options)
        assert execute(grid, spec, "hash").result.metrics["utility/auroc"] > 0.55


def test_one_patient_is_enough_to_train_on_with_the_others() -> None:
    spec = replace(small.spec("augmented", model="gradient_boosting", **FEW_TREES), patients_per_site=1)
    with small.grid(small.hospitals()) as grid:
        assert set(coordinate(grid, spec).models.by_site) == set(small.SITES)


@pytest.mark.parametrize("arm", BOOSTED)
def test_gradient_boosting_learns_under_each_arm_that_can_train_it(arm: str) -> None:
    with small.grid(small.hospitals()) as grid:
        done = execute(grid, small.spec(arm, model="gradient_boosting", **FEW_TREES), "hash")

    assert done.result.metrics["utility/auroc"] > 0.6
    assert {"root", "feature", "threshold", "left", "right", "value"} == set(
        next(iter(done.models.by_site.values())).arrays
    )


def test_the_hospitals_validation_patients_stop_a_forest_trained_elsewhere() -> None:
    outcome = run("synthetic", model="gradient_boosting", epochs=80, learning_rate=0.5)
    kept = len(outcome.models.by_site[Models.SHARED].unpack()["root"])
    assert kept < 81


def test_a_forest_that_is_none_names_its_hospital(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.models.boosting import Forest

    whole = Forest.first

    def first(self, trees):  # type: ignore[no-untyped-def]
        made = whole(self, trees)
        return replace(made, feature=made.feature + 100)

    monkeypatch.setattr(Forest, "first", first)
    with pytest.raises(SiteFailed, match="east.*its model can't be used: array feature"):
        run("local", model="gradient_boosting", **FEW_TREES)


def reasons(**keys: object) -> dict[str, str | None]:
    arms = [{"arm": arm} for arm in ARMS]
    config = ExperimentConfig.model_validate({"name": "x", "arms": arms, **keys})
    return {cell.spec.arm: cell.excluded for cell in expand(config, small.SITES) if cell.spec.model.name[0] == "g"}


def test_other_arms_say_that_it_is_not_available_and_are_excluded_from_a_matrix() -> None:
    found = reasons(matrix={"model": ["logistic", "gradient_boosting"]})
    assert {arm for arm, reason in found.items() if reason is None} == set(BOOSTED)
    for arm in set(ARMS) - set(BOOSTED):
        assert f"gradient_boosting is not available under this technology ({arm})" in str(found[arm])


def test_written_directly_it_is_an_error_for_each_of_them() -> None:
    with pytest.raises(BadInput) as error:
        reasons(model="gradient_boosting")
    assert len(error.value.lines) == len(ARMS) - len(BOOSTED)


@pytest.mark.parametrize("arm", ["local", "pooled"])
def test_gradient_boosting_is_never_trained_with_dp(arm: str) -> None:
    config = {"name": "x", "arms": [{"arm": arm}], "model": "gradient_boosting", "dp": {"epsilon": 1}}
    with pytest.raises(BadInput, match="can't be trained with differential privacy"):
        expand(ExperimentConfig.model_validate(config), small.SITES)


def test_rows_with_a_guarantee_may_train_a_forest_of_fixed_size() -> None:
    from pettoolkit.models.predictor import FIXED_TREES

    spec = small.spec("synthetic", model="gradient_boosting", dp=DpSpec(5.0), epochs=200, learning_rate=None)
    with small.grid(small.hospitals()) as grid:
        outcome = coordinate(grid, spec)
    assert len(outcome.models.by_site[Models.SHARED].unpack()["root"]) == FIXED_TREES + 1


# -- differential privacy: a patient is in the generator and in the hospital's own model ----------------


def private(epsilon: float = 2.0, **options: object) -> tuple[Outcome, dict[str, Site]]:
    of = small.spec("augmented", dp=DpSpec(epsilon), **options)
    sites = small.hospitals()
    with small.grid(sites) as grid:
        return coordinate(grid, of), sites


def test_generator_and_training_are_two_entries_of_one_ledger_that_add_up_to_the_budget() -> None:
    outcome, sites = private()
    for site in sites.values():
        (ledger,) = site.ledgers.values()
        generator, training = (event.mechanism for event in ledger.events)
        mu = gaussian_mu(2.0, 1e-5)
        spent = [m.steps / m.sigma**2 for m in (generator, training)]
        assert spent == pytest.approx([GENERATOR_SHARE * mu**2, (1 - GENERATOR_SHARE) * mu**2], rel=1e-6)
        assert ledger.epsilon() == pytest.approx(2.0, rel=1e-6)
        # neither alone is what is stated: together they are
        for one in (generator, training):
            assert compose([one], 1e-5) < 1.7
    assert outcome.privacy.guarantee.epsilon == pytest.approx(2.0, rel=1e-6)  # type: ignore[union-attr]


def test_anything_more_is_refused_by_the_ledger() -> None:
    from pettoolkit.arms.augmented import mixed

    _, sites = private()
    of = small.spec("augmented", dp=DpSpec(2.0))
    others = sites["north"].part(of, "train")
    with pytest.raises(Refused, match=r"beyond this run's budget of 2"):
        mixed.train(sites["east"], of, others)  # another table of others' rows: another answer


def test_the_others_rows_get_no_noise_and_own_patients_do() -> None:
    import torch

    from pettoolkit.arms.augmented.mixed import MixedRows
    from pettoolkit.arms.common import start
    from pettoolkit.privacy.events import gaussian
    from pettoolkit.privacy.gradients import engine_for
    from pettoolkit.privacy.noise import Draw, SeededNoise

    of = small.spec("augmented", dp=DpSpec(2.0))
    sites = small.hospitals()
    net, initial = start(of, small.CONTRACT.select("compact"))
    own, others = sites["east"].part(of, "train"), sites["west"].part(of, "train")
    engine, noise = engine_for(net, "auto"), SeededNoise(0, "east")
    rows = MixedRows(engine, own.x, own.y, noise, "local", None, others, 3)
    quiet, loud = (rows.noisy_sum(initial, gaussian(sigma, 1, 1.0), Draw("x")) for sigma in (0.0, 2.0))
    parts = [engine.clipped_sum(initial, r.x, r.y, 1.0).gradient for r in (own, others)]
    normals = noise.normals(Draw("x"), sum(v.numel() for v in initial.values()))
    for name in initial:
        torch.testing.assert_close(quiet[name], 3 * parts[0][name] + parts[1][name])
    moved = torch.cat([(loud[name] - quiet[name]).flatten() for name in sorted(initial)])
    np.testing.assert_allclose(moved.numpy(), 3 * 2.0 * normals, rtol=1e-3, atol=1e-3)


def test_others_rows_help_under_dp_too() -> None:
    def auroc(arm: str) -> float:
        spec = replace(small.spec(arm, dp=DpSpec(3.0)), patients_per_site=60)
        spec = replace(spec, options={**spec.options, "learning_rate": None, "epochs": None})
        with small.grid(small.hospitals(**{name: small.rows(name, 600) for name in small.SITES})) as grid:
            return execute(grid, spec, "hash").result.metrics["utility/auroc"]

    assert auroc("augmented") > auroc("local") - 0.05


def test_balance_reaches_the_hospitals_and_is_put_back() -> None:
    plain, balanced = run(), run(balance={"column": "y", "to": 0.7})
    assert balanced.figures["synthetic/balance_added"] > 50
    for site in small.SITES:
        a, b = (o.models.by_site[site].unpack()["layer0.bias"] for o in (plain, balanced))
        assert abs(float(a[0] - b[0])) < 1.0
