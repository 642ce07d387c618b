"""The privacy assurance: what known attacks got out of a table, what is guaranteed, and what was not measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.markup import (
    figure,
    guaranteed,
    head,
    listed,
    measured,
    missing,
    note,
    section,
    state,
    table,
)
from pettoolkit.report.standard.texts import Texts
from pettoolkit.report.standard.utility import bias_table

Json = Mapping[str, Any]

ORDER = (
    "exact_match",
    "near_match",
    "density_ratio",
    "linkability",
    "inference",
    "inference_quasi_identifiers",
    "group_inference",
    "homogeneity",
    "intersection",
    "reidentification",
    "singling_out_univariate",
    "singling_out_multivariate",
)
"""Attacks in the order of the page; further ones follow under their own names."""

ON_MODELS = ("lira", "rmia", "stacked", "stacked, other models", "loss_threshold")
"""Attacks on the model that a run trained on the table."""

KEPT = ("attack", "measure", "knowledge", "success", "control", "excess", "interval", "patients", "wanted", "achieved")
SIZES = ("1", "2-4", "5-10", "11+")
"""Sizes of groups of alike rows, as `group_inference` counts them."""


def content(given: Given) -> dict[str, Any]:
    """Return what the report says beyond its head; ``risk`` is null where nothing was attacked."""
    return {
        "guarantee": {"stated": given.stated, "differential_privacy": given.guarantee},
        "risk": _risk(given),
        "matches": _matches(given),
        "discrimination": None if given.quality is None else _discrimination(given.quality["bias"]),
    }


def body(document: Json, t: Texts) -> str:
    """Write the page's body from the document."""
    risk = document["risk"]
    parts = [head(document, t)]
    if risk is None:
        parts += [missing("risk", t), _guarantee(document, t)]
    else:
        parts += [_verdict(risk, t), _guarantee(document, t), _attacks(risk, t), _left_out(risk, t)]
    parts += [_matched(document["matches"], t)]
    if risk is not None:
        parts += [_group_inference(risk, t), _secrets(risk, t)]
    parts += [_discriminating(document["discrimination"], t), _limits(t)]
    return "\n".join(parts)


def outcome(risk: Json, t: Texts) -> str:
    """The verdict in words, as the summary and the label have it too; HTML."""
    judged = risk["verdict"]
    word = judged["state"]
    said = f"{state(word, t)}. {escape(t(f'privacy.verdict.{word}', n=len(risk['attacks'])))}"
    above = [a for a in risk["attacks"] if a["above"]]
    if above and word == "above":
        said += " " + escape(
            t("privacy.verdict.which", attacks="; ".join(dict.fromkeys(_name(a["attack"], t) for a in above)))
        )
    return said


def strongest(risk: Json, t: Texts) -> str:
    """The one figure that stands for all, beside its threshold and the same attack where nobody is exposed; HTML."""
    judged = risk["verdict"]
    if not measured(judged["figure"]):
        return figure(None, t)
    text = t(
        "privacy.verdict.strongest",
        figure=t.number(judged["figure"], ".2f"),
        threshold=t.number(judged["threshold"], ".2f"),
    )
    if measured(judged["null"]):
        text += " " + t("privacy.verdict.nobody", null=t.number(judged["null"], ".2f"))
    return escape(text)


