"""What pydantic found, in words for people, with locations as they stand in the file.

Pydantic puts the chosen member of a union into an error's location (``arms.0.federated.rounds``). The file
has no such key, so those steps are taken out again; the rest of this module is wording.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
Modelled = Any
"""A pydantic model, or any annotation that has models in it; ``None`` where it is not known."""

_WANTS_MAPPING = frozenset({"model_type", "dict_type", "mapping_type", "model_attributes_type", "dataclass_type"})
_WANTS_LIST = frozenset({"list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"})
_WANTS_SCALAR = ("literal_error", "enum", "_type", "_parsing", "none_required")
_MUST_BE = {
    **dict.fromkeys(_WANTS_MAPPING, "must be a mapping (key: value)"),
    **dict.fromkeys(_WANTS_LIST, "must be a list"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "finite_number": "must be a finite number",
    "none_required": "must be null",
}
_LIMITS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
    "multiple_of": ("multiple_of", "must be a multiple of"),
}
_LENGTHS = {
    "too_short": ("min_length", "must have at least", "entries"),
    "too_long": ("max_length", "must have at most", "entries"),
    "string_too_short": ("min_length", "must have at least", "characters"),
    "string_too_long": ("max_length", "must have at most", "characters"),
}


def describe(error: ValidationError, data: Any, model: Modelled, prefix: Location) -> Iterator[tuple[Location, str]]:
    """Location in ``data`` and message of each finding; messages of union members that cannot be meant are left out."""
    found = [(_location(prefix + e["loc"], e["type"], data), e) for e in error.errors(include_url=False)]
    for loc, details in found:
        if _miscounted(details):
            continue
        others = [other for place, other in found if other is not details and place[: len(loc)] == loc]
        if not (_other_member(details) and any(not _other_member(o) or o["loc"] == details["loc"] for o in others)):
            yield _worded(loc, details, model)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``did you mean x?``, or an empty string if nothing known is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def shown(value: object) -> str:
    """Write a value as a person would have written it, short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list" if len(value) else "an empty list"
    text = str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or "nothing"


def _location(loc: Location, kind: str, data: Any) -> Location:
    """``loc`` without the steps that pydantic adds for members of unions."""
    out: list[str | int] = []
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(data, dict) and str(step) in data:
            out.append(step)
            data = data[str(step)]
        elif isinstance(data, list) and isinstance(step, int):
            out.append(step)
            data = data[step] if step < len(data) else None
        elif last and kind == "missing":
            out.append(step)
    return tuple(out)


def _miscounted(details: ErrorDetails) -> bool:
    """Whether a list only seems too short: pydantic does not count entries that have findings of their own."""
    value = details["input"]
    return details["type"] == "too_short" and isinstance(value, list) and len(value) >= details["ctx"]["min_length"]


def _other_member(details: ErrorDetails) -> bool:
    """Whether the error only says that the value has another shape than a member of a union wants."""
    value, kind = details["input"], details["type"]
    if isinstance(value, Mapping):
        return kind not in _WANTS_MAPPING and kind.endswith(_WANTS_SCALAR)
    if isinstance(value, list):
        return kind not in _WANTS_LIST and kind.endswith(_WANTS_SCALAR)
    return kind in _WANTS_MAPPING or kind in _WANTS_LIST


def _worded(loc: Location, details: ErrorDetails, model: Modelled) -> tuple[Location, str]:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    got = f"(got {shown(value)})"
    if kind == "missing":
        return loc, "is missing and must be given"
    if kind == "extra_forbidden":
        return loc, _unknown_key(details["loc"], model)
    if kind == "union_tag_invalid":
        tag = str(context["discriminator"]).strip("'")
        return (*loc, tag), _one_of(context["expected_tags"], context["tag"])
    if kind == "union_tag_not_found":
        tag = str(context["discriminator"]).strip("'")
        return (*loc, tag), "is missing (it says what kind of entry this is)"
    if kind in ("literal_error", "enum"):
        return loc, _one_of(context["expected"], value)
    if kind in _MUST_BE:
        return loc, f"{_MUST_BE[kind]} {got}"
    if kind == "string_type":
        quote = f'; in quotes, "{shown(value)}", it would be' if isinstance(value, (bool, int, float)) else ""
        return loc, f"must be text (got {shown(value)}{quote})"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return loc, f"{words} {_plain(context[key])} {got}"
    if kind in _LENGTHS:
        key, words, things = _LENGTHS[kind]
        limit = context[key]
        things = {"entries": "entry", "characters": "character"}[things] if limit == 1 else things
        return loc, f"{words} {limit} {things} (got {len(value)})"
    if kind in ("value_error", "assertion_error"):
        return loc, str(context["error"])
    message = details["msg"].removeprefix("Input should ")
    return loc, f"should {message} {got}" if details["msg"].startswith("Input should ") else f"{message} {got}"


def _plain(limit: Any) -> str:
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)


def _one_of(expected: object, got: object) -> str:
    known = re.findall(r"'([^']*)'", str(expected)) or [str(expected)]
    hint = did_you_mean(got, known)
    got_text = shown(got) + (f"; {hint}" if hint else "")
    if len(known) == 1:
        return f"must be {known[0]} (got {got_text})"
    return f"must be one of {', '.join(known)} (got {got_text})"


def _unknown_key(loc: Location, model: Modelled) -> str:
    fields = sorted({name for m in _models_at(loc[:-1], model) for name in _fields(m)})
    hint = did_you_mean(loc[-1], fields)
    if hint:
        return f"unknown key ({hint})"
    return f"unknown key (known here: {', '.join(fields)})" if fields else "unknown key"


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {f.alias or name: f.annotation for name, f in model.model_fields.items()}


def _models_at(loc: Location, annotation: Modelled) -> list[type[BaseModel]]:
    """Models that can stand at a location (with pydantic's own union steps) below an annotation."""
    here = list(_members(annotation))
    for step in loc:
        here = [member for a in here for found in _step(a, step) for member in _members(found)]
    return [m for m in here if isinstance(m, type) and issubclass(m, BaseModel)]


def _members(annotation: Any) -> Iterator[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        yield from _members(annotation.__value__)
    elif origin is typing.Annotated:
        yield from _members(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _members(argument)
    else:
        yield annotation


def _step(annotation: Any, step: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = _fields(annotation)
        tags = {t for f in fields.values() if typing.get_origin(f) is typing.Literal for t in typing.get_args(f)}
        if step in fields:
            yield fields[str(step)]
        elif step in tags or step == annotation.__name__:
            yield annotation
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not (isinstance(origin, type) and arguments):
        return
    if issubclass(origin, Mapping):
        yield arguments[1]
    elif isinstance(step, int):
        yield arguments[0]
    elif issubclass(origin, Iterable):
        yield annotation  # a step that names a member of a union
