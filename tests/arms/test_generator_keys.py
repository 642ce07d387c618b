"""What an experiment file may say about generators, and the line it gets where it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pettoolkit.arms.generators import DIALS, generator_of
from pettoolkit.errors import BadInput
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.matrix import expand
from pettoolkit.records import RunSpec
from pettoolkit.synthesis import protocol
from tests import small_cohort as small


def cell(arm: dict[str, Any], sites: tuple[str, ...] = small.SITES, **keys: Any) -> RunSpec:
    config = ExperimentConfig.model_validate({"name": "x", "arms": [arm], **keys})
    return expand(config, sites)[0].spec


def refused(arm: dict[str, Any], **keys: Any) -> str:
    with pytest.raises(BadInput) as error:
        cell(arm, **keys)
    (line,) = error.value.lines
    return line


def test_every_generator_has_its_dials_named() -> None:
    assert set(DIALS) == set(protocol.names())


@pytest.mark.parametrize("arm", ["synthetic", "augmented"])
@pytest.mark.parametrize(
    ("written", "inside"),
    [
        ({"generator": "ctgan", "fit_epochs": 3}, {"_epochs": 3}),
        ({"generator": "tvae", "fit_epochs": 4}, {"_epochs": 4}),
        ({"generator": "gaussian_copula", "smoothing": 7.0}, {"_smoothing": 7.0}),
        ({"generator": "marginals", "smoothing": 5.0, "pairs": False}, {"_smoothing": 5.0, "_pairs": False}),
    ],
)
def test_dials_reach_the_generator(arm: str, written: dict[str, Any], inside: dict[str, Any]) -> None:
    made = generator_of(cell({"arm": arm, **written}).options)
    assert {name: getattr(made, name) for name in inside} == inside


DP = {"dp": {"epsilon": 3}}
LINES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"generator": "marginals", "fit_epochs": 3},
        {},
        "fit_epochs belongs to generator ctgan or tvae, not to marginals",
    ),
    ({"generator": "tvae", "smoothing": 1.0}, {}, "smoothing belongs to generator gaussian_copula or marginals"),
    ({"generator": "ctgan"}, DP, "ctgan has no differential privacy; write generator: marginals or generator: dp_vae"),
    ({"generator": "dp_vae"}, {}, "dp_vae exists with differential privacy only"),
    ({"generator": "marginals", "pairs": True}, DP, "pairs is a dial for generators without dp"),
    ({"generator": "marginals", "filter": "close"}, DP, "filter: reads real rows"),
]


@pytest.mark.parametrize("arm", ["synthetic", "augmented"])
@pytest.mark.parametrize(("written", "keys", "line"), LINES)
def test_what_can_not_be_has_one_line(arm: str, written: dict[str, Any], keys: dict[str, Any], line: str) -> None:
    assert line in refused({"arm": arm, **written}, **keys)


SCOPES: list[tuple[dict[str, Any], str]] = [
    ({"scope": "secure_sum", "generator": "gaussian_copula"}, "secure_sum sums the counts of generator: marginals"),
    ({"scope": "secure_sum", "generator": "marginals", "smoothing": 3.0}, "has no smoothing or pairs to set"),
    ({"scope": "secure_sum", "generator": "marginals", "filter": "exact"}, "filter works on one hospital's rows"),
    ({"scope": "one_on_pooled", "generator": "marginals", "filter": "exact"}, "filter works on one hospital's rows"),
]


@pytest.mark.parametrize(("written", "line"), SCOPES)
def test_what_a_scope_can_not_do_has_one_line(written: dict[str, Any], line: str) -> None:
    assert line in refused({"arm": "synthetic", **written})


def test_a_sum_over_two_hospitals_is_refused() -> None:
    with pytest.raises(BadInput, match="hides nothing among 2 hospitals"):
        cell({"arm": "synthetic", "generator": "marginals", "scope": "secure_sum"}, sites=("a", "b"))


@pytest.mark.parametrize(
    ("scope", "noise"), [("per_hospital", "local"), ("one_on_pooled", "central"), ("secure_sum", "shared")]
)
def test_who_makes_the_noise_follows_from_the_scope(scope: str, noise: str) -> None:
    spec = cell({"arm": "synthetic", "generator": "marginals", "scope": scope}, dp={"epsilon": 1})
    assert spec.dp is not None
    assert spec.dp.noise == noise


@pytest.mark.parametrize(
    "written",
    [
        {"generator": "ctgan", "fit_epochs": 0},
        {"smoothing": -1.0},
        {"smoothing": float("inf")},
        {"balance": {"column": "y", "to": 1.0}},
        {"balance": {"column": "y"}},
        {"balance": {"column": "y", "to": 0.2, "more": 1}},
        {"filter": "near"},
    ],
)
def test_impossible_values_are_refused_by_the_file(written: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ExperimentConfig.model_validate({"name": "x", "arms": [{"arm": "synthetic", **written}]})


@pytest.mark.parametrize("k", [-3, 0, 1])
def test_a_k_below_two_is_refused_by_the_file(k: int) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        ExperimentConfig.model_validate({"name": "x", "arms": [{"arm": "anonymised", "k": k}]})


def test_poisson_batches_are_refused_where_a_budget_is_shared_out() -> None:
    assert "dp.batch is not possible with augmented" in refused({"arm": "augmented"}, dp={"epsilon": 1, "batch": 50})
