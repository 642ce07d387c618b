"""Expansion into cells, and the hash that names a cell."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.errors import BadInput
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.load import load
from pettoolkit.experiment.matrix import config_hash, expand, unknown_sites
from pettoolkit.records import RESULT_VERSION, RunSpec

FIVE = ("a", "b", "c", "d", "e")
DIGESTS = {site: f"digest of {site}" for site in FIVE}
LOCAL = {"arm": "local"}


def config(**keys: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "x", "arms": [LOCAL], **keys})


def specs(of: ExperimentConfig) -> list[RunSpec]:
    return [cell.spec for cell in expand(of, FIVE) if cell.excluded is None]


def hash_of(spec: RunSpec, **changed: Any) -> str:
    return config_hash(spec, **{"digests": DIGESTS, "contract_digest": "c", "result_version": RESULT_VERSION} | changed)


ARMS = st.lists(
    st.sampled_from(
        [
            {"arm": "local"},
            {"arm": "pooled"},
            {"arm": "federated", "strategy": ["fedavg", "fedsgd"]},
            {"arm": "encrypted_aggregation", "strategy": "fedsgd"},
            {"arm": "synthetic", "generator": "marginals"},
        ]
    ),
    min_size=1,
    unique_by=lambda arm: arm["arm"],
)
MATRIX = st.fixed_dictionaries(
    {},
    optional={
        "model": st.lists(st.sampled_from(["logistic", "mlp"]), min_size=1, unique=True),
        "features": st.lists(st.sampled_from(["compact", "full"]), min_size=1, unique=True),
        "dp.epsilon": st.lists(st.sampled_from([None, 1, 3, 10]), min_size=1, unique=True),
        "evaluation.train_sites": st.lists(st.integers(3, 4), min_size=1, unique=True),
    },
)
QUIET = settings(deadline=None, max_examples=50)
SEEDS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)


@QUIET
@given(ARMS, MATRIX, SEEDS, st.sampled_from([[], ["b"], "each"]), st.sampled_from([None, "local", "mlp", 3]))
def test_cells_are_the_product_less_what_is_excluded(
    arms: list[dict[str, Any]], matrix: dict[str, list[Any]], seeds: list[int], unseen: Any, out: Any
) -> None:
    exclude = {
        None: [],
        "local": [{"arm": "local"}],
        "mlp": [{"model": "mlp"}],
        3: [{"dp.epsilon": 3, "seed": seeds[0]}],
    }
    experiment = config(arms=arms, matrix=matrix, seeds=seeds, evaluation={"unseen": unseen}, exclude=exclude[out])
    cells = expand(experiment, FIVE)

    entries = sum(len(arm["strategy"]) if isinstance(arm.get("strategy"), list) else 1 for arm in arms)
    each = len(FIVE) if unseen == "each" else 1
    assert len(cells) == entries * math.prod(map(len, matrix.values())) * len(seeds) * each
    for cell in cells:
        epsilon = cell.spec.dp.epsilon if cell.spec.dp else None
        meant = {
            None: False,
            "local": cell.spec.arm == "local",
            "mlp": cell.spec.model.name == "mlp",
            3: epsilon == 3 and cell.spec.seed == seeds[0],
        }[out]
        assert (cell.excluded is not None) == meant


@QUIET
@given(ARMS, MATRIX, SEEDS)
def test_hashes_are_stable_and_distinct(arms: list[dict[str, Any]], matrix: dict[str, Any], seeds: list[int]) -> None:
    experiment = config(arms=arms, matrix=matrix, seeds=seeds)
    first = [hash_of(spec) for spec in specs(experiment)]
    again = [hash_of(spec) for spec in specs(ExperimentConfig.model_validate(experiment.model_dump()))]
    assert first == again
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "another"},
        {"engine": "inline"},
        {"tracking": {"dir": "elsewhere"}},
        {"sites": {"source": "simulated", "path": "elsewhere"}},
        {"responsible": {"name": "n", "email": "n@example.org"}},
    ],
)
def test_a_hash_does_not_know_engine_paths_and_names(changed: dict[str, Any]) -> None:
    assert [hash_of(s) for s in specs(config(**changed))] == [hash_of(s) for s in specs(config())]


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": [1]},
        {"features": "full"},
        {"model": "mlp"},
        {"dp": {"epsilon": 3}},
        {"arms": [{"arm": "local", "epochs": 7}]},
        {"evaluation": {"unseen": ["b"]}},
        {"evaluation": {"total_patients": 100}},
    ],
)
def test_a_hash_knows_what_can_change_a_number(changed: dict[str, Any]) -> None:
    assert hash_of(specs(config(**changed))[0]) != hash_of(specs(config())[0])


def test_a_hash_knows_the_tables_of_its_own_hospitals_the_contract_and_the_version() -> None:
    (spec,) = specs(config(evaluation={"unseen": ["b"]}))
    bare = dataclasses.replace(spec, sites=("a",))
    whole = hash_of(bare)
    assert hash_of(bare, digests=DIGESTS | {"a": "other"}) != whole
    assert hash_of(bare, digests=DIGESTS | {"b": "other"}) != whole
    assert hash_of(bare, digests=DIGESTS | {"c": "other"}) == whole
    assert hash_of(bare, contract_digest="other") != whole
    assert hash_of(bare, result_version=RESULT_VERSION + 1) != whole
    assert hash_of(dataclasses.replace(bare, contract={"a": 1}, contract_digest="d", experiment="y")) == whole
    with pytest.raises(KeyError):
        hash_of(bare, digests={"a": "x"})


def test_writing_a_default_does_not_change_the_cell() -> None:
    written = config(
        arms=[{"arm": "federated", "strategy": "fedavg", "rounds": 30, "batch_size": 64}],
        model={"name": "mlp", "hidden": 32},
    )
    assert specs(written) == specs(config(arms=[{"arm": "federated"}], model="mlp"))


def test_a_number_is_the_same_with_and_without_a_point() -> None:
    assert hash_of(specs(config(dp={"epsilon": 3}))[0]) == hash_of(specs(config(dp={"epsilon": 3.0}))[0])


def test_a_list_in_an_arm_makes_one_arm_of_each_value() -> None:
    found = specs(config(arms=[{"arm": "federated", "strategy": ["fedavg", "fedprox"], "rounds": [2, 3]}]))
    assert [(s.options["strategy"], s.options["rounds"]) for s in found] == list(
        itertools.product(["fedavg", "fedprox"], [2, 3])
    )


def test_each_hospital_is_left_out_in_turn() -> None:
    found = specs(config(evaluation={"unseen": "each"}))
    assert [s.unseen for s in found] == [(site,) for site in FIVE]
    assert all(set(s.sites) == set(FIVE) - set(s.unseen) for s in found)


@QUIET
@given(st.integers(0, 999), st.integers(1, 4))
def test_more_training_hospitals_include_fewer(seed: int, count: int) -> None:
    def drawn(count: int) -> set[str]:
        return set(specs(config(seeds=[seed], evaluation={"unseen": ["b"], "train_sites": count}))[0].sites)

    assert len(drawn(count)) == count
    assert drawn(count) <= drawn(min(count + 1, 4))
    assert "b" not in drawn(count)


def test_which_hospitals_train_depends_on_the_seed() -> None:
    found = specs(config(seeds=list(range(30)), evaluation={"train_sites": 2}))
    assert len({s.sites for s in found}) > 5


def test_a_total_is_shared_out_evenly() -> None:
    of = config(matrix={"evaluation.train_sites": [1, 2, 4]}, evaluation={"total_patients": 600})
    assert [(len(s.sites), s.patients_per_site) for s in specs(of)] == [(1, 600), (2, 300), (4, 150)]


def test_noise_follows_the_arm_unless_it_is_written() -> None:
    arms = [{"arm": "local"}, {"arm": "pooled"}, {"arm": "encrypted_aggregation"}]
    found = specs(config(arms=arms, dp={"epsilon": 3}))
    assert [(s.dp.noise, s.dp.honest_sites) for s in found if s.dp] == [
        ("local", None),
        ("central", None),
        ("shared", 5),
    ]
    (written,) = specs(config(arms=arms[2:], dp={"epsilon": 3, "noise": "local", "honest_sites": 3}))
    assert written.dp is not None
    assert (written.dp.noise, written.dp.honest_sites) == ("local", None)


def test_epsilon_null_means_no_dp() -> None:
    found = specs(config(dp={"epsilon": 3, "delta": 1e-6}, matrix={"dp.epsilon": [None, 1]}))
    assert [s.dp and (s.dp.epsilon, s.dp.delta) for s in found] == [None, (1.0, 1e-6)]


def test_cells_that_cannot_exist_are_excluded_with_their_reason_if_the_matrix_made_them() -> None:
    cells = expand(config(arms=[{"arm": "synthetic"}], matrix={"dp.epsilon": [None, 3]}), FIVE)
    assert [cell.excluded and cell.excluded.partition(";")[0] for cell in cells] == [
        None,
        "generator gaussian_copula has no differential privacy",
    ]


def test_the_same_cells_are_an_error_if_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\narms:\n  - {arm: encrypted_aggregation}\nevaluation:\n  train_sites: 7\n", encoding="utf-8"
    )
    with pytest.raises(BadInput) as caught:
        expand(load(path), FIVE)
    assert caught.value.lines == (f"{path}:5: evaluation.train_sites: must be at most 5, as many as can train (got 7)",)


def test_two_hospitals_are_too_few_for_encryption_where_that_is_written() -> None:
    with pytest.raises(BadInput, match=r"^arms.0: encryption hides nothing among 2 hospitals"):
        expand(config(arms=[{"arm": "encrypted_aggregation"}]), ("a", "b"))


def test_fewer_hospitals_than_promised_honest_are_refused() -> None:
    dp = {"epsilon": 3, "honest_sites": 6}
    with pytest.raises(BadInput, match=r"dp\.honest_sites: must be at most 5"):
        expand(config(arms=[{"arm": "encrypted_aggregation"}], dp=dp), FIVE)


def test_all_hospitals_unseen_leave_none_to_train() -> None:
    with pytest.raises(BadInput, match="none is left to train"):
        expand(config(evaluation={"unseen": list(FIVE)}), FIVE)


def test_cells_that_the_matrix_makes_twice_are_run_once() -> None:
    of = config(
        arms=[{"arm": "encrypted_aggregation"}], matrix={"dp.epsilon": [None, 3], "dp.noise": ["shared", "local"]}
    )
    cells = expand(of, FIVE)
    assert [cell.excluded is None for cell in cells] == [True, False, True, True]
    assert "makes no difference" in str(cells[1].excluded)


def test_unknown_hospitals_are_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\narms: [{arm: local}]\nevaluation: {unseen: [mid]}\n"
        "matrix:\n  evaluation.unseen:\n    - [a]\n    - [sooth]\n",
        encoding="utf-8",
    )
    of = load(path)
    assert unknown_sites(of, ("a", "south")) == [
        f"{path}:3: evaluation.unseen: there is no hospital mid (there are a, south)",
        f"{path}:7: matrix.evaluation.unseen.1: there is no hospital sooth (did you mean south?)",
    ]
    with pytest.raises(BadInput, match="mid"):
        expand(of, ("a", "south"))


def test_without_a_cohort_cells_can_be_counted() -> None:
    of = config(evaluation={"unseen": "each"}, matrix={"evaluation.train_sites": [1, 2]}, seeds=[0, 1])
    assert [cell.excluded for cell in expand(of, None)] == [None] * 4
