"""The advice as a person reads it; reads the JSON document and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

WIDTH = 118
ORDER = ("qualifies", "qualifies on conditions", "undecided", "not good enough", "ruled out")
WORDS = {"rule_out": "no", "condition": "if", "note": "note"}


def lines(document: Json) -> list[str]:
    """The whole answer."""
    out = _wrapped(f"Experiment {document['experiment']}, {document['data']} hospitals. {document['disclaimer']}", "")
    out += ["", *_answer(document)]
    if document["thin"]:
        out += ["", "Too thin to lean on:", *(line for said in document["thin"] for line in _wrapped(said, "- "))]
    for status in ORDER:
        rows = [row for row in document["technologies"] if row["status"] == status]
        if rows:
            out += ["", f"== {status.upper()}"]
            for row in rows:
                out += _technology(row, document["situation"]["margin"])
    out += ["", *_checklist(document["technologies"])]
    return [*out, "", *_sources(document["sources"])]


def _answer(document: Json) -> list[str]:
    least, margin = document["least_risk"], document["situation"]["margin"]
    how = (
        f"Good enough means: not more than {margin:g} AUROC worse than the same model on pooled real data (95 %, all "
        f"technologies together) [{', '.join(document['answers']['good_enough'])}]."
    )
    if least["name"] is None:
        said = f"No technology is named: {least['why']}."
    else:
        said = (
            f"Among those that are good enough and allowed, {least['name']} has the least measured risk "
            f"({least['why']}) [{', '.join(document['answers']['least_risk'])}]."
        )
        if least["not_told_apart"]:
            said += f" Not told apart from it by these attacks: {', '.join(least['not_told_apart'])}."
    if least["not_measured"] and least["name"] is not None:
        said += f" Risk not measured: {', '.join(least['not_measured'])}."
    out = [*_wrapped(said, ""), *_wrapped(how, "")]
    if document["not_answered"]:
        out += _wrapped(f"Not answered: {', '.join(document['not_answered'])}; what depends on it is said as 'if'.", "")
    return out


def _technology(row: Json, margin: float) -> list[str]:
    enough, auroc = row["good_enough"], row["auroc"]
    value = "-" if auroc["value"] is None else f"{auroc['value']:.3f}"
    out = [f"{row['name']}: AUROC {value}{_span(auroc['interval'])}"]
    if enough["state"] == "reference":
        out += ["    good enough: it is what the others are compared with"]
    else:
        shown = "" if _missing(enough["value"]) else f" {enough['value']:+.3f}{_span(enough['interval'], '+')}"
        out += _wrapped(f"good enough: {enough['state']}{shown}: {enough['why']}", "    ")
    if auroc["useful"]:
        out.append(f"    of use at all: {auroc['useful']}")
    out += _wrapped(f"risk: {_risk(row)}", "    ")
    for kind, found in row["maturity"].items():
        cited = f" [{', '.join(found['sources'])}]" if found["sources"] else ""
        out += _wrapped(f"maturity, {kind.replace('_', ' ')}: {found['level']}; {found['says']}{cited}", "    ")
    for reason in row["reasons"]:
        out += _wrapped(f"{WORDS[reason['effect']]}: {reason['text']} [{', '.join(reason['sources'])}]", "    ")
    return out


def _risk(row: Json) -> str:
    risk = row["risk"]
    epsilon = "no guarantee" if _missing(row["epsilon"]) else f"epsilon {row['epsilon']:.3g}"
    if "not_measured" in risk:
        return f"not measured ({risk['not_measured']}); {epsilon}"
    span = f"{risk['interval']['low']:.2f} to {risk['interval']['high']:.2f}"
    verdicts = f"release {risk['release']}, insiders {risk['insider']}"
    return f"strongest attack {risk['value']:.2f} ({span}); {verdicts}; {epsilon}"


def _checklist(rows: Sequence[Json]) -> list[str]:
    out = ["Costs and benefits: what was measured, and what to consider (not measured) [cost_benefit]"]
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        out.append(f"{family}:")
        for entries in zip(*(row["checklist"] for row in own), strict=True):
            item, consider = entries[0]["item"].replace("_", " "), entries[0]["consider"]
            for row, entry in zip(own, entries, strict=True):
                if entry["measured"] != "not measured":
                    out += _wrapped(f"{item}, {row['name']}: {entry['measured']}", "  ")
            if consider:
                out += _wrapped(f"{item}: not measured: {consider}", "  ")
    return out


def _sources(sources: Mapping[str, Json]) -> list[str]:
    out = ["Sources, and what each supports"]
    for name, source in sources.items():
        out += _wrapped(f"{name}: {source['title']}. Supports: {source['supports']}.", "- ")
    return out


def _missing(value: Any) -> bool:
    return isinstance(value, Mapping) and "not_measured" in value


def _span(interval: Json, sign: str = "") -> str:
    if _missing(interval):
        return ""
    return f" ({interval['low']:{sign}.3f} to {interval['high']:{sign}.3f})"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=" " * (len(indent) + 2), break_on_hyphens=False
    )
