"""The utility assessment: what a table is worth beside the real one, every figure beside its noise floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.markup import (
    estimate,
    facts,
    figure,
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

Json = Mapping[str, Any]

LISTED = 15
"""Pairs of columns shown; all of them are in the JSON."""

FIGURES = ("auroc", "accuracy", "f1/macro", "r2", "rmse", "mae")
"""Figures of a model that are shown, those of them that it has."""

KEPT = ("rules", "levels", "prevalence", "copies", "ranks", "bias", "distinguishability", "sdmetrics", "notes")
"""Parts of a declaration that are taken over as they are."""


def content(given: Given) -> dict[str, Any]:
    """Return what the report says beyond its head; ``quality`` is null where nothing was declared."""
    quality, declared = given.quality, given.declaration
    if quality is None or declared is None:
        return {"quality": None}
    kept = {key: quality[key] for key in KEPT}
    return {
        "quality": {
            **{k: declared[k] for k in ("real_rows", "holdout_rows", "hospitals", "outcome", "task", "mode")},
            **{k: declared[k] for k in ("matched_rows", "halvings", "seed")},
            "univariate": quality["univariate"],
            "columns": [_column(c) for c in quality["columns"]],
            "bivariate": quality["bivariate"],
            "pairs": sorted((_pair(p) for p in quality["pairs"]), key=_excess, reverse=True),
            "utility": quality["utility"],
            **kept,
            "worst_subgroup": quality["worst"]["subgroup"],
        }
    }


def body(document: Json, t: Texts) -> str:
    """Write the page's body from the document."""
    quality = document["quality"]
    if quality is None:
        return f"{head(document, t)}\n{missing('quality', t)}"
    parts = [
        head(document, t),
        note(escape(t("utility.internal"))),
        in_short(quality, t),
        _univariate(quality, t),
        _bivariate(quality, t),
        _multivariate(quality, t),
        _bias(quality, t),
        _told(quality, t),
        _counted(quality, t),
        _basis(quality, t),
    ]
    return "\n".join(parts)


def in_short(quality: Json, t: Texts) -> str:
    """The few lines that the summary and the label have too; no single score."""
    return f"<h2>{escape(t('utility.short.title'))}</h2>\n{facts(short_rows(quality, t))}"


def short_rows(quality: Json, t: Texts) -> list[tuple[str, str]]:
    """Names and figures of the most important parts, each with its noise floor."""
    rows = []
    for part in ("univariate", "bivariate"):
        whole = quality[part]
        rows.append(
            (
                t(f"utility.short.{part}"),
                escape(
                    t(
                        "utility.short.beyond",
                        n=whole["beyond_floor"],
                        of=whole["measured"],
                        chance=math.ceil(0.05 * whole["measured"]),
                    )
                ),
            )
        )
    used = quality["utility"]
    if measured(used):
        for name, trained in used["models"].items():
            lost = estimate(trained["loss"], t, "+.3f")
            floor = estimate(trained["floor"], t, "+.3f")
            label = t("utility.short.loss", model=t.word("model", name), figure=t.word("figure_name", used["headline"]))
            rows.append((label, f"{lost}; {escape(t('figure.floor'))} {floor}"))
    told = quality["distinguishability"]
    if measured(told):
        text = f"AUROC {estimate(told['auroc'], t)}; {escape(t('figure.floor'))} {estimate(told['floor'], t)}"
        rows.append((t("utility.short.told"), text))
    copies = quality["copies"]
    rows.append((t("utility.short.copies"), escape(_identical(copies, t))))
    return rows


def _identical(copies: Json, t: Texts) -> str:
    return t(
        "utility.short.identical",
        n=t.number(copies["identical"], ",d"),
        of=t.number(copies["rows"], ",d"),
        floor=t.number(copies["floor_share"], ".1%"),
    )


def _column(column: Json) -> dict[str, Any]:
    kept = ("name", "kind", "measure", "shape", "missing", "missing_real", "missing_synthetic", "histogram")
    return {
        **{k: column[k] for k in kept},
        "shape_beyond": _beyond(column["shape"]),
        "missing_beyond": _beyond(column["missing"]),
    }