def _risk(given: Given) -> dict[str, Any] | None:
    if given.release is None or given.risk is None:
        return None
    release, risk = given.release, given.risk
    beside = {
        a["name"]: {(f["attack"], f["measure"]): f["excess"] for f in a["figures"] if _decides(f, a["verdict"])}
        for a in given.anchors
    }
    limits = {name: t["value"] for name, t in risk["thresholds"].items()}
    figures = [f for f in release["figures"] if f["site"] == "*" and f["view"] == "release"]
    attacks = [
        {
            **{k: f[k] for k in KEPT},
            "threshold": limits.get(f["measure"], limits["excess"]),
            "above": _decides(f, release["verdict"])
            and bool(f["interval"]["low"] > limits.get(f["measure"], limits["excess"])),
            "beside": {
                name: known[key] for name, known in beside.items() if (key := (f["attack"], f["measure"])) in known
            },
            "details": dict(f["details"]),
        }
        for f in sorted(figures, key=_place)
    ]
    return {
        "source": release["source"],
        "verdict": {name: value for name, value in release["verdict"].items() if name != "strongest"},
        "attacks": attacks,
        "not_run": dict(release["not_run"]),
        "notes": list(release["notes"]),
        "people": None if risk["people"] is None else dict(risk["people"]),
        "effort": risk["effort"],
        "seed": risk["seed"],
        "quasi_identifiers": list(risk["columns"]["quasi_identifiers"]),
        "sensitive": list(risk["columns"]["sensitive"]),
        "thresholds": {name: dict(t) for name, t in risk["thresholds"].items()},
        "anchors": list(beside),
        "anchors_left_out": dict(risk["left_out"]),
    }


def _decides(found: Json, verdict: Json) -> bool:
    """Whether the patients are enough to say something: if not, a figure is noise and not shown."""
    return f"{found['attack']} {found['measure']}" not in verdict["left_out"]


def _place(found: Json) -> tuple[int, str]:
    name = found["attack"]
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def _matches(given: Given) -> dict[str, Any]:
    """Rows equal to patients' that are in the table, and how many were held back before."""
    copies = None if given.quality is None else dict(given.quality["copies"])
    return {"found": copies, "filter": _filter(given.settings), "removed": _removed(given.settings)}


def _filter(settings: Mapping[str, str]) -> str | None:
    """The release filter that the settings name, of a file or of a cell."""
    named = settings.get("filter", settings.get("options.filter", "none"))
    return None if named == "none" else named


def _removed(settings: Mapping[str, str]) -> dict[str, float] | None:
    names = {"filter/exact": "exact", "filter/close": "close"}
    found = {short: float(settings[name]) for name, short in names.items() if name in settings}
    return found or None


def _discrimination(bias: Sequence[Json]) -> list[dict[str, Any]]:
    """Attributes with their gaps, and which of these are larger than in both samples of real rows."""
    return [
        {
            **entry,
            "larger": [
                gap
                for gap in ("prevalence_gap", "parity_gap", "odds_gap")
                if all(measured(entry[gap][k]) for k in ("real", "floor", "synthetic"))
                and entry[gap]["synthetic"] > max(entry[gap]["real"], entry[gap]["floor"])
            ],
        }
        for entry in bias
    ]


def _verdict(risk: Json, t: Texts) -> str:
    lines = [f"<p>{outcome(risk, t)}</p>", f"<p>{strongest(risk, t)}</p>"]
    if risk["people"] is not None:
        counts = {who: t.number(risk["people"][who], ",d") for who in ("members", "control", "attacker")}
        lines.append(f"<p>{escape(t('privacy.verdict.people', **counts))}</p>")
    return section("privacy.verdict", t, *lines)


def _guarantee(document: Json, t: Texts) -> str:
    known = document["guarantee"]["differential_privacy"]
    said = f"<p>{escape(guaranteed(document['guarantee']['stated'], t))}</p>"
    if known is not None and measured(known):
        text = t(
            "privacy.guarantee.epsilon", epsilon=t.number(known["epsilon"], "g"), delta=t.number(known["delta"], "g")
        )
        said = f"<p>{escape(text)}</p>"
        if known["simulated_noise"]:
            said += note(escape(t("privacy.guarantee.simulated")))
    return section("privacy.guarantee", t, said)


def _name(attack: str, t: Texts) -> str:
    return t.word("attack", attack)


def _title(attack: Json, t: Texts) -> str:
    """Name of an attack, and of what is counted where an attack is counted in several ways."""
    counted = t.by_key.get(f"attack_measure.{attack['measure']}")
    name = _name(attack["attack"], t)
    return f"{name}: {counted}" if counted else name


