"""The label of a release: one page of fixed layout that lies beside the table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pettoolkit.errors import Refused
from pettoolkit.report.standard import summary
from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.markup import facts, head, note
from pettoolkit.report.standard.texts import Texts
from pettoolkit.report.standard.utility import short_rows

Json = Mapping[str, Any]


def check(given: Given) -> None:
    """Refuse a table that may not get a label.

    Raises
    ------
    Refused
        If quality or risk was not measured, or the verdict is *above* and nobody accepted it with a reason.
    """
    for found, what, command in (
        (given.quality, "quality", "pettoolkit declare"),
        (given.release, "risk", "pettoolkit attack"),
    ):
        if found is None:
            raise Refused(f"{given.name}: its {what} was not measured; no release without (measure it: {command})")
    assert given.release is not None, "checked above"
    state = given.release["verdict"]["state"]
    if state == "above" and not given.accepted_risk:
        raise Refused(
            f"{given.name}: an attack got more than its threshold allows; not released (take a less faithful table, "
            'or --accept-risk "why", which is printed on the label)'
        )


def content(given: Given) -> dict[str, Any]:
    """Return what the label says beyond its head."""
    return {**summary.content(given), "accepted_risk": given.accepted_risk}


def body(document: Json, t: Texts) -> str:
    """Write the page's body: the same parts at the same places for every table."""
    quality = document["quality"]
    parts = [head(document, t)]
    accepted = document["accepted_risk"]
    if accepted:
        parts.append(note(f'<strong class="bad">{escape(t("label.accepted"))}</strong> {escape(accepted)}'))
    parts += [
        f"<h2>{escape(t('label.quality'))}</h2>",
        facts(short_rows(quality, t), first=34),
        f"<h2>{escape(t('label.risk'))}</h2>",
        summary.privacy_part(document, t, first=34),
        f"<h2>{escape(t('label.settings'))}</h2>",
        _settings(document["settings"], t),
        note(escape(t("label.says"))),
    ]
    whole = "\n".join(parts).replace("<h2>", '<h2 style="margin:.9rem 0 .2rem">')
    return f'<div style="font-size:.92em">\n{whole}\n</div>'


def _settings(found: Mapping[str, str], t: Texts) -> str:
    """All settings in one paragraph: the label is one page, however many there are."""
    if not found:
        return summary.settings(found, t)
    return "<p>" + "; ".join(f"<strong>{escape(k)}</strong> {escape(v)}" for k, v in found.items()) + "</p>"