def _pair(pair: Json) -> dict[str, Any]:
    kept = ("first", "second", "measure", "trend", "real", "synthetic", "missing_together")
    return {
        **{k: pair[k] for k in kept},
        "trend_beyond": _beyond(pair["trend"]),
        "missing_beyond": _beyond(pair["missing_together"]),
    }


def _beyond(fidelity: Json) -> bool | None:
    """Whether a distance is above what 95 % of real halvings stay below; None where it was not measured."""
    if not measured(fidelity["value"]) or not measured(fidelity["floor_high"]):
        return None
    return bool(fidelity["value"] > fidelity["floor_high"])


def _excess(pair: Json) -> float:
    found = [
        f["value"] - f["floor"]
        for f in (pair["trend"], pair["missing_together"])
        if measured(f["value"]) and measured(f["floor"])
    ]
    return max(found, default=0.0)


def _distance(fidelity: Json, beyond: bool | None, t: Texts) -> list[str]:
    """Distance, floor, and the word for it."""
    if beyond is None:
        return [figure(None, t), "", ""]
    floor = f"{figure(fidelity['floor'], t)} / {figure(fidelity['floor_high'], t)}"
    return [figure(fidelity["value"], t), floor, state("beyond" if beyond else "within", t)]


def _univariate(quality: Json, t: Texts) -> str:
    rows = []
    for c in quality["columns"]:
        shares = f"{figure(c['missing_real'], t, '.1%')} / {figure(c['missing_synthetic'], t, '.1%')}"
        lost = escape(t("utility.univariate.missing_beyond")) if c["missing_beyond"] else ""
        mark = f' <span class="bad">{lost}</span>' if lost else ""
        kind = f"{escape(t.word('kind', c['kind']))}, {escape(t.word('measure', c['measure']))}"
        rows.append(
            [
                escape(c["name"]),
                kind,
                _histogram(c, t),
                *_distance(c["shape"], c["shape_beyond"], t),
                shares + mark,
            ]
        )
    columns = ("column", "kind", "histogram", "distance", "floor", "verdict", "missing")
    heads = [t(f"utility.univariate.{name}") for name in columns]
    sdv = quality["sdmetrics"]
    extra = (
        ""
        if not measured(sdv)
        else "<p>"
        + escape(
            t(
                "utility.univariate.sdmetrics",
                shapes=_plain(sdv["column_shapes"], t),
                shapes_floor=_plain(sdv["column_shapes_floor"], t),
                pairs=_plain(sdv["column_pair_trends"], t),
                pairs_floor=_plain(sdv["column_pair_trends_floor"], t),
            )
        )
        + "</p>"
    )
    return section("utility.univariate", t, table(heads, rows, numbers=(3, 4, 6)), extra)


def _plain(value: Any, t: Texts) -> str:
    return t.number(value) if measured(value) else t("figure.not_measured")


def _histogram(column: Json, t: Texts) -> str:
    """Shares by bin: the real ones as bars, those of the table as a line over them."""
    real, other = column["histogram"]["real"], column["histogram"]["synthetic"]
    top = max([*real, *other], default=0.0)
    if not real or top <= 0:
        return ""
    width, height = 120.0, 30.0
    step = width / len(real)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height * (1 - v / top):.1f}" width="{step * 0.92:.1f}" '
        f'height="{height * v / top:.1f}" fill="var(--line)"/>'
        for i, v in enumerate(real)
    )
    steps = " ".join(
        f"{x:.1f},{height * (1 - v / top):.1f}" for i, v in enumerate(other) for x in (i * step, (i + 1) * step)
    )
    line = f'<polyline points="{steps}" fill="none" stroke="var(--link)" stroke-width="1.5"/>'
    label = escape(t("utility.univariate.drawn", column=column["name"]))
    return (
        f'<svg role="img" aria-label="{label}" width="{width:.0f}" height="{height + 2:.0f}" '
        f'viewBox="0 -1 {width:.0f} {height + 2:.0f}">{bars}{line}</svg>'
    )