def _attacks(risk: Json, t: Texts) -> str:
    anchors = risk["anchors"]
    rows = []
    for a in risk["attacks"]:
        low, high = a["interval"]["low"], a["interval"]["high"]
        ends = (
            t("figure.exact")
            if low == high
            else t("figure.interval", low=t.number(low, ".2f"), high=t.number(high, ".2f"))
        )
        rows.append(
            [
                escape(_title(a, t)),
                escape(t.word("knowledge", a["knowledge"])),
                f"<strong>{_shown(a, risk, t)}</strong> ({escape(ends)})"
                + (f" {state('above', t)}" if a["above"] else ""),
                figure(a["success"], t, ".2f"),
                figure(a["control"], t, ".2f"),
                escape(t.number(a["patients"], ",d")),
                escape(f"{t.number(a['achieved'], ',d')} / {t.number(a['wanted'], ',d')}"),
                *(figure(a["beside"][n], t, ".2f") if n in a["beside"] else "&ndash;" for n in anchors),
            ]
        )
    columns = ("attack", "knows", "excess", "success", "control", "patients", "attempts")
    heads = [*(t(f"privacy.attacks.{k}") for k in columns), *(t.word("anchor", n) for n in anchors)]
    known = t(
        "privacy.attacks.columns",
        quasi=", ".join(risk["quasi_identifiers"]) or t("privacy.attacks.no_column"),
        secrets=", ".join(risk["sensitive"]) or t("privacy.attacks.no_column"),
    )
    sources = [_source(v, t) for v in risk["thresholds"].values()]
    return section(
        "privacy.attacks",
        t,
        table(heads, rows, numbers=range(2, len(heads)), first=11),
        f"<p>{escape(known)}</p>",
        f"<p>{escape(t('privacy.attacks.thresholds'))}</p>{listed(sources)}",
        f"<p>{escape(t('privacy.attacks.model'))}</p>"
        if any(a["attack"] in ON_MODELS for a in risk["attacks"])
        else "",
        f"<p>{escape(t('privacy.attacks.undecidable'))}</p>" if risk["verdict"]["left_out"] else "",
        "" if anchors else f"<p>{escape(t('privacy.attacks.no_anchors'))}</p>",
    )


def _shown(attack: Json, risk: Json, t: Texts) -> str:
    return figure(attack["excess"], t, ".2f") if _decides(attack, risk["verdict"]) else "?"


def _source(threshold: Json, t: Texts) -> str:
    """Threshold and who says so; the known sources begin with their number."""
    said = t.said(threshold["source"])
    return said if threshold["source"].startswith("0.09") else f"{t.number(threshold['value'], '.2f')}: {said}"


def _left_out(risk: Json, t: Texts) -> str:
    """What did not run, what too few patients let decide, and what is noted."""
    items = []
    for name, why in risk["verdict"]["left_out"].items():
        items.append(f"{escape(_title(_attack_of(name), t))}: {_needed(why, t)}")
    for name, why in risk["not_run"].items():
        items.append(f"{escape(_name(name, t))}: {escape(t('privacy.open.not_run'))}, {t.said(why)}")
    for name, why in risk["anchors_left_out"].items():
        items.append(f"{escape(t.word('anchor', name))}: {escape(t('privacy.open.not_made'))}, {t.said(why)}")
    items += [t.said(n) for n in risk["notes"]]
    return section("privacy.open", t, listed(items) or f"<p>{escape(t('privacy.open.nothing'))}</p>")


def _attack_of(name: str) -> dict[str, str]:
    """Attack and measure of the name that a verdict has for both, as ``lira membership_auc``."""
    attack, _, measure = name.rpartition(" ")
    return {"attack": attack, "measure": measure}


def _needed(why: str, t: Texts) -> str:
    """How many patients would decide, if the measurement says it in the words known here."""
    found = re.search(r"(\d+) patients leave .*? about (\d+) would do", why)
    if found is None:
        return t.said(why)
    had, needed = (t.number(int(n), ",d") for n in found.groups())
    return escape(t("privacy.open.too_few", had=had, needed=needed))


