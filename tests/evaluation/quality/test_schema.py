"""The committed JSON schema is that of the types, and a declaration keeps it."""

from __future__ import annotations

import json

import jsonschema
import pytest

from pettoolkit.evaluation.quality import schema
from pettoolkit.evaluation.quality.declaration import Given, declare
from pettoolkit.evaluation.quality.mode import QUICK
from pettoolkit.records import to_json
from tests.evaluation.quality import toy


def test_the_committed_schema_is_up_to_date() -> None:
    assert schema.PATH.read_text(encoding="utf-8") == schema.text(), "write schema.text() to schema.PATH"


def test_a_declaration_keeps_the_schema_and_a_changed_one_does_not() -> None:
    given = Given(toy.patients(100, 0), {"made": toy.patients(100, 1)}, toy.contract())
    document = to_json(declare(given, mode=QUICK))
    jsonschema.validate(document, json.loads(schema.text()))

    document["candidates"][0]["score"] = 0.9  # no single score without its parts
    with pytest.raises(jsonschema.ValidationError, match="score"):
        jsonschema.validate(document, json.loads(schema.text()))
