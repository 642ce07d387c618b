from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pettoolkit.errors import Refused
from pettoolkit.privacy.conditions import check
from pettoolkit.records import DpSpec

DP = DpSpec(epsilon=1.0)


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"epsilon": 0.0}, {}, r"dp\.epsilon: must be greater than 0 \(got 0\.0\)"),
        ({"epsilon": -1.0}, {}, r"dp\.epsilon"),
        ({"epsilon": math.nan}, {}, r"dp\.epsilon"),
        ({"epsilon": math.inf}, {}, r"dp\.epsilon"),
        ({"delta": 0.0}, {}, r"dp\.delta"),
        ({"delta": 0.001}, {"patients": 1000}, r"dp\.delta: 0\.001 must be below 1/1000"),
        ({"noise": "shared"}, {"local_steps": True}, "shared noise protects one clipped sum a round"),
        ({"honest_sites": 6}, {}, r"dp\.honest_sites: must lie between 1 and the 5"),
        ({"honest_sites": 0}, {}, r"dp\.honest_sites"),
        ({"batch": 0}, {}, r"dp\.batch"),
        ({}, {"patient_known": False}, "no column with role patient_id.*name it"),
    ],
)
def test_what_can_not_be_promised_is_refused_in_one_line(change: dict, where: dict, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        check(replace(DP, **change), **{"sites": 5, **where})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({}, {"patients": 99_999}),
        ({"noise": "shared", "honest_sites": 5}, {}),
        ({}, {"local_steps": True}),
    ],
)
def test_what_can_be_promised_passes(change: dict, where: dict) -> None:
    check(replace(DP, **change), **{"sites": 5, **where})
