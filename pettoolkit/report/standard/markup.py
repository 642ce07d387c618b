"""Pieces of HTML that all standard reports share: head, tables, figures with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pettoolkit.report.standard.texts import Texts

Json = Mapping[str, Any]

NOT_MEASURED = "not_measured"
"""Key under which a document says why there is no figure."""

STATES = {"below": "good", "above": "bad", "undecided": "open", "within": "good", "beyond": "bad"}
"""Class of a word that judges; the word itself says it too, for those who see no colours."""


def measured(value: Any) -> bool:
    """Whether a document has a figure here."""
    return value is not None and not (isinstance(value, Mapping) and NOT_MEASURED in value)


def figure(value: Any, t: Texts, form: str = ".3f") -> str:
    """A number, or that it was not measured."""
    return escape(t.number(value, form)) if measured(value) else _absent(t)


def estimate(value: Any, t: Texts, form: str = ".3f") -> str:
    """A figure with its 95 % interval, or with the remark that it has none."""
    if not measured(value):
        return _absent(t)
    text = escape(t.number(value["value"], form))
    if not measured(value.get("interval")):
        return f'{text} <span class="soft">({escape(t("figure.no_interval"))})</span>'
    ends = value["interval"]
    between = t("figure.interval", low=t.number(ends["low"], form), high=t.number(ends["high"], form))
    return f"{text} ({escape(between)})"


def state(word: str, t: Texts) -> str:
    """A verdict as a word in its colour."""
    return f'<span class="{STATES[word]}">{escape(t(f"state.{word}"))}</span>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = (), first: int = 0) -> str:
    """Rows of cells that are HTML already.

    ``numbers`` are the columns that are set flush right, ``first`` is the least width of the first one, in rem.
    """

    def cells(row: Sequence[str]) -> str:
        kind = [' class="number"' if i in numbers else "" for i in range(len(row))]
        return "<tr>" + "".join(f"<td{k}>{c}</td>" for c, k in zip(row, kind, strict=True)) + "</tr>"

    def name(i: int, text: str) -> str:
        side = "right" if i in numbers else "left"
        wide = f";min-width:{first}rem" if first and i == 0 else ""
        return f'<th scope="col" style="text-align:{side};vertical-align:bottom{wide}">{escape(text)}</th>'

    heads = "".join(name(i, text) for i, text in enumerate(head))
    body = "\n".join(cells(row) for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def facts(rows: Sequence[tuple[str, str]], first: int = 0) -> str:
    """Names of facts and the facts, which are HTML already; ``first``: per cent of the page's width for the names."""
    body = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{fact}</td></tr>' for name, fact in rows)
    body = body.replace('<th scope="row"', f'<th scope="row" style="width:{first}%"', 1) if first else body
    fixed = ' style="width:100%;table-layout:fixed"' if first else ""
    return f'<div class="wide"><table{fixed}><tbody>\n{body}\n</tbody></table></div>'


def section(key: str, t: Texts, *parts: str, **values: object) -> str:
    """A headline, the sentence that says how to read it, and what follows."""
    how = f'<p class="how">{escape(t(f"{key}.how", **values))}</p>'
    return "\n".join([f"<h2>{escape(t(f'{key}.title'))}</h2>", how, *parts])


def listed(items: Sequence[str]) -> str:
    """A list of items that are HTML already; empty without any."""
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""


def note(text: str) -> str:
    """A remark that must not be overlooked; the text is HTML already."""
    return f'<p class="note">{text}</p>'


def guaranteed(stated: str, t: Texts) -> str:
    """What a declaration states about differential privacy, in words; not escaped."""
    known = {"none": "none", "not stated": "unknown"}.get(stated)
    return t(f"privacy.guarantee.{known}") if known else t("privacy.guarantee.stated", said=t.phrase(stated) or stated)


def missing(what: str, t: Texts) -> str:
    """Say that quality or risk was not measured, and by which command it is."""
    return note(
        f'<strong class="open">{escape(t("missing.title"))}.</strong> {escape(t(f"missing.{what}"))} '
        f"<code>{escape(t.by_key[f'missing.command_{what}'])}</code>"
    )


def head(document: Json, t: Texts) -> str:
    """Title, what the report is about, and who answers for it; the same in every report."""
    kind = document["report"]
    about = document["table"]
    who = document["responsible"]
    name = f"{escape(who['name'])}, {escape(who['email'])}"
    rows = [
        (
            t("head.table"),
            f"<strong>{escape(about['name'])}</strong>, {escape(t('head.rows', rows=t.number(about['rows'], ',d')))}",
        ),
        (t("head.sha256"), f"<code>{escape(about['sha256'])}</code>" if about["sha256"] else escape(t("head.no_hash"))),
        (t("head.responsible"), name),
        (t("head.made"), escape(t("head.date_version", date=document["date"], version=document["version"]))),
    ]
    return (
        f"<header><h1>{escape(t(f'{kind}.title'))}</h1>\n<p>{escape(t(f'{kind}.purpose'))}</p>\n{facts(rows)}</header>"
    )


def _absent(t: Texts) -> str:
    return f'<span class="soft">{escape(t("figure.not_measured"))}</span>'
