"""YAML files written by people: read with line numbers, and all that is wrong with them at once.

Every file that a person writes (experiments, contracts, policies, sites) comes in through :func:`parse`,
so that each finding reads ``file:line: dotted.field: message``. Scalars follow YAML 1.2: ``1e-5`` is a
number, and ``off``, ``on``, ``yes``, ``no`` and dates stay text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pettoolkit.cohort.yamlmessages import Location, Modelled, describe
from pettoolkit.errors import BadInput

Model = TypeVar("Model", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)


class _Loader(yaml.SafeLoader):
    """Nodes with the scalars of the YAML 1.2 core schema; PyYAML itself reads YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)


_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


@dataclass(frozen=True)
class Document:
    """A YAML file: its plain values, and where each of them stands.

    ``overridden`` lists the locations whose value did not come from the file (see :func:`override`).
    """

    path: Path
    data: Any
    root: yaml.Node | None = field(default=None, repr=False)
    overridden: tuple[Location, ...] = ()

    def line(self, loc: Location) -> int:
        """1-based line of the deepest node on the way to ``loc`` that the file has."""
        line, node = 1, self.root
        for step in loc:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    BadInput
        If the file is missing, is not UTF-8 text, is not YAML, or has a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    try:
        root = _compose(text)
    except yaml.YAMLError as error:
        raise BadInput(_syntax(path, error)) from None
    builder = _Builder(path)
    data = None if root is None else builder.value(root, ())
    if builder.findings:
        raise BadInput(builder.findings)
    return Document(Path(path), data, root)


def read_value(text: str) -> Any:
    """One value written as YAML, as in ``--set a.b=VALUE``.

    Raises
    ------
    BadInput
        If ``text`` is not YAML.
    """
    try:
        root = _compose(text)
    except yaml.YAMLError as error:
        raise BadInput(_syntax(Path(text), error)) from None
    builder = _Builder(Path(text))
    value = None if root is None else builder.value(root, ())
    if builder.findings:
        raise BadInput(builder.findings)
    return value


def override(document: Document, overrides: Mapping[str, Any]) -> Document:
    """Replace some values of a document.

    Parameters
    ----------
    overrides
        Dotted location (list positions as numbers, ``arms.0.rounds``) to value; a value that is a string is
        read as YAML. Mappings on the way are made where the file has none or ``null``.

    Raises
    ------
    BadInput
        If a location does not lead through the file.
    """
    data, done, bad = document.data, [], []
    for dotted, value in overrides.items():
        loc = tuple(int(p) if p.isdigit() else p for p in dotted.split("."))
        try:
            data = _replaced(data, loc, read_value(value) if isinstance(value, str) else value)
            done.append(loc)
        except (LookupError, BadInput) as error:
            bad.append(f"--set {dotted}={value}: {error.args[0]}")
    if bad:
        raise BadInput(bad)
    return dataclasses.replace(document, data=data, overridden=(*document.overridden, *done))


def parse(model: type[Model], path: Path, overrides: Mapping[str, Any] | None = None) -> Model:
    """Read a YAML file into a pydantic model.

    Raises
    ------
    BadInput
        With all findings, each ``file:line: dotted.field: message``.
    """
    document = override(read_yaml(path), overrides or {})
    if document.data is None:
        raise BadInput(f"{path}:1: the file is empty")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise BadInput(findings(error, document, str(path), model=model)) from None


def findings(
    error: ValidationError, document: Document, name: str, *, model: Modelled = None, prefix: Location = ()
) -> list[str]:
    """Say a validation error in our words, one line per finding, in the order of the file.

    Parameters
    ----------
    name
        How the file is called in the lines.
    model
        The type that was validated; with it, unknown keys get a "did you mean".
    prefix
        Where in the document the validated value stands, if not at its root.
    """
    lines: dict[tuple[int, str], None] = {}
    for loc, message in describe(error, document.data, model, prefix):
        dotted = ".".join(str(step) for step in loc)
        where = f"{name}:{document.line(loc)}"
        if any(loc[: len(o)] == o for o in document.overridden):
            where = "--set"
        lines[document.line(loc), ": ".join(p for p in (where, dotted, message) if p)] = None
    return [text for _, text in sorted(lines, key=lambda item: item[0])]


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax(path: Path, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        said = [s for s in (error.problem, error.context) if s]
        return f"{where}: is not YAML: {', '.join(said)}".replace("\\t", "tab")
    return f"{path}: is not YAML: {' '.join(str(error).split())}"


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: yaml.Node = node.value[step]
        return item.start_mark.line + 1, item
    return None


def _replaced(data: Any, loc: Location, value: Any) -> Any:
    """Copy ``data``, with ``value`` at ``loc``."""
    if not loc:
        return value
    step, rest = loc[0], loc[1:]
    if isinstance(data, list):
        if not isinstance(step, int) or step >= len(data):
            raise LookupError(f"there is no entry {step} in a list of {len(data)} (they count from 0)")
        return [_replaced(item, rest, value) if i == step else item for i, item in enumerate(data)]
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise LookupError(f"{step} would be a key of {data!r}, which has no keys")
    return {**data, str(step): _replaced(data.get(str(step)), rest, value)}


class _Builder:
    """Plain values from nodes, collecting what is wrong on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[str] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, loc: Location) -> Any:
        if id(node) in self._open:
            self._report(node, loc, "an alias refers to itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*loc, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, loc)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, loc: Location) -> dict[str, Any]:
        out: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(key, loc, "a key must be a single word")
                continue
            if key.value in first:
                self._report(key, (*loc, key.value), f"the key is given twice (first in line {first[key.value]})")
                continue
            first[key.value] = key.start_mark.line + 1
            out[key.value] = self.value(value, (*loc, key.value))
        return out

    def _scalar(self, node: yaml.Node, loc: Location) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == "int" and _INT.match(text):
            return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
        if tag == "float" and (_FLOAT.match(text) or _INT.match(text)):
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
        self._report(node, loc, f"{text!r} cannot be read as {node.tag}")
        return None

    def _report(self, node: yaml.Node, loc: Location, message: str) -> None:
        dotted = ".".join(str(step) for step in loc)
        where = f"{self.path}:{node.start_mark.line + 1}"
        self.findings.append(": ".join(p for p in (where, dotted, message) if p))
