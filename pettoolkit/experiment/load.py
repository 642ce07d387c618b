"""Reading an experiment file: all that is wrong with it at once, each finding with its line.

``builtin:NAME`` is an experiment that comes with the package. ``--set a.b=v`` changes one key (the value is
read as YAML); a key set this way is no longer varied by the matrix.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pettoolkit.cohort.yamlfile import Document, findings, override, read_value, read_yaml
from pettoolkit.cohort.yamlmessages import describe, did_you_mean
from pettoolkit.errors import BadInput
from pettoolkit.experiment.config import AnyArm, CellKeys, DpKeys, ExperimentConfig, located, packaged
from pettoolkit.experiment.matrix import Loc, put, refusals

BUILTIN = "builtin:"

VARIED = tuple(CellKeys.model_fields)
"""First words of the keys that a matrix may vary."""


def load(experiment: str | Path, sets: Sequence[str] = ()) -> ExperimentConfig:
    """Read, check and type an experiment file.

    Parameters
    ----------
    experiment
        A path, or ``builtin:NAME``.
    sets
        Changes ``dotted.key=value``, in order.

    Raises
    ------
    BadInput
        With all findings, each ``file:line: field: message`` (``--set: field: message`` for a change).
    """
    path = locate(experiment)
    document = _changed(read_yaml(path), sets)
    if document.data is None:
        raise BadInput(f"{path}:1: the file is empty")
    lines: list[str] = []
    try:
        config = ExperimentConfig.model_validate(document.data).read_from(document)
    except ValidationError as error:
        config = None
        lines = findings(error, document, str(path), model=ExperimentConfig)
    if isinstance(document.data, dict):
        varied = [located(document, loc, said) for loc, said in (*_matrix(document.data), *_exclude(document.data))]
        lines += [line for line in varied if line not in lines]
    if config:
        lines += [config.finding(loc, said) for loc, said in _together(config)]
    if config and not lines:
        lines = refusals(config)
    if config is None or lines:
        raise BadInput(sorted(lines, key=lambda line: _number(line, path)))
    return config


def locate(experiment: str | Path) -> Path:
    """Path of an experiment file.

    Raises
    ------
    BadInput
        If no packaged experiment has that name. (Whether a path exists is found when it is read.)
    """
    name = str(experiment)
    if not name.startswith(BUILTIN):
        return Path(name)
    known = {path.stem: path for path in sorted(packaged("experiments").glob("*.yaml"))}
    word = name.removeprefix(BUILTIN)
    if word not in known:
        hint = did_you_mean(word, known) or f"there are {', '.join(known)}"
        raise BadInput(f"{name}: no experiment of that name comes with the package ({hint})")
    return known[word]


def _changed(document: Document, sets: Sequence[str]) -> Document:
    bad: list[str] = []
    for change in sets:
        key, equals, value = change.partition("=")
        key = key.strip()
        if not equals or not key:
            bad.append(f"--set {change}: write it as KEY=VALUE, for example --set dp.epsilon=3")
            continue
        try:
            document = _set(document, key, value)
        except BadInput as error:
            bad += error.lines
    if bad:
        raise BadInput(bad)
    return document


def _set(document: Document, key: str, value: str) -> Document:
    matrix = document.data.get("matrix") if isinstance(document.data, dict) else None
    varied = matrix if isinstance(matrix, dict) else {}
    if key.startswith("matrix."):
        word = key.removeprefix("matrix.")  # the rest is one key of the matrix, dots included
        try:
            data = put(document.data, "matrix", {**varied, word: read_value(value)})
        except BadInput as error:
            raise BadInput(f"--set {key}={value}: {error.lines[0]}") from None
        return dataclasses.replace(document, data=data, overridden=(*document.overridden, ("matrix", word)))
    if key in varied:
        rest = {name: values for name, values in varied.items() if name != key}
        document = dataclasses.replace(document, data=put(document.data, "matrix", rest))
    first, _, below = key.partition(".")
    if first == "model" and below and isinstance(document.data.get("model"), str):
        document = dataclasses.replace(document, data=put(document.data, "model", {"name": document.data["model"]}))
    return override(document, {key: value})


def _matrix(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """What is wrong with the matrix's keys, and with each value as if it stood in the file itself."""
    matrix = data.get("matrix")
    head = {name: data[name] for name in VARIED if name in data}
    for key, values in matrix.items() if isinstance(matrix, dict) else ():
        way = tuple(key.split("."))
        if way[0] not in VARIED:
            hint = did_you_mean(key, VARIED) or f"these can: {', '.join(VARIED)}, and keys below them"
            if way[0] == "arms":
                hint = "write a list as the value of the arm's own key"
            yield ("matrix", key), f"cannot be varied ({hint})"
            continue
        for i, value in enumerate(values if isinstance(values, list) else ()):
            for loc, said in _value(put(head, key, value), way):
                below = ".".join(str(step) for step in loc[len(way) :])
                yield ("matrix", key, i), f"{below}: {said}" if below else said