def _bivariate(quality: Json, t: Texts) -> str:
    rows = []
    for p in quality["pairs"][:LISTED]:
        both = f"{figure(p['real'], t, '+.2f')} / {figure(p['synthetic'], t, '+.2f')}" if measured(p["real"]) else ""
        together = _distance(p["missing_together"], p["missing_beyond"], t)
        rows.append(
            [
                f"{escape(p['first'])} &times; {escape(p['second'])}",
                escape(t.word("measure", p["measure"])),
                *_distance(p["trend"], p["trend_beyond"], t),
                both,
                together[0] if p["missing_beyond"] is None else f"{together[0]} {together[2]}",
            ]
        )
    columns = ("pair", "measure", "distance", "floor", "verdict", "correlations", "together")
    rest = len(quality["pairs"]) - LISTED
    more = f"<p>{escape(t('utility.bivariate.rest', n=rest))}</p>" if rest > 0 else ""
    heads = [t(f"utility.bivariate.{name}") for name in columns]
    return section("utility.bivariate", t, table(heads, rows, numbers=(2, 3, 5)), more, n=LISTED)


def _multivariate(quality: Json, t: Texts) -> str:
    used = quality["utility"]
    if not measured(used):
        return section(
            "utility.multivariate", t, f"<p>{escape(t('figure.not_measured'))}: {t.said(used['not_measured'])}</p>"
        )
    named = [n for n in FIGURES if all(n in m["real"]["figures"] for m in used["models"].values())]
    rows = []
    for name, trained in used["models"].items():
        for i, which in enumerate(named):
            cells = [estimate(trained[k]["figures"].get(which), t) for k in ("real", "floor_rows", "synthetic")]
            is_headline = which == used["headline"]
            lost = [estimate(trained[k], t, "+.3f") if is_headline else "" for k in ("loss", "floor")]
            title = escape(t.word("model", name)) if i == 0 else ""
            rows.append([title, escape(t.word("figure_name", which)), *cells, *lost])
    columns = ("model", "figure", "real", "other_real", "synthetic", "lost", "lost_floor")
    heads = [t(f"utility.multivariate.{name}") for name in columns]
    counts = t(
        "utility.multivariate.counts",
        train=t.number(used["train_rows"], ",d"),
        test=t.number(used["test_rows"], ",d"),
    )
    decisions = f"{escape(t('utility.multivariate.decision'))}: {t.said(used['decision'])}."
    tested = f"<p>{escape(counts)} {t.said(used['test_from'])}. {decisions}</p>"
    parts = [table(heads, rows, numbers=(2, 3, 4, 5, 6)), tested, _groups(used, t), _ranks(quality["ranks"], t)]
    return section("utility.multivariate", t, *parts)


def _groups(used: Json, t: Texts) -> str:
    """By hospital and subgroup, for the first model."""
    if not used["groups"]:
        return ""
    model, headline = next(iter(used["models"])), used["headline"]
    rows = []
    for group in used["groups"]:
        trained = group["models"][model]
        figures = [estimate(trained[k]["figures"].get(headline), t) for k in ("real", "synthetic")]
        lost = [estimate(trained[k], t, "+.3f") for k in ("loss", "floor")]
        who = f"{escape(t.word('group', group['attribute']))}: {escape(t.word('group', group['level']))}"
        rows.append([who, t.number(group["patients"], ",d"), *figures, *lost])
    columns = ("group", "patients", "real", "synthetic", "lost", "lost_floor")
    heads = [t(f"utility.multivariate.{name}") for name in columns]
    title = t("utility.multivariate.groups", model=t.word("model", model), figure=t.word("figure_name", headline))
    return f"<h3>{escape(title)}</h3>\n{table(heads, rows, numbers=(1, 2, 3, 4, 5))}"


def _ranks(ranks: Any, t: Texts) -> str:
    title = f"<h3>{escape(t('utility.ranks.title'))}</h3>"
    if not measured(ranks):
        return f"{title}\n<p>{escape(t('figure.not_measured'))}: {escape(t('utility.ranks.command'))}</p>"
    rows = [
        [escape(t(f"utility.ranks.{key}")), estimate(ranks[key], t, "+.2f"), estimate(ranks[floor], t, "+.2f")]
        for key, floor in (("tau", "floor"), ("same_models", "same_models_floor"))
    ]
    heads = [t(f"utility.ranks.{name}") for name in ("what", "value", "noise_floor")]
    return f'{title}\n<p class="how">{escape(t("utility.ranks.how"))}</p>\n{table(heads, rows, numbers=(1, 2))}'


