"""From what is given to files: the reports as documents and as pages, the label, and all of them on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pettoolkit.report.page import page
from pettoolkit.report.standard import checklist, label, privacy, summary, utility
from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.texts import Texts, texts

Json = Mapping[str, Any]

SCHEMA_VERSION = 1
"""Of the documents; raised when a field changes its meaning or goes away."""

SCHEMAS = Path(__file__).with_name("schemas")

REPORTS = ("summary", "utility", "privacy", "checklist")
"""The four standard reports, in the order of reading."""

_BODIES: Mapping[str, Callable[[Json, Texts], str]] = {
    "summary": summary.body,
    "utility": utility.body,
    "privacy": privacy.body,
    "checklist": checklist.body,
    "label": label.body,
}


def document(report: str, given: Given, lang: str = "en") -> dict[str, Any]:
    """Return one report as a document; `schemas/REPORT.json` describes it.

    Parameters
    ----------
    report
        One of :data:`REPORTS`, or ``label``.
    lang
        ``en`` or ``da``: language of what is said in words (checklist), and of the page made of it.
    """
    t = texts(lang)
    parts: Mapping[str, Callable[[], dict[str, Any]]] = {
        "summary": lambda: summary.content(given),
        "utility": lambda: utility.content(given),
        "privacy": lambda: privacy.content(given),
        "checklist": lambda: checklist.content(given, t),
        "label": lambda: label.content(given),
    }
    return {
        "document": f"pettoolkit {report}",
        "schema_version": SCHEMA_VERSION,
        "report": report,
        "language": lang,
        "date": given.date,
        "version": given.version,
        "table": {"name": given.name, "rows": given.rows, "sha256": given.sha256},
        "responsible": dict(given.responsible),
        **parts[report](),
    }


def html(found: Json) -> str:
    """Write the page of a document, and of nothing else."""
    t = texts(found["language"])
    title = f"{t(found['report'] + '.title')}: {found['table']['name']}"
    return page(title, _BODIES[found["report"]](found, t), t.lang)


def files(report: str, given: Given, lang: str = "en") -> dict[str, bytes]:
    """Return document and page by the name of the file."""
    found = document(report, given, lang)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {f"{report}.json": text.encode(), f"{report}.html": html(json.loads(text)).encode()}


def reports(given: Given, lang: str = "en") -> dict[str, bytes]:
    """Return all four reports by the names of their files."""
    return {name: data for report in REPORTS for name, data in files(report, given, lang).items()}
