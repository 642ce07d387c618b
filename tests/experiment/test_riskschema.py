"""The committed JSON schema of measured risk is that of the types; real documents of it keep it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pettoolkit.experiment import riskschema
from pettoolkit.experiment.attack import SCHEMA_VERSION, Measured, RiskReport
from pettoolkit.records import AttackFigure, Interval, NotMeasured, Verdict


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it stands in a file, after the committed schema was held against it."""
    data: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.validate(data, json.loads(riskschema.PATH.read_text(encoding="utf-8")))
    return data


def report() -> RiskReport:
    interval = Interval(0.0, 0.2)
    figure = AttackFigure(
        "lira", "membership_auc", "release", "full", 0.5, 0.5, 0.0, interval, 20, 20, 20, 0.1, details={"auc": 0.5}
    )
    verdict = Verdict("undecided", NotMeasured("no attack has enough patients to say anything"), 0.09, "too few")
    measured = Measured(
        "a.csv", "synthetic", 20, (figure,), {"rmia": "cost: one shadow"}, verdict, (), {"a.csv": "0" * 64}
    )
    people = {"members": 20, "control": 10, "attacker": 10}
    return RiskReport((measured,), {"a.csv": (measured,)}, {}, people, "quick", 500, 0, {"sensitive": ("pulse",)})


def test_the_committed_schema_is_up_to_date_and_names_its_version() -> None:
    committed = riskschema.PATH.read_text(encoding="utf-8")
    assert committed == riskschema.text(), "write riskschema.text() to riskschema.PATH"
    found = json.loads(committed)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$defs"]["RiskReport"]["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


def verdict_of(data: dict[str, Any]) -> dict[str, Any]:
    return data["releases"][0]["verdict"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(schema_version=1),
        lambda data: data.pop("thresholds"),
        lambda data: data["releases"][0]["figures"][0].update(seconds=1.0),
        lambda data: verdict_of(data).update(state="safe"),
        lambda data: verdict_of(data).update(figure=None),  # what is not measured says why
        lambda data: data["releases"][0]["sha256"].update({"a.csv": "unknown"}),
    ],
    ids=["version", "thresholds", "seconds", "state", "null", "hash"],
)
def test_the_schema_holds_and_notices_what_is_missing_or_of_another_kind(spoil: Any) -> None:
    data = kept(report().as_json())
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(riskschema.text()))
