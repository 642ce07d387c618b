"""The JSON schema of declarations, made from the frozen types of :mod:`pettoolkit.evaluation.quality.figures`."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pettoolkit.evaluation.quality.figures import VERSION, Declaration
from pettoolkit.records import Json, NotMeasured

PATH = Path(__file__).with_name("declaration.schema.json")

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict[str, Json]:
    """Describe a declaration; each frozen type is a definition by its own name."""
    definitions: dict[str, Json] = {}
    root = described(Declaration, definitions)
    definitions["Declaration"]["properties"]["schema_version"] = {"const": VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pettoolkit quality declaration",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Write the schema as it is committed."""
    return json.dumps(schema(), indent=1) + "\n"


def described(kind: Any, definitions: dict[str, Json]) -> dict[str, Json]:
    """Describe a type; a frozen one is put into ``definitions`` and referred to."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is NotMeasured:
        why = {"not_measured": {"type": "string", "minLength": 1}}
        return {"type": "object", "properties": why, "required": ["not_measured"], "additionalProperties": False}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [described(one, definitions) for one in arguments]}
    if origin is tuple:
        return {"type": "array", "items": described(arguments[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": described(arguments[1], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # taken, before it is described
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        definitions[kind.__name__] = {
            "type": "object",
            "properties": {name: described(hints[name], definitions) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}
