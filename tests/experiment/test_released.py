"""The table among a cell's artifacts: what it is marked as."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pettoolkit.arms.released import table_of
from pettoolkit.experiment.released import KEY, MARK, TABLE, table_files
from pettoolkit.records import Guarantee, NotMeasured

ROWS = pd.DataFrame({"age": [61.0, 70.0], "y": [0, 1]})
SOMEBODY = {"name": "A. Person", "email": "a@example.org"}
GUARANTEE = Guarantee(3.0, 4.0, 1e-5, "Gaussian", "noise", simulated_noise=False)
NONE = NotMeasured("no differential privacy")


def files(
    guaranteed: bool = True, guarantee: Guarantee | NotMeasured = GUARANTEE, **who: str | None
) -> dict[str, bytes]:
    return table_files(table_of([ROWS], "synthetic_records", guaranteed=guaranteed), guarantee, who)


def mark(found: dict[str, bytes]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(found[MARK])
    return said


def test_a_guaranteed_table_that_somebody_answers_for_is_released() -> None:
    found = files(**SOMEBODY)
    assert mark(found)["status"] == "released"
    assert mark(found)["responsible"] == SOMEBODY
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(found[TABLE])), ROWS)


def test_the_file_itself_says_what_it_is() -> None:
    found = files(guarantee=NONE, guaranteed=False)
    inside = pq.read_schema(io.BytesIO(found[TABLE])).metadata[KEY]
    assert json.loads(inside) == mark(found)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"guaranteed": False, "guarantee": NONE, **SOMEBODY}, "no guarantee for patients"),
        ({"guaranteed": False, **SOMEBODY}, "no guarantee for patients"),
        ({"guarantee": NONE, **SOMEBODY}, "no guarantee for patients"),
        ({"guarantee": replace(GUARANTEE, simulated_noise=True), **SOMEBODY}, "noise comes from a seed"),
        ({}, "nobody is named"),
        ({"name": "A. Person", "email": None}, "nobody is named"),
    ],
)
def test_everything_else_is_internal_and_says_why(asked: dict[str, Any], why: str) -> None:
    said = mark(files(**asked))
    assert said["status"] == "internal"
    assert why in said["why"]


def test_an_arm_without_a_table_has_no_files() -> None:
    assert table_files(None, NONE, {}) == {}