def _value(head: dict[str, Any], way: tuple[str, ...]) -> Iterator[tuple[Loc, str]]:
    try:
        CellKeys.model_validate(head)
    except ValidationError as error:
        for loc, said in describe(error, head, CellKeys, ()):
            if loc[: len(way)] == way or way[: len(loc)] == loc:
                yield loc, said


def _exclude(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Keys that no cell has."""
    entries = data.get("exclude")
    known = {"arm", "seed", *VARIED, "model.name", "model.hidden", *_below("dp", DpKeys)}
    known |= _below("evaluation", CellKeys.model_fields["evaluation"].annotation)
    known |= {name for arm in _arm_classes() for name in arm.model_fields}
    for i, entry in enumerate(entries if isinstance(entries, list) else ()):
        for name in entry if isinstance(entry, dict) else ():
            if name not in known or name == "evaluation":
                hint = did_you_mean(name, known) or "an arm's key, seed, or a key that a matrix can vary"
                yield ("exclude", i, name), f"no cell has this ({hint})"


def _below(section: str, keys: Any) -> set[str]:
    return {f"{section}.{name}" for name in keys.model_fields}


def _arm_classes() -> tuple[Any, ...]:
    return typing.get_args(AnyArm)


def _together(config: ExperimentConfig) -> Iterator[tuple[Loc, str]]:
    """What is wrong between keys that are right one by one."""
    sites, real = config.sites, config.engine == "flower"
    if real and config.deployment is None:
        yield ("deployment",), "is missing (engine: flower needs a party's folder, see `pettoolkit deploy init`)"
    if sites.source == "tables" and sites.path is None and not real:
        yield ("sites", "path"), "is missing (source: tables needs it)"
    if sites.partition == "unit" and sites.source != "physionet2019":
        yield ("sites", "partition"), f"unit belongs to source: physionet2019 (got source: {sites.source})"
    if config.task == "table-outcome" and sites.source != "tables" and not real:
        yield ("task",), f"table-outcome needs sites.source: tables (got {sites.source})"
    if config.dp and "epsilon" not in config.dp.model_fields_set and "dp.epsilon" not in config.matrix:
        yield ("dp", "epsilon"), "is missing (the budget of the whole run; null means no differential privacy)"
    if len(set(config.seeds)) < len(config.seeds):
        yield ("seeds",), "has a seed twice"
    yield from _twice(config)


def _twice(config: ExperimentConfig) -> Iterator[tuple[Loc, str]]:
    first: dict[str, int] = {}
    for entry, arm in config.written_arms:
        written = arm.model_dump_json()
        if written in first:
            yield ("arms", entry), f"is the same as arms.{first[written]}"
        first.setdefault(written, entry)


def _number(line: str, path: Path) -> int:
    rest = line.removeprefix(f"{path}:")
    number = rest.partition(":")[0]
    return int(number) if rest != line and number.isdigit() else 0
