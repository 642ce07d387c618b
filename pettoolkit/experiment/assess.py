"""`pettoolkit assess` and `pettoolkit release`: measured documents become the standard reports, and a label."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pettoolkit import __version__
from pettoolkit.cohort.tablefile import read_table, sha256_of, table_files
from pettoolkit.cohort.yamlfile import read_yaml
from pettoolkit.errors import BadInput, Refused
from pettoolkit.evaluation.quality.figures import VERSION as QUALITY_VERSION
from pettoolkit.evaluation.quality.figures import Candidate, Declaration
from pettoolkit.experiment.attack import SCHEMA_VERSION as RISK_VERSION
from pettoolkit.experiment.attack import Measured, RiskReport
from pettoolkit.experiment.synthesize import MARK
from pettoolkit.report.standard import given as givens
from pettoolkit.report.standard import label, write
from pettoolkit.report.standard.given import Given, tables
from pettoolkit.report.standard.texts import texts

if TYPE_CHECKING:
    from pettoolkit.experiment.config import ExperimentConfig

Json = dict[str, Any]


def _names(kind: type[Declaration | Candidate | RiskReport | Measured]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SINCE_HASHES = {"sha256"}
_PARTS = {
    "candidates": (_names(Declaration), _names(Candidate) - _SINCE_HASHES),
    "releases": (_names(RiskReport) - {"releases"}, _names(Measured) - _SINCE_HASHES),
}
"""What a document must have, and each table's part of it; anything else in it is left alone."""

_FIRST_HASHED = 2
"""Of both documents: the version from which on each table is named by its SHA-256."""


def assess(
    declaration: Path | None,
    risk: Path | None,
    out: Path,
    *,
    name: str | None = None,
    email: str | None = None,
    config: Path | None = None,
    lang: str = "en",
) -> list[Path]:
    """Write the four standard reports about each table of the documents, as pages and as JSON.

    Parameters
    ----------
    declaration, risk
        Documents of `pettoolkit declare` and `pettoolkit attack`; one may be missing.
    out
        Folder; several tables get a folder each in it. Nothing there is overwritten.
    name, email
        Who answers for the table; else ``responsible`` in ``config``.
    config
        YAML with how the table was made, ``responsible``, and ``answers`` by item of the checklist.
    lang
        ``en`` or ``da``.

    Returns
    -------
    list of Path
        The summaries.

    Raises
    ------
    BadInput
        If a document can't be read, or both are about different tables.
    """
    texts(lang)  # an unknown language is said before anything else
    if declaration is None and risk is None:
        raise BadInput("--declaration or --risk: at least one is needed (pettoolkit declare, pettoolkit attack)")
    quality, attacked = _quality(declaration), _risk(risk)
    found = tables(quality, attacked, **people(name, email, config, documents=(quality, attacked)))
    if not found:
        raise BadInput(f"{risk}: is about no table (a model's risk has no standard report)")
    folders = [out] if len(found) == 1 else [out / folder_name(g.name, found) for g in found]
    return [write_reports(g, folder, lang) for g, folder in zip(found, folders, strict=True)]


def assess_experiment(
    config: ExperimentConfig, out: Path, *, name: str | None = None, email: str | None = None, lang: str = "en"
) -> list[Path]:
    """Write the reports for every finished cell that released a table, and attach them to its run in MLflow.

    Raises
    ------
    BadInput
        If there is no such cell, or nobody is named who answers for the tables.
    """
    from pettoolkit.experiment.assesscells import given_cells
    from pettoolkit.tracking.store import Store

    texts(lang)
    who = config.responsible
    people_ = people(name or who.name, email or who.email, None)
    with Store(Path(config.tracking.dir)) as store:
        found = given_cells(config, store, people_)
        if not found:
            raise BadInput(
                f"{config.name}: no finished cell in {config.tracking.dir} released a table (synthetic, anonymised)"
            )
        written = []
        with store.lock():
            for cell in found:
                written.append(write_reports(cell.given, out / cell.folder, lang))
                store.attach(cell.run_id, {f"reports/{n}": d for n, d in write.reports(cell.given, lang).items()})
    return written


