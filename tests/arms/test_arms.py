"""Every arm: it learns, repeats itself, lets out only its own kinds, and names a hospital that fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pettoolkit.arms.app import build_app, coordinate
from pettoolkit.arms.registry import ARMS
from pettoolkit.errors import SiteFailed
from pettoolkit.experiment.execute import execute
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import KINDS
from pettoolkit.hospital.policy import Policy
from pettoolkit.models.dense import DenseNet
from pettoolkit.records import Models, Outcome, RunSpec
from tests import small_cohort as small

KINDS_OUT = {
    "local": set(),
    "pooled": {"raw_records"},
    "federated": {"metrics", "update"},
    "encrypted_aggregation": {"ciphertext", "metrics", "model"},
    "encrypted_statistics": {"ciphertext", "metrics", "model"},
    "encrypted_records": {"ciphertext", "model"},
    "anonymised": {"anonymised_records", "metrics"},
    "synthetic": {"metrics", "synthetic_records"},
    "augmented": {"metrics", "synthetic_records"},
}


def run(spec: RunSpec) -> Outcome:
    with small.grid(small.hospitals(spec)) as grid:
        return coordinate(grid, spec)


def weights(outcome: Outcome) -> np.ndarray:
    models = [w.unpack() for _, w in sorted(outcome.models.by_site.items())]
    return np.concatenate([a.ravel() for m in models for _, a in sorted(m.items())])


LOGISTIC_ONLY = {"encrypted_statistics", "encrypted_records"}
FLOODED = {"encrypted_aggregation", "encrypted_statistics", "encrypted_records"}


@pytest.mark.parametrize(
    ("arm", "model"),
    [(arm, model) for arm in ARMS for model in ("logistic", "mlp") if model == "logistic" or arm not in LOGISTIC_ONLY],
)
def test_it_learns_something_and_lets_out_its_own_kinds_only(arm: str, model: str) -> None:
    spec = small.spec(arm, model=model)

    with small.grid(small.hospitals(spec)) as grid:
        done = execute(grid, spec, "hash").result

    assert done.metrics["utility/auroc"] > 0.6
    assert set(done.exposure.kinds_out()) == KINDS_OUT[arm]
    assert set(done.per_site) == set(small.SITES)
    assert done.privacy.trust


@pytest.mark.parametrize("arm", [a for a in ARMS if a not in FLOODED])
def test_a_seed_fixes_the_run_bit_for_bit(arm: str) -> None:
    a, b, other = (run(small.spec(arm, seed=s)) for s in (0, 0, 1))

    assert np.array_equal(weights(a), weights(b))
    assert not np.array_equal(weights(a), weights(other))


@pytest.mark.parametrize("arm", ARMS)
def test_a_hospital_refuses_a_kind_that_its_policy_does_not_list(arm: str) -> None:
    spec = small.spec(arm)
    sites = small.hospitals(spec)
    needed = KINDS_OUT[arm] or {"model"}  # local: its model goes to the judge
    forbidden = sorted(needed - {"metrics"})[0]
    allowed = tuple(k for k in KINDS if k != forbidden)
    sites["east"].policy = Policy(kinds=allowed, arms=("*",), evaluation_rows=True, minimum_cohort=1)

    with small.grid(sites) as grid, pytest.raises(SiteFailed, match=f"east.*kind {forbidden} is not in its policy"):
        coordinate(grid, spec)


@pytest.mark.parametrize("arm", ARMS)
def test_a_hospital_refuses_an_arm_that_it_did_not_list(arm: str) -> None:
    spec = small.spec(arm)
    sites = small.hospitals(spec)
    sites["west"].policy = Policy(kinds=KINDS, arms=("another",), evaluation_rows=True)

    with small.grid(sites) as grid, pytest.raises(SiteFailed, match=f"west: arm {arm} is not in its policy"):
        coordinate(grid, spec)


def test_another_contract_is_refused_inside_the_hospital() -> None:
    spec = small.spec("pooled")
    sites = small.hospitals()
    sites["north"].contract = small.CONTRACT.model_copy(update={"prevalence": 0.3})

    with small.grid(sites) as grid, pytest.raises(SiteFailed, match="north.*contract is not this hospital's"):
        coordinate(grid, spec)


def test_local_lets_nothing_out_but_the_judge_gets_every_model() -> None:
    outcome = run(small.spec("local"))

    assert set(outcome.models.by_site) == set(small.SITES)
    assert {t.purpose for t in outcome.exposure.traffic if t.direction == "out"} == {"setup", "evaluation"}


def test_one_round_of_fedsgd_is_one_central_step_along_the_full_gradient() -> None:
    spec = small.spec("federated", strategy="fedsgd", rounds=1, learning_rate=1.0)
    sites = small.hospitals()
    train = [site.part(spec, "train") for site in sites.values()]
    x, y = torch.cat([r.x for r in train]), torch.cat([r.y for r in train])
    net = DenseNet(x.shape[1])
    start = net.init(0, 0.2)
    gradient = net.gradient_sum(start, x, y)

    with small.grid(sites) as grid:
        got = coordinate(grid, spec).models.by_site[Models.SHARED].unpack()

    for name, value in start.items():
        np.testing.assert_allclose(got[name], (value - gradient[name] / len(y)).numpy(), atol=1e-6)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam", "fedsgd"])
def test_each_strategy_of_federated_learns(strategy: str) -> None:
    rounds = {"rounds": 40, "learning_rate": 1.0} if strategy == "fedsgd" else {"rounds": 10}
    spec = small.spec("federated", strategy=strategy, **rounds)

    with small.grid(small.hospitals()) as grid:
        assert execute(grid, spec, "hash").result.metrics["utility/auroc"] > 0.6


def test_training_on_a_few_patients_takes_a_part_of_those_of_training_on_more() -> None:
    site = small.hospitals()["north"]
    spec = small.spec("pooled")
    from dataclasses import replace

    few, more = (set(site.index(replace(spec, patients_per_site=n), "train")) for n in (20, 60))

    assert len(few) == 20
    assert few < more < set(site.index(spec, "train"))


def test_the_unseen_hospital_does_not_train_and_is_tested() -> None:
    from dataclasses import replace

    spec = replace(small.spec("federated"), sites=("east", "north"), unseen=("west",))

    with small.grid(small.hospitals()) as grid:
        done = execute(grid, spec, "hash").result

    assert "robustness/auroc_unseen_site" in done.metrics
    assert {t.site for t in done.exposure.traffic if t.purpose == "training"} == {"east", "north"}


def test_local_models_meet_every_hospital_in_the_cross_site_matrix() -> None:
    spec = small.spec("local")

    with small.grid(small.hospitals()) as grid:
        done = execute(grid, spec, "hash").result

    assert isinstance(done.cross_site, dict)
    assert {site: set(row) for site, row in done.cross_site.items()} == {s: set(small.SITES) for s in small.SITES}
    assert done.cross_site["east"]["east"] == pytest.approx(done.metrics["site/east/auroc"])


def test_a_hospital_without_a_positive_patient_is_undefined_and_nothing_else_breaks() -> None:
    west = small.rows("west")
    west["y"] = np.int8(0)

    for arm in ("local", "pooled", "federated", "synthetic"):
        with small.grid(small.hospitals(west=west)) as grid:
            done = execute(grid, small.spec(arm), "hash").result
        assert done.metrics["robustness/sites_undefined"] == 1
        assert "site/west/auroc" not in done.metrics
        assert any(note.startswith("site/west/auroc") and "undefined: one class" in note for note in done.notes)


def test_a_column_that_a_hospital_never_measured_is_no_problem() -> None:
    west = small.rows("west")
    west["lactate"] = np.nan

    for arm in ("pooled", "federated", "synthetic"):
        with small.grid(small.hospitals(west=west)) as grid:
            assert execute(grid, small.spec(arm), "hash").result.metrics["utility/auroc"] > 0.55


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hospital north answers NaN from its training."""
    from pettoolkit.arms import rounds

    whole = rounds.contribution

    def contribution(site, *rest, **named):  # type: ignore[no-untyped-def]
        arrays, n = whole(site, *rest, **named)
        return ({k: v * np.nan for k, v in arrays.items()}, n) if site.name == "north" else (arrays, n)

    for module in ("federated", "encrypted_aggregation"):
        monkeypatch.setattr(f"pettoolkit.arms.{module}.inside.contribution", contribution)
    return


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("arm", ["federated", "encrypted_aggregation"])
def test_a_nan_update_is_named_and_never_averaged(arm: str) -> None:
    spec = small.spec(arm)

    with small.grid(small.hospitals(spec)) as grid, pytest.raises(SiteFailed, match="north.*(finite|NaN|nan)"):
        coordinate(grid, spec)


def test_a_crash_inside_a_hospital_tells_its_type_and_no_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ValueError("could not convert 'Jane Doe, 57' to float")

    monkeypatch.setattr("pettoolkit.arms.federated.inside.contribution", crash)

    with small.grid(small.hospitals()) as grid, pytest.raises(SiteFailed) as failure:
        coordinate(grid, small.spec("federated"))

    assert "ValueError" in str(failure.value)
    assert "Jane" not in str(failure.value)


def test_bytes_are_those_of_the_messages_and_grow_with_what_is_sent() -> None:
    by_arm = {}
    for arm in ARMS:
        spec = small.spec(arm)
        with small.grid(small.hospitals(spec)) as grid:
            metered = MeteredGrid(grid)
            coordinate(metered, spec)
            by_arm[arm] = metered.exposure().bytes_per_site("out").get("east", 0)

    assert by_arm["local"] < by_arm["federated"] < by_arm["encrypted_aggregation"]


def test_the_app_is_built_without_a_grid() -> None:
    assert open_grid is not None
    assert build_app(small.hospitals()) is not None
