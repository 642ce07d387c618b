"""The summary: which table, made how, who answers for it, and the outcome of both other assessments."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pettoolkit.report.standard import privacy, utility
from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.markup import facts, guaranteed, head, listed, missing, section
from pettoolkit.report.standard.texts import Texts

Json = Mapping[str, Any]

SHORT = ("univariate", "bivariate", "utility", "distinguishability", "copies")
"""Parts of the utility assessment that the summary repeats."""


def content(given: Given) -> dict[str, Any]:
    """Return what the report says beyond its head."""
    quality = utility.content(given)["quality"]
    assured = privacy.content(given)
    return {
        "settings": dict(given.settings),
        "quality": None if quality is None else _short(quality),
        "guarantee": assured["guarantee"],
        "risk": assured["risk"],
        "discrimination": [d["attribute"] for d in assured["discrimination"] or () if d["larger"]],
    }


def body(document: Json, t: Texts) -> str:
    """Write the page's body from the document."""
    quality, risk = document["quality"], document["risk"]
    used = facts(utility.short_rows(quality, t)) if quality is not None else missing("quality", t)
    parts = [
        head(document, t),
        section("summary.utility", t, used),
        section("summary.privacy", t, privacy_part(document, t) if risk is not None else missing("risk", t)),
        section("summary.settings", t, settings(document["settings"], t)),
        section("summary.more", t, listed([link(name, t) for name in ("utility", "privacy", "checklist")])),
    ]
    return "\n".join(parts)


def privacy_part(document: Json, t: Texts, first: int = 0) -> str:
    """Verdict, strongest attack and guarantee as rows; ``first`` as in :func:`facts`."""
    risk = document["risk"]
    rows = [
        (t("summary.privacy.verdict"), privacy.outcome(risk, t)),
        (t("summary.privacy.strongest"), privacy.strongest(risk, t)),
        (t("summary.privacy.guarantee"), escape(guaranteed(document["guarantee"]["stated"], t))),
    ]
    if risk["people"] is not None:
        rows.append((t("summary.privacy.people"), escape(t.number(risk["people"]["members"], ",d"))))
    if document["quality"] is not None:
        named = ", ".join(document["discrimination"]) or t("privacy.attacks.no_column")
        rows.append((t("summary.privacy.discrimination"), escape(named)))
    return facts(rows, first=first)


def settings(found: Mapping[str, str], t: Texts) -> str:
    """How the table was made, as far as it is known."""
    if not found:
        return f"<p>{escape(t('summary.settings.none'))}</p>"
    return facts([(name, escape(value)) for name, value in found.items()])


def link(name: str, t: Texts) -> str:
    """A link to another of the four pages, which lies beside this one."""
    return f'<a href="{name}.html">{escape(t(f"{name}.title"))}</a>'


def _short(quality: Json) -> dict[str, Any]:
    out = {key: quality[key] for key in SHORT}
    used = quality["utility"]
    if "models" in used:
        models = {n: {k: m[k] for k in ("loss", "floor")} for n, m in used["models"].items()}
        out["utility"] = {"headline": used["headline"], "models": models}
    return out