def release(
    table: Path,
    declaration: Path | None,
    risk: Path | None,
    *,
    name: str | None = None,
    email: str | None = None,
    config: Path | None = None,
    accept_risk: str | None = None,
    lang: str = "en",
) -> list[Path]:
    """Write the label of a table beside it, if its quality and its risk were measured on exactly this file.

    Parameters
    ----------
    accept_risk
        Why it is released although an attack got more than its threshold allows.

    Raises
    ------
    BadInput
        If something is not there or can't be read.
    Refused
        If one of both was not measured on this file, or the risk is above and not accepted.
    """
    t = texts(lang)
    if accept_risk is not None and not accept_risk.strip():
        raise BadInput("--accept-risk: say why (the reason is printed on the label)")
    file = read_table(table_files(table)[0]) if not table.is_dir() else None
    if file is None:
        raise BadInput(f"{table}: is a folder; a label is about one file")
    digest = sha256_of(table)
    quality = _only(_quality(declaration), "candidates", digest)
    attacked = _only(_risk(risk), "releases", digest)
    for found, path, what in ((quality, declaration, "quality"), (attacked, risk, "risk")):
        if found is None:
            raise Refused(_unmeasured(table, path, what, digest))
    who = people(name, email, config, documents=(quality, attacked))
    settings = {**_made(file.table), **who.pop("settings")}
    given = replace(tables(quality, attacked, **who)[0], name=table.name, settings=settings, accepted_risk=accept_risk)
    label.check(given)
    state = attacked["releases"][0]["verdict"]["state"] if attacked else ""
    if accept_risk is not None and state != "above":
        raise BadInput(f"--accept-risk: no attack got more than its threshold allows on {table}; leave it out")
    files = {table.with_name(f"{table.name}.{n}"): data for n, data in write.files("label", given, t.lang).items()}
    _check_free(list(files))
    for path, data in files.items():
        _put(path, data)
    return list(files)


def people(
    name: str | None, email: str | None, config: Path | None, documents: tuple[Json | None, ...] = ()
) -> dict[str, Any]:
    """Fields of :class:`~pettoolkit.report.standard.given.Given` that no measurement knows.

    Raises
    ------
    BadInput
        If nobody is named who answers for the table, or the file is no mapping.
    """
    said: dict[str, Any] = {}
    if config is not None:
        data = read_yaml(config).data
        if not isinstance(data, Mapping):
            raise BadInput(f"{config}:1: must be keys with values, such as generator: marginals")
        said = dict(data)
    who, answers = said.pop("responsible", None) or {}, said.pop("answers", None) or {}
    if not isinstance(who, Mapping) or not isinstance(answers, Mapping):
        raise BadInput(f"{config}: responsible and answers must be keys with values")
    named = {"name": name or who.get("name"), "email": email or who.get("email")}
    lines = [f"--{key}: nobody answers for the table (name somebody)" for key, value in named.items() if not value]
    if named["email"] and not _EMAIL.fullmatch(str(named["email"])):
        lines.append(f"--email: must be an address like ada@example.org (got {named['email']})")
    if lines:
        raise BadInput(lines)
    return {
        "responsible": {key: str(value) for key, value in named.items()},
        "answers": {str(key): str(value) for key, value in answers.items()},
        "settings": {**flat(said), **_measured(documents)},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "version": f"pettoolkit {__version__}",
    }


def write_reports(given: Given, folder: Path, lang: str) -> Path:
    """Write the four reports into a folder and return the summary's path."""
    files = {folder / name: data for name, data in write.reports(given, lang).items()}
    _check_free(list(files))
    for path, data in files.items():
        _put(path, data)
    return folder / "summary.html"


