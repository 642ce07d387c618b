"""The due diligence checklist: filled where the measurement knows, an open question where only people can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from pettoolkit.errors import BadInput
from pettoolkit.report.standard import privacy, utility
from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.markup import guaranteed, head, measured, note
from pettoolkit.report.standard.texts import Texts

Json = Mapping[str, Any]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "purpose": ("purpose", "business_case", "alternatives", "fitness", "sufficient"),
    "five_safes": ("projects", "people", "settings", "data", "outputs"),
    "ethics": ("approval", "benefit", "groups", "informed"),
    "data_protection": (
        "legal_basis",
        "anonymous",
        "guarantee",
        "attacks",
        "matches",
        "dpia",
        "minimisation",
        "transfer",
    ),
    "governance": ("responsible", "identity", "reproducible", "retention", "incident", "again"),
}
"""Items by group, in the order of the page; each has its question in the catalogue."""

ITEMS = tuple(item for items in GROUPS.values() for item in items)


def content(given: Given, t: Texts) -> dict[str, Any]:
    """Return the items with what is known about each.

    Raises
    ------
    BadInput
        If an answer is given to something that is no item.
    """
    unknown = [key for key in given.answers if key not in ITEMS]
    if unknown:
        raise BadInput(
            [f"answers: {key}: is no item of the checklist; items are {', '.join(ITEMS)}" for key in unknown]
        )
    known = {item: fill(given, t) for item, fill in _FILLED.items()}
    return {
        "items": [_item(group, item, known.get(item), given, t) for group, items in GROUPS.items() for item in items]
    }


def body(document: Json, t: Texts) -> str:
    """Write the page's body from the document."""
    items = document["items"]
    counts = {s: sum(i["status"] == s for i in items) for s in ("filled", "answered", "open")}
    parts = [
        head(document, t),
        note(escape(t("checklist.not_legal"))),
        f"<p>{escape(t('checklist.counts', **counts))}</p>",
    ]
    for group in GROUPS:
        parts.append(f"<h2>{escape(t(f'checklist.group.{group}'))}</h2>")
        parts.append(_table([i for i in items if i["group"] == group], t))
    return "\n".join(parts)


def _item(group: str, item: str, known: str | None, given: Given, t: Texts) -> dict[str, Any]:
    answer = given.answers.get(item)
    status = "answered" if answer else ("filled" if known else "open")
    return {
        "id": item,
        "group": group,
        "question": t(f"checklist.question.{item}"),
        "status": status,
        "known": known,
        "answer": answer,
    }


def _table(items: list[Json], t: Texts) -> str:
    rows = []
    for i in items:
        colour = {"filled": "good", "answered": "good", "open": "open"}[i["status"]]
        word = t("checklist.status." + i["status"])
        status = f'<span class="{colour}">{escape(word)}</span>'
        said = [escape(text) for text in (i["answer"], i["known"]) if text]
        answer = "<br>".join(said) or f'<span class="soft">{escape(t("checklist.blank"))}</span>'
        wrapped = f'<td style="overflow-wrap:anywhere">{answer}</td>'
        rows.append(f"<tr><td>{escape(i['question'])}</td><td>{status}</td>{wrapped}</tr>")
    heads = "".join(
        f'<th scope="col" style="width:{width}%">{escape(t(f"checklist.{k}"))}</th>' for k, width in _WIDTHS.items()
    )
    body = "\n".join(rows)
    opened = '<div class="wide"><table style="width:100%;table-layout:fixed">'
    return f"{opened}<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"


def _fitness(given: Given, t: Texts) -> str | None:
    quality = utility.content(given)["quality"]
    if quality is None or not measured(quality["utility"]):
        return None
    used = quality["utility"]
    name, trained = next(iter(used["models"].items()))
    if not measured(trained["loss"]):
        return None
    return t(
        "checklist.known.fitness",
        model=t.word("model", name),
        figure=t.word("figure_name", used["headline"]),
        loss=t.number(trained["loss"]["value"], "+.3f"),
        interval=_interval(trained["loss"], t),
    )


def _interval(estimate: Json, t: Texts) -> str:
    if not measured(estimate["interval"]):
        return t("figure.no_interval")
    ends = estimate["interval"]
    return t("figure.interval", low=t.number(ends["low"], "+.3f"), high=t.number(ends["high"], "+.3f"))


def _data(given: Given, t: Texts) -> str | None:
    rows = t.number(given.rows, ",d")
    return t("checklist.known.data", rows=rows, sha256=given.sha256 or t("head.no_hash"))


def _groups(given: Given, t: Texts) -> str | None:
    found = privacy.content(given)["discrimination"]
    if found is None:
        return None
    larger = [entry["attribute"] for entry in found if entry["larger"]]
    checked = ", ".join(entry["attribute"] for entry in found) or t("checklist.known.no_attribute")
    return t("checklist.known.groups", checked=checked, larger=", ".join(larger) or t("checklist.known.no_attribute"))


def _guarantee(given: Given, t: Texts) -> str | None:
    if given.guarantee is not None and measured(given.guarantee):
        numbers = {k: t.number(given.guarantee[k], "g") for k in ("epsilon", "delta")}
        text = t("privacy.guarantee.epsilon", **numbers)
        return f"{text} {t('privacy.guarantee.simulated')}" if given.guarantee["simulated_noise"] else text
    return None if given.quality is None else guaranteed(given.stated, t)


def _attacks(given: Given, t: Texts) -> str | None:
    risk = privacy.content(given)["risk"]
    if risk is None:
        return None
    state = risk["verdict"]["state"]
    return t("checklist.known.attacks", n=len(risk["attacks"]), state=t(f"state.{state}"))


def _matches(given: Given, t: Texts) -> str | None:
    if given.quality is None:
        return None
    copies = given.quality["copies"]
    numbers = {"n": t.number(copies["identical"], ",d"), "of": t.number(copies["rows"], ",d")}
    return t("privacy.matches.found", floor=t.number(copies["floor_share"], ".1%"), **numbers)


def _reproducible(given: Given, t: Texts) -> str | None:
    if not given.settings:
        return None
    return t("checklist.known.reproducible", n=len(given.settings), version=given.version)


_WIDTHS = {"item": 42, "state": 11, "answer": 47}
"""Per cent of the page; the same in each group, so that columns stand below each other."""

_FILLED: Mapping[str, Callable[[Given, Texts], str | None]] = {
    "fitness": _fitness,
    "data": _data,
    "groups": _groups,
    "guarantee": _guarantee,
    "attacks": _attacks,
    "matches": _matches,
    "responsible": lambda given, t: t("checklist.known.responsible", **given.responsible),
    "identity": lambda given, t: t("checklist.known.identity", version=given.version, date=given.date),
    "reproducible": _reproducible,
}
"""What a measurement knows; what is not here only people can answer."""
