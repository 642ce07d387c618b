"""The advice as a person reads it, short or whole; reads the JSON document and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

WIDTH = 118
ORDER = ("qualifies", "qualifies on conditions", "undecided", "not good enough", "ruled out")
WORDS = {"rule_out": "no", "condition": "if", "note": "note"}


def short(document: Json) -> list[str]:
    """The answer, a line for each technology and what rules it out; what holds for all is said once."""
    out = _head(document)
    everybody = _of_all(document["technologies"])
    cited = [*document["answers"]["good_enough"], *document["answers"]["least_risk"]]
    for status in ORDER:
        rows = [row for row in document["technologies"] if row["status"] == status]
        if rows:
            out += ["", f"== {status.upper()}"]
            for row in rows:
                out += _line(row)
                weighs = ["rule_out", *(["condition"] if status != "ruled out" else [])]
                weighs += ["note"] if row["name"] == document["least_risk"]["name"] else []
                said = [r for r in row["reasons"] if r["effect"] in weighs and r not in everybody]
                out += [line for reason in said for line in _why(reason)]
                cited += [source for reason in said for source in reason["sources"]]
    if everybody:
        out += ["", "For every one of them:", *(line for reason in everybody for line in _why(reason))]
        cited += [source for reason in everybody for source in reason["sources"]]
    out += ["", *_how_to_read(document), "", "Sources"]
    for name, source in document["sources"].items():
        if name in cited:
            out += _wrapped(f"{name}: {source['title']}", "- ")
    return [*out, "", "--full: maturity, notes, costs and benefits, and what each source supports and what not."]


def lines(document: Json) -> list[str]:
    """The whole answer."""
    out = _head(document)
    for status in ORDER:
        rows = [row for row in document["technologies"] if row["status"] == status]
        if rows:
            out += ["", f"== {status.upper()}"]
            for row in rows:
                out += _technology(row, document["situation"]["margin"])
    out += ["", *_how_to_read(document), "", *_checklist(document["technologies"])]
    return [*out, "", *_sources(document["sources"])]


def _head(document: Json) -> list[str]:
    """What both answers begin with: the margin, the choice, what is undecided, what the evidence lacks."""
    out = _wrapped(
        f"Experiment {document['experiment']}, hospitals' data: {document['data']}. {document['disclaimer']}", ""
    )
    out += ["", *_answer(document)]
    if document["thin"]:
        out += ["", "Too thin to lean on:", *(line for said in document["thin"] for line in _wrapped(said, "- "))]
    return out


def _answer(document: Json) -> list[str]:
    least, margin = document["least_risk"], document["situation"]["margin"]
    usual = "" if document["margin_stated"] else " Nobody stated this margin: it is the usual one (--margin)."
    how = (
        f"Good enough means: not more than {margin:g} AUROC worse than the same model on pooled real data (95 %, all "
        f"technologies together) [{', '.join(document['answers']['good_enough'])}].{usual}"
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
    out = [*_wrapped(how, ""), *_wrapped(said, ""), *_undecided(document)]
    if document["not_answered"]:
        out += _wrapped(f"Not answered: {', '.join(document['not_answered'])}; what depends on it is said as 'if'.", "")
    return out


def _undecided(document: Json) -> list[str]:
    """Who is undecided and what would decide, those of one cause together; and who of them is at less risk."""
    causes: dict[str, list[str]] = {}
    for one in document["undecided"]:
        causes.setdefault(one["what_decides"], []).append(one["name"])
    out = []
    for cause, names in causes.items():
        out += _wrapped(f"Undecided, neither good enough nor not: {', '.join(names)}: {cause}.", "")
    risks = {row["name"]: row["risk"] for row in document["technologies"] if "value" in row["risk"]}
    least = risks.get(document["least_risk"]["name"])
    rated = [one["name"] for one in document["undecided"] if one["name"] in risks]
    lower = [name for name in rated if least is not None and risks[name]["value"] < least["value"]]
    if lower:
        said = ", ".join(f"{name} {_strongest(risks[name])}" for name in lower)
        out += _wrapped(f"Of the undecided, less risk was measured of {said}: decide them before you choose.", "")
    return out


def _how_to_read(document: Json) -> list[str]:
    """What the words and figures of a technology's line mean."""
    rows = document["technologies"]
    limits = sorted({row["risk"]["threshold"] for row in rows if not _missing(row["risk"]["threshold"])})
    out = []
    if limits:
        against = " or ".join(f"{limit:.2f}" for limit in limits)
        out += _wrapped(
            "Risk: excess of the strongest attack (95 %): 0 where being in the data changes nothing, 1 where an attack "
            "always succeeds because of it. Release: who gets model or rows; insiders: who takes part, the coordinator "
            f"too; each below, above or undecided against {against}, the runs' threshold (no authority sets one for "
            "excess risk).",
            "",
        )
    if any(not _missing(row["epsilon"]) for row in rows):
        collude = document["situation"]["may_collude"] == "yes"
        left = " It is what is left if the coordinator and a hospital collude." if collude else ""
        out += _wrapped(
            "Epsilon, delta: of each patient, added or removed, for this row alone; all that is run on the same "
            f"patients adds up.{left} The noise of simulated hospitals comes from a seed: it is what a deployment "
            "would give.",
            "",
        )
    return out


def _of_all(rows: Sequence[Json]) -> list[Json]:
    """Reasons that every technology has."""
    if len(rows) < 2:
        return []
    return [r for r in rows[0]["reasons"] if r["effect"] != "note" and all(r in row["reasons"] for row in rows)]


def _line(row: Json) -> list[str]:
    enough, auroc = row["good_enough"], row["auroc"]
    value = "-" if auroc["value"] is None else f"{auroc['value']:.3f}"
    against = "reference"
    if enough["state"] != "reference":
        shown = "" if _missing(enough["value"]) else f" {enough['value']:+.3f}{_span(enough['interval'], '+')}"
        against = f"good enough: {enough['state']}{shown}"
    if auroc["useful"]:
        against += f"; of use: {auroc['useful']}"
    return _wrapped(f"{row['name']}: AUROC {value}; {against}; risk: {_risk(row)}", "")


def _why(reason: Json) -> list[str]:
    return _wrapped(f"{WORDS[reason['effect']]}: {reason['text']} [{', '.join(reason['sources'])}]", "    ")


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
    for view, why in row["risk"]["why"].items():
        out += _wrapped(f"risk, {view} {row['risk'][view]}: {why}", "    ")
    for kind, found in row["maturity"].items():
        cited = f" [{', '.join(found['sources'])}]" if found["sources"] else ""
        out += _wrapped(f"maturity, {kind.replace('_', ' ')}: {found['level']}; {found['says']}{cited}", "    ")
    for reason in row["reasons"]:
        out += _wrapped(f"{WORDS[reason['effect']]}: {reason['text']} [{', '.join(reason['sources'])}]", "    ")
    return out


def _risk(row: Json) -> str:
    risk = row["risk"]
    epsilon = "no guarantee" if _missing(row["epsilon"]) else f"epsilon {row['epsilon']:.3g}, delta {row['delta']:g}"
    if "not_measured" in risk:
        return f"not measured ({risk['not_measured']}); {epsilon}"
    verdicts = f"release {risk['release']}, insiders {risk['insider']}"
    return f"strongest attack {_strongest(risk)}; {verdicts}; {epsilon}"


def _strongest(risk: Json) -> str:
    value, low, high = (round(f, 2) + 0.0 for f in (risk["value"], risk["interval"]["low"], risk["interval"]["high"]))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"  # no minus before zero


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
