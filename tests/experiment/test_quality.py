"""Every cell that releases a table has a quick declaration; where hospitals refuse their rows, a note says so."""

from __future__ import annotations

import json

import jsonschema
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.evaluation.quality import schema
from pettoolkit.experiment.execute import Executed, execute
from pettoolkit.experiment.quality import ARTIFACT, declared
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.policy import Policy
from tests import small_cohort as small


def executed(arm: str) -> Executed:
    with small.grid(small.hospitals()) as grid:
        return execute(grid, small.spec(arm), "hash")


@pytest.mark.parametrize("arm", ["synthetic", "anonymised", "augmented"])
def test_a_cell_that_releases_a_table_declares_it(arm: str) -> None:
    done = executed(arm)

    document = json.loads(done.files[ARTIFACT])
    jsonschema.validate(document, schema.schema())
    assert (document["internal"], document["mode"]) == (True, "quick")
    assert document["hospitals"] == list(small.SITES)
    assert document["holdout_rows"] > 0
    metrics = {name: value for name, value in done.result.metrics.items() if name.startswith("quality/")}
    written = document["candidates"][0]["univariate"]["mean"]
    assert metrics["quality/columns_distance"] == pytest.approx(written, rel=1e-5)
    assert {"quality/distinguishability", "quality/lost_auroc_logistic", "quality/identical_share"} <= set(metrics)


def test_a_cell_without_a_table_declares_nothing() -> None:
    done = executed("pooled")
    assert done.files == {}
    assert not [name for name in done.result.metrics if name.startswith("quality/")]


def test_where_hospitals_refuse_their_rows_a_note_says_that_there_is_no_declaration() -> None:
    hospitals, spec = small.hospitals(), small.spec("synthetic")
    with small.grid(hospitals) as grid:
        metered = MeteredGrid(grid, on_failure="fail")
        outcome = coordinate(metered, spec)
        for site in hospitals.values():
            site.policy = Policy.simulated().model_copy(update={"evaluation_rows": False})
        found = declared(metered, spec, outcome)

    assert (found.metrics, found.files) == ({}, {})
    refused = "hospital east, north, west: rows for attacks are granted by simulated hospitals only"
    assert found.notes == (f"no quality declaration: {refused}",)


def test_nothing_but_the_audits_rows_is_asked_of_the_hospitals() -> None:
    asked = {(t.purpose, t.kind) for t in executed("synthetic").result.exposure.traffic if t.direction == "out"}
    assert {kind for purpose, kind in asked if purpose == "audit"} == {"raw_records"}


def test_the_declaration_is_the_same_in_every_cell_of_the_same_table() -> None:
    first, second = (executed("synthetic").files[ARTIFACT] for _ in range(2))
    assert first == second