def _matched(matches: Json, t: Texts) -> str:
    items = []
    copies = matches["found"]
    if copies is None:
        items.append(escape(t("privacy.matches.unknown")))
    else:
        items.append(
            escape(
                t(
                    "privacy.matches.found",
                    n=t.number(copies["identical"], ",d"),
                    of=t.number(copies["rows"], ",d"),
                    floor=t.number(copies["floor_share"], ".1%"),
                )
            )
        )
        held = copies["identical_to_holdout"]
        if measured(held):
            items.append(escape(t("privacy.matches.holdout", n=t.number(held, ",d"))))
    removed = matches["removed"]
    if removed is not None:
        items += [escape(t(f"privacy.matches.removed_{k}", n=t.number(v, ",.0f"))) for k, v in removed.items()]
    elif matches["filter"]:
        items.append(escape(t("privacy.matches.filter", filter=matches["filter"])))
    else:
        items.append(escape(t("privacy.matches.no_filter")))
    return section("privacy.matches", t, listed(items))


def _group_inference(risk: Json, t: Texts) -> str:
    found = next((a for a in risk["attacks"] if a["attack"] == "group_inference"), None)
    if found is None:
        return section("privacy.group", t, f"<p>{escape(t('figure.not_measured'))}</p>")
    rows = []
    for size in SIZES:
        shares = [found["details"].get(f"{who}/{size}") for who in ("group", "outside", "holdout")]
        if any(s is not None for s in shares):
            rows.append([size.replace("-", "&ndash;"), *(figure(s, t, ".2f") for s in shares)])
    heads = [t(f"privacy.group.{k}") for k in ("size", "members", "outside", "holdout")]
    low, high = found["interval"]["low"], found["interval"]["high"]
    excess = t(
        "privacy.group.excess",
        excess=t.number(found["excess"], ".2f"),
        interval=t("figure.interval", low=t.number(low, ".2f"), high=t.number(high, ".2f")),
    )
    return section("privacy.group", t, f"<p>{escape(excess)}</p>", table(heads, rows, numbers=(1, 2, 3)))


def _secrets(risk: Json, t: Texts) -> str:
    """Attributes that attackers guess, by attack: success on members beside success on other patients."""
    rows = []
    for a in risk["attacks"]:
        for name in risk["sensitive"]:
            success, control = a["details"].get(f"success/{name}"), a["details"].get(f"control/{name}")
            if success is None or control is None:
                continue
            both = [figure(v, t, ".2f") for v in (success, control, _excess(success, control))]
            rows.append([escape(name), escape(_name(a["attack"], t)), *both])
    rows.sort(key=lambda row: row[0])
    if not rows:
        return section("privacy.secrets", t, f"<p>{escape(t('privacy.secrets.none'))}</p>")
    heads = [t(f"privacy.secrets.{k}") for k in ("attribute", "attack", "success", "control", "excess")]
    return section("privacy.secrets", t, table(heads, rows, numbers=(2, 3, 4)))


def _excess(success: float, control: float) -> float | None:
    """(success - control) / (1 - control); none where a control can't fail."""
    return None if math.isclose(control, 1.0) else (success - control) / (1 - control)


def _discriminating(found: Sequence[Json] | None, t: Texts) -> str:
    if found is None:
        return section("privacy.bias", t, missing("quality", t))
    items = [
        escape(
            t(
                "privacy.bias.larger",
                attribute=entry["attribute"],
                gaps=", ".join(t(f"gap.{gap}") for gap in entry["larger"]),
            )
        )
        for entry in found
        if entry["larger"]
    ]
    said = listed(items) or f"<p>{escape(t('privacy.bias.nothing'))}</p>"
    return section("privacy.bias", t, said, bias_table(found, t))


def _limits(t: Texts) -> str:
    items = [escape(t(f"privacy.limits.{k}")) for k in ("attacks", "undecided", "thresholds", "distance")]
    return section("privacy.limits", t, listed(items))
