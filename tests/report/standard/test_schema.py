"""The committed schemas are those of the code, and notice what is missing or of another kind."""

from __future__ import annotations

import json

import jsonschema
import pytest

from pettoolkit.report.standard import schema
from pettoolkit.report.standard.write import REPORTS, SCHEMA_VERSION, SCHEMAS

KINDS = (*REPORTS, "label")


@pytest.mark.parametrize("report", KINDS)
def test_a_committed_schema_is_that_of_the_code_and_names_its_version(report: str) -> None:
    committed = (SCHEMAS / f"{report}.json").read_text(encoding="utf-8")
    assert committed == schema.text(report)
    found = json.loads(committed)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


def test_there_is_no_schema_of_anything_else() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(KINDS)


def test_only_a_label_must_have_quality_risk_and_hash() -> None:
    label, summary = schema.schema("label")["properties"], schema.schema("summary")["properties"]
    nothing = {"type": "null"}
    for part in ("quality", "risk"):
        assert nothing in summary[part]["anyOf"]
        assert nothing not in label[part].get("anyOf", ())
    assert label["table"]["properties"]["sha256"]["pattern"] == "^[0-9a-f]{64}$"
