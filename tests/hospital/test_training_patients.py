"""A hospital that has nobody to train on says so itself, whatever the technology."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.registry import ARMS
from pettoolkit.cohort.contract import Column, DateSplit
from pettoolkit.errors import PetError
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.site import Site
from tests import small_cohort as small


@pytest.fixture
def sites() -> dict[str, Site]:
    """Three hospitals of which `west` has no patient from before the cut."""
    contract = small.CONTRACT.model_copy(
        update={
            "columns": (*small.CONTRACT.columns, Column(name="admitted", role="date")),
            "split": DateSplit(by="admitted", cut="2020-01-01"),
        }
    )

    def rows(name: str) -> pd.DataFrame:
        early = [name != "west" and i % 2 == 0 for i in range(250)]
        return small.rows(name).assign(period=["train" if e else "test" for e in early])

    plain = small.hospitals(small.spec("encrypted_aggregation"))
    for name, site in plain.items():
        site.rows, site.contract = rows(name), contract
    return plain


@pytest.mark.parametrize(
    "arm", sorted(set(ARMS) & {"local", "pooled", "federated", "encrypted_aggregation", "synthetic"})
)
def test_it_refuses_with_one_line_that_names_it(sites: dict[str, Site], arm: str) -> None:
    contract = sites["west"].contract
    spec = replace(small.spec(arm), contract=contract.model_dump(mode="json"), contract_digest=contract.digest())
    with (
        small.grid(sites) as grid,
        pytest.raises(PetError, match=r"hospital west.* has no training patients") as caught,
    ):
        coordinate(MeteredGrid(grid, on_failure="fail"), spec)
    assert "\n" not in str(caught.value)


def test_fewer_training_patients_leave_validation_and_test_alone() -> None:
    site = Site("north", small.rows("north"), small.CONTRACT)
    whole = small.spec("local")
    few = replace(whole, patients_per_site=20)
    assert len(site.index(few, "train")) == 20
    assert set(site.index(few, "train")) < set(site.index(whole, "train"))
    for part in ("validation", "test"):
        assert (site.index(few, part) == site.index(whole, part)).all()
