"""Poisoned hospitals, and the strategies that stand them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.federated.config import FederatedKeys
from pettoolkit.arms.federated.poison import poisoned
from pettoolkit.errors import SiteFailed
from pettoolkit.hospital.policy import Policy
from pettoolkit.hospital.site import Site
from pettoolkit.records import DpSpec, ModelSpec, RunSpec
from tests import small_cohort as small

FIVE = ("ash", "birch", "cedar", "elm", "fir")
LOGISTIC = ModelSpec("logistic")


def spec_of(poisoned_sites: int, kind: str, strategy: str) -> RunSpec:
    poison = {"sites": FIVE[:poisoned_sites], "kind": kind, "factor": 20.0} if poisoned_sites else None
    keys = FederatedKeys.model_validate({"arm": "federated", "strategy": strategy, "rounds": 6, "poison": poison})
    return replace(small.spec("federated"), sites=FIVE, options=keys.options(LOGISTIC, None))


def model(spec: RunSpec) -> dict[str, np.ndarray]:
    sites = {
        name: Site(name, small.rows(name, 250).assign(patient=[f"{name}-{i}" for i in range(250)]), small.CONTRACT)
        for name in FIVE
    }
    with small.grid(sites) as grid:
        return dict(coordinate(grid, spec).models.by_site["*"].unpack())


def weights(poisoned_sites: int, kind: str, strategy: str) -> np.ndarray:
    return model(spec_of(poisoned_sites, kind, strategy))["layer0.weight"][0].astype(float)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two models: 1 the same direction, negative the opposite one."""
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize("strategy", ["fedmedian", "fedtrimmedavg", "krum"])
def test_one_poisoned_hospital_of_five_spoils_fedavg_and_no_robust_strategy(strategy: str) -> None:
    honest = weights(0, "sign_flip", "fedavg")
    assert agreement(weights(1, "sign_flip", "fedavg"), honest) < 0.5
    assert agreement(weights(1, "sign_flip", strategy), honest) > 0.9


def test_swapped_outcomes_pull_the_mean_further_than_the_median() -> None:
    honest = weights(0, "label_flip", "fedavg")
    mean, median = (np.linalg.norm(weights(2, "label_flip", s) - honest) for s in ("fedavg", "fedmedian"))
    assert mean > 2 * median


def test_what_a_poisoned_update_is() -> None:
    before, after = {"w": np.array([1.0, 2.0], np.float32)}, {"w": np.array([1.5, 2.0], np.float32)}
    longer = poisoned(after, before, {"kind": "scale", "factor": 4.0}, gradient=False)
    turned = poisoned(after, before, {"kind": "sign_flip", "factor": 4.0}, gradient=True)
    assert longer["w"].tolist() == [3.0, 2.0]
    assert turned["w"].tolist() == [-6.0, -8.0]
    assert longer["w"].dtype == np.float32


def test_a_deployed_hospital_does_not_let_itself_be_poisoned() -> None:
    open_otherwise = Policy.simulated().model_copy(update={"poisoned": False})
    sites = {name: Site(name, small.rows(name), small.CONTRACT, policy=open_otherwise) for name in small.SITES}
    options = {**small.OPTIONS["federated"], "poison": {"sites": ["east"], "kind": "scale", "factor": 2.0}}
    with small.grid(sites) as grid, pytest.raises(SiteFailed, match="poisoned updates are for simulated hospitals"):
        coordinate(grid, replace(small.spec("federated"), options=options))


@pytest.mark.parametrize(
    ("keys", "dp", "words"),
    [
        ({"strategy": "krum", "malicious": 2}, None, "malicious: krum outvotes 2 poisoned of at least 7 hospitals"),
        ({"strategy": "krum", "trim": 0.1}, None, "trim belongs to strategy: fedtrimmedavg"),
        ({"malicious": 1}, None, "malicious belongs to strategy: krum"),
        ({"poison": {"sites": ["oak"], "kind": "scale"}}, None, "poison.sites: oak is none of the hospitals"),
        ({"poison": {"sites": ["ash"], "kind": "scale"}}, DpSpec(1.0, noise="local"), "keeps no ledger"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, object], dp: DpSpec | None, words: str) -> None:
    written = FederatedKeys.model_validate({"arm": "federated", **keys})
    cell = replace(small.spec("federated"), sites=FIVE, options=written.options(LOGISTIC, dp), dp=dp)
    assert words in (written.refuse(cell) or "")


def test_cells_without_poison_are_the_cells_that_they_were_before() -> None:
    options = FederatedKeys.model_validate({"arm": "federated"}).options(LOGISTIC, None)
    assert {"trim", "malicious", "poison"}.isdisjoint(options)


def test_a_poisoned_variant_says_so() -> None:
    assert spec_of(2, "sign_flip", "krum").variant == "krum, 2 poisoned (sign_flip x20)"
    assert spec_of(1, "label_flip", "fedavg").variant == "fedavg, 1 poisoned (label_flip)"
