"""The JSON schema of experiment files, for editors; committed as experiments/schema.json."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

from pettoolkit.experiment.config import AnyArm, CellKeys, ExperimentConfig, packaged

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema, with the short forms that pydantic's own does not know."""
    made = ExperimentConfig.model_json_schema()
    properties, definitions = made["properties"], made["$defs"]
    for arm in typing.get_args(AnyArm):
        _allow_lists(definitions[arm.__name__]["properties"])
    properties["arms"]["items"] = properties["arms"]["items"]["items"]
    names = definitions["ModelKeys"]["properties"]["name"]["enum"]
    properties["model"] = {"anyOf": [{"enum": names}, {"$ref": "#/$defs/ModelKeys"}], "default": "logistic"}
    properties["matrix"]["propertyNames"] = {"pattern": rf"^({'|'.join(CellKeys.model_fields)})(\..+)?$"}
    return {"$schema": DIALECT, **made, "title": "pettoolkit experiment"}


def text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(schema(), indent=2) + "\n"


def path() -> Path:
    """Return where the committed schema lies."""
    return packaged("experiments") / "schema.json"


def write() -> Path:
    """Write the committed schema anew and return where."""
    target = path()
    target.write_text(text(), encoding="utf-8")
    return target


def _allow_lists(properties: dict[str, Any]) -> None:
    """An arm's key may have a list of values (one arm of each), all but the tag."""
    for name, one in properties.items():
        if name != "arm":
            about = {key: one.pop(key) for key in ("title", "description", "default") if key in one}
            properties[name] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], **about}