def flat(data: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Dotted keys and texts of nested settings; what is null or empty is left out."""
    out: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{before}{key}.")
        elif value not in (None, "", [], ()):
            is_list = isinstance(value, (list, tuple))
            out[f"{before}{key}"] = ", ".join(map(str, value)) if is_list else str(value)
    return out


def folder_name(name: str, found: list[Given]) -> str:
    """A table's folder: its file's name; with a part of its hash where several tables have the same."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    twice = sum(g.name == name for g in found) > 1
    mine = next(g.sha256 for g in found if g.name == name)
    return f"{plain}-{mine[:8]}" if twice and mine else plain


def _measured(documents: tuple[Json | None, ...]) -> dict[str, str]:
    """How it was measured, for the settings."""
    out: dict[str, str] = {}
    for document in documents:
        if document is not None and "candidates" in document:
            out |= {"declare.mode": str(document["mode"]), "declare.seed": str(document["seed"])}
        elif document is not None:
            out |= {"attack.effort": str(document["effort"]), "attack.seed": str(document["seed"])}
    return out


def _made(table: Any) -> dict[str, str]:
    """What `pettoolkit synthesize` wrote into the file about how it was made."""
    written = (table.schema.metadata or {}).get(MARK)
    if written is None:
        return {}
    said = json.loads(written)
    return flat({key: said.get(key) for key in ("generator", "differential_privacy")})


def _quality(path: Path | None) -> Json | None:
    return _document(path, "--declaration", "candidates", QUALITY_VERSION, "pettoolkit declare")


def _risk(path: Path | None) -> Json | None:
    return _document(path, "--risk", "releases", RISK_VERSION, "pettoolkit attack")


def _document(path: Path | None, option: str, key: str, newest: int, command: str) -> Json | None:
    if path is None:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{option}: {path}: can't be read ({error.strerror})") from None
    except ValueError:
        raise BadInput(f"{option}: {path}: is no JSON; it must be what `{command} --out` writes") from None
    if not isinstance(data, dict) or key not in data or not isinstance(data.get("schema_version"), int):
        raise BadInput(f"{option}: {path}: is no document of `{command} --out`")
    if data["schema_version"] > newest:
        raise BadInput(f"{option}: {path}: schema_version {data['schema_version']} is newer than {newest} (upgrade)")
    whole, each = _PARTS[key]
    gone = sorted(whole - data.keys())
    gone += sorted({f"{key}: {part}" for entry in data[key] for part in each - entry.keys()})
    if gone:
        raise BadInput(f"{option}: {path}: is not what `{command} --out` wrote; there is no {', '.join(gone)}")
    return data


def _only(document: Json | None, key: str, digest: str) -> Json | None:
    """The document with what it says about the file with this hash, and nothing else; None if it says nothing."""
    if document is None or document["schema_version"] < _FIRST_HASHED:
        return None
    single = [entry for entry in document[key] if _digest(entry) == digest]
    return {**document, key: single[:1]} if single else None


def _digest(entry: Mapping[str, Any]) -> str | None:
    found = entry.get("sha256")
    if isinstance(found, Mapping):
        return givens.digest_of(entry) if givens.single(entry) else None
    return found if isinstance(found, str) else None


def _unmeasured(table: Path, path: Path | None, what: str, digest: str) -> str:
    option, command = {"quality": ("--declaration", "declare"), "risk": ("--risk", "attack")}[what]
    if path is None:
        return f"{table}: its {what} was not measured; no release without (pettoolkit {command} .., then {option} FILE)"
    return (
        f"{table}: {path} says nothing about this file (SHA-256 {digest[:16]}..); the table was changed since, or "
        f"another one was measured (measure this one: pettoolkit {command})"
    )


def _check_free(paths: list[Path]) -> None:
    taken = [f"{path}: is there already (move it away, or choose another folder)" for path in paths if path.exists()]
    if taken:
        raise BadInput(taken)


def _put(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise BadInput(f"{path}: can't be written ({error.strerror})") from None
