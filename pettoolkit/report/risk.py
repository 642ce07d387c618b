"""The risk document as text that a data protection officer can read; reads the JSON document and nothing else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

WIDTH = 118

ATTACKS: Mapping[str, tuple[str, str]] = {
    "exact_match": ("the record is in the table", "all"),
    "near_match": ("nearly the same record is in it", "all"),
    "density_ratio": ("was this patient's record used?", "all"),
    "linkability": ("join two half records through it", "all"),
    "inference": ("secret, from the most similar row", "all but it"),
    "inference_quasi_identifiers": ("secret, from the most similar row", "QI"),
    "group_inference": ("secret, from all who look alike", "QI"),
    "homogeneity": ("all who look alike have one secret", "QI"),
    "intersection": ("all releases allow one secret", "QI"),
    "reidentification": ("pick the row among alike ones", "QI"),
    "singling_out_univariate": ("one column fits one patient", "nothing"),
    "singling_out_multivariate": ("three columns fit one patient", "nothing"),
}
"""Attack to what it tries and what it knows, in the order of the table; others follow under their own names."""

FULL = "this was --attacks quick, which left control patients out: --attacks full attacks up to 2,000"

STATES = {
    "below": "BELOW the thresholds",
    "above": "ABOVE a threshold",
    "undecided": "UNDECIDED: neither can be said",
}


def lines(document: Json) -> list[str]:
    """The whole report."""
    out = [f"Measured risk. {_people(document)}"]
    for release in document["releases"]:
        out += ["", *_release(release, document["anchors"].get(release["name"], ()), _full_helps(document))]
    out += ["", *_reading(document)]
    return out


def _people(document: Json) -> str:
    people = document["people"]
    return (
        f"{people['members']} patients whose data were used, {people['control']} others attacked likewise (control), "
        f"{people['attacker']} that an attacker may own; up to {document['attacks']} attacks each; "
        f"seed {document['seed']}."
    )


def _full_helps(document: Json) -> bool:
    """Whether there are control patients whom the effort left out."""
    return bool(document["effort"] == "quick" and document["people"]["control"] > document["attacks"])


def _release(release: Json, anchors: Sequence[Json], full_helps: bool) -> list[str]:
    judged = release["verdict"]
    out = [
        f"== {release['name']} ({release['source']}, {release['rows']} "
        + ("patients trained on)" if release["source"] == "model" else "rows)"),
        *_wrapped(f"{STATES[judged['state']]}. {_plainly(judged['why'])}.", ""),
    ]
    if not isinstance(judged["figure"], Mapping):
        null = judged["null"]
        beside = "" if isinstance(null, Mapping) else f"; the same attack on fresh patients {_two(null)}"
        figure, threshold = _two(judged["figure"]), f"threshold {judged['threshold']:.2f}"
        name = _plainly(judged.get("strongest", "")) or "the strongest attack that decides"
        said = f"Strongest: {name}. Chosen on one half of the patients, its excess risk on the other is {figure}"
        out += _wrapped(f"{said} ({threshold}){beside}.", "")
    if judged["left_out"]:
        out += ["What would decide:"]
        out += [line for name, why in judged["left_out"].items() for line in _wrapped(_plainly(f"{name}: {why}"), "  ")]
        out += _wrapped(FULL, "  ") if full_helps else []
    out += ["", *_table(release, anchors)]
    for name, why in release["not_run"].items():
        out += _wrapped(f"not run: {name}: {why}", "")
    for note in release["notes"]:
        out += _wrapped(f"note: {note}", "")
    return out


def _table(release: Json, anchors: Sequence[Json]) -> list[str]:
    """One line an attack: excess with its interval, and the excess on the tables of known risk."""
    names = [a["name"] for a in anchors]
    known = {a["name"]: {_key(f): (f, _decides(f, a)) for f in a["figures"]} for a in anchors}
    mine = {_key(f): f for f in release["figures"]}
    order = [name for name in ATTACKS if any(key[0] == name for key in mine)]
    order += sorted({key[0] for key in mine} - set(order))
    head = f"{'attack':36}{'knows':12}{'excess risk (95 %)':21}{'success':>8}{'control':>8}"
    out = [head + "".join(f"{name.partition(' ' if name[:1] != 'k' else '?')[0]:>7}" for name in names)]
    for attack in order:
        for key, figure in mine.items():
            if key[0] == attack:
                out.append(_row(figure, _decides(figure, release), [known[name].get(key) for name in names]))
    return out


def _decides(figure: Json, measured: Json) -> bool:
    """Whether a figure's patients are enough to say something: if not, it is noise and not shown."""
    return " ".join(_key(figure)) not in measured["verdict"]["left_out"]


def _row(figure: Json, decides: bool, beside: Sequence[tuple[Json, bool] | None]) -> str:
    what, knows = ATTACKS.get(figure["attack"], (figure["attack"], figure["knowledge"]))
    low, high = figure["interval"]["low"], figure["interval"]["high"]
    shown = _two(figure["excess"]) if decides else "?"
    risk = f"{shown} " + ("(exact)" if low == high else f"({_two(low)} to {_two(high)})")
    text = f"{what:36}{knows:12}{risk:21}{_two(figure['success']):>8}{_two(figure['control']):>8}"
    return text + "".join(f"{_beside(each):>7}" for each in beside)


def _beside(found: tuple[Json, bool] | None) -> str:
    if found is None:
        return "-"
    figure, decides = found
    return _two(figure["excess"]) if decides else "?"


def _two(value: float) -> str:
    """Two decimals, no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _plainly(text: str) -> str:
    """Attacks by what they try instead of by their names in the document."""
    for name, (what, knows) in ATTACKS.items():
        text = re.sub(rf"\b{name} [a-z_]+", f"'{what}' (knows: {knows})", text)
    return text


def _key(figure: Json) -> tuple[str, str]:
    return figure["attack"], figure["measure"]


READING = (
    "Excess risk: of the patients on whom the attack would fail had their data not been used, the share on whom it "
    "succeeds because they were: (success - control) / (1 - control). 0 is no exposure. Success alone means little: "
    "what is learned about people who are not in the table exposes nobody in it.",
    "Knows: what the attacker knows of a patient beforehand. All: the whole record, the strict reading of the GDPR. "
    "QI: the quasi-identifiers ({quasi_identifiers}). Secrets: {sensitive}.",
    "Right: the same attacks on tables of known risk. Fresh: patients of whom none is attacked pose as the release "
    "(floor). k: the real table with its quasi-identifiers generalised. Real: the real table (ceiling). An attack "
    "whose ceiling is near its floor sees little here.",
    "?: can't decide. So few patients leave more doubt than the threshold is wide; -: the attack does not apply. More "
    "control patients decide (half of --reference is control), or a secret with more values.",
    "Below: all intervals, widened for their number, end below their thresholds. Above: one begins above its own. "
    "Undecided is no acquittal: there are too few patients to tell.",
    "All this is about these attacks. A better one may find more; a guarantee (differential privacy) would not depend "
    "on the attack.",
)


def _reading(document: Json) -> list[str]:
    names = {what: ", ".join(found) or "none" for what, found in document["columns"].items()}
    said = [text.format(**names) for text in READING]
    said += [f"Threshold: {t['source']}." for t in document["thresholds"].values()]
    said += [f"{name} could not be made: {why}" for name, why in document["left_out"].items()]
    return ["How to read it", *(line for text in said for line in _wrapped(text, "- "))]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent="  ")
