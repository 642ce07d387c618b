"""The JSON schema of what ``pettoolkit attack`` writes, made from the frozen types of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pettoolkit.attacks.protocol import INSIDER, KNOWLEDGE, RELEASE
from pettoolkit.attacks.verdict import Threshold
from pettoolkit.evaluation.quality.schema import described
from pettoolkit.experiment.attack import DOCUMENT, EFFORTS, SCHEMA_VERSION, WORSE, RiskReport
from pettoolkit.records import Json

PATH = Path(__file__).with_name("risk.schema.json")


def schema() -> dict[str, Json]:
    """Describe the document: the report's types, and what :meth:`RiskReport.as_json` adds and moves."""
    definitions: dict[str, Json] = {}
    root = described(RiskReport, definitions)
    seconds = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
    added: dict[str, Json] = {
        "document": {"const": DOCUMENT},
        "schema_version": {"const": SCHEMA_VERSION},
        "thresholds": {"type": "object", "additionalProperties": described(Threshold, definitions)},
        "timing": {"type": "object", "additionalProperties": seconds},
    }
    report = definitions["RiskReport"]
    report["properties"] = added | report["properties"]
    report["required"] = [*added, *report["required"]]
    figure = definitions["AttackFigure"]
    del figure["properties"]["seconds"]  # under timing: all the rest repeats
    figure["required"].remove("seconds")
    _one_of(definitions["AttackFigure"], view=(RELEASE, INSIDER), knowledge=KNOWLEDGE)
    _one_of(definitions["Verdict"], state=WORSE)
    _one_of(report, effort=tuple(EFFORTS))
    definitions["Measured"]["properties"]["sha256"]["additionalProperties"]["pattern"] = "^[0-9a-f]{64}$"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": DOCUMENT,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Write the schema as it is committed."""
    return json.dumps(schema(), indent=1) + "\n"


def _one_of(definition: dict[str, Any], **values: tuple[str, ...]) -> None:
    for name, allowed in values.items():
        definition["properties"][name] = {"enum": list(allowed)}