GAPS: Sequence[str] = ("prevalence_gap", "parity_gap", "odds_gap", "proxy")


def _bias(quality: Json, t: Texts) -> str:
    return section("utility.bias", t, bias_table(quality["bias"], t))


def bias_table(bias: Sequence[Json], t: Texts) -> str:
    """Gaps between groups, of real rows, of other real rows and of the table's."""
    if not bias:
        return f"<p>{escape(t('utility.bias.none'))}</p>"
    rows = []
    for entry in bias:
        for i, gap in enumerate(GAPS):
            levels = ", ".join(t.word("group", g) for g in entry["groups"])
            who = f'{escape(entry["attribute"])} <span class="soft">({escape(levels)})</span>' if i == 0 else ""
            figures = [figure(entry[gap][k], t) for k in ("real", "floor", "synthetic")]
            rows.append([who, escape(t(f"gap.{gap}")), *figures])
    heads = [t(f"utility.bias.{name}") for name in ("attribute", "gap", "real", "floor", "synthetic")]
    return table(heads, rows, numbers=(2, 3, 4))


def _told(quality: Json, t: Texts) -> str:
    told = quality["distinguishability"]
    if not measured(told):
        return section("utility.told", t, f"<p>{escape(t('figure.not_measured'))}: {t.said(told['not_measured'])}</p>")
    rows = [
        (t("utility.told.classifier"), escape(t.word("model", told["classifier"]))),
        ("AUROC", estimate(told["auroc"], t)),
        (t("figure.floor").capitalize(), estimate(told["floor"], t)),
    ]
    return section("utility.told", t, facts(rows))


def _counted(quality: Json, t: Texts) -> str:
    rows = [
        [t.said(rule["rule"]), figure(rule["real_per_1000"], t, ".3g"), figure(rule["synthetic_per_1000"], t, ".3g")]
        for rule in quality["rules"]
    ]
    rules = table([t(f"utility.counted.{k}") for k in ("rule", "real", "synthetic")], rows, numbers=(1, 2))
    shares = [
        [
            t.said(p["what"]),
            figure(p["real"], t, ".4g"),
            figure(p["synthetic"], t, ".4g"),
            figure(p["difference"], t, ".3g"),
            figure(p["floor"], t, ".3g"),
        ]
        for p in quality["prevalence"]
    ]
    columns = ("outcome", "real_value", "synthetic_value", "difference", "floor")
    heads = [t(f"utility.counted.{k}", outcome=quality["outcome"]) for k in columns]
    copies = quality["copies"]
    found = [
        escape(t("utility.counted.copies", said=_identical(copies, t))),
        escape(t("utility.counted.repeated", n=t.number(copies["repeated"], ",d"))),
        *_levels(quality["levels"], t),
    ]
    prevalence = table(heads, shares, numbers=(1, 2, 3, 4))
    return section("utility.counted", t, prevalence, rules, listed(found))


def _levels(levels: Json, t: Texts) -> list[str]:
    out = []
    for key in ("classes_lost", "levels_lost", "levels_new"):
        for entry in levels[key]:
            values = {k: entry[k] for k in ("column", "level", "real", "synthetic")}
            out.append(escape(t(f"utility.counted.{key}", **values)))
    for key in ("columns_constant", "columns_all_missing"):
        if levels[key]:
            out.append(escape(t(f"utility.counted.{key}", columns=", ".join(levels[key]))))
    return out


def _basis(quality: Json, t: Texts) -> str:
    text = t(
        "utility.basis.text",
        halvings=quality["halvings"],
        size=t.number(quality["matched_rows"], ",d"),
        real=t.number(quality["real_rows"], ",d"),
        holdout=t.number(quality["holdout_rows"], ",d"),
        mode=t.word("mode", quality["mode"]),
    )
    said = [t.said(n) for n in quality["notes"]]
    return section("utility.basis", t, f"<p>{escape(text)}</p>", listed(said))
