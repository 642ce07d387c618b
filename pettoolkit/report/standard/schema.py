"""The JSON schemas of the reports' documents, one for each report; `schemas/*.json` are written from here."""

from __future__ import annotations

import json
from typing import Any

from pettoolkit.report.standard.checklist import GROUPS, ITEMS
from pettoolkit.report.standard.texts import LANGUAGES
from pettoolkit.report.standard.write import REPORTS, SCHEMA_VERSION, SCHEMAS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAMED: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
YES: Schema = {"type": "boolean"}
NOTHING: Schema = {"type": "null"}


def _record(**properties: Schema) -> Schema:
    """An object of exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _by_name(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _or(*kinds: Schema) -> Schema:
    return {"anyOf": list(kinds)}


def _known(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


VALUE, ESTIMATE, FIDELITY = _known("Value"), _known("Estimate"), _known("Fidelity")
NOT_MEASURED = _known("NotMeasured")


def _definitions() -> dict[str, Schema]:
    beside = _record(real=VALUE, floor=VALUE, synthetic=VALUE)
    bias = {g: _known("Beside") for g in ("prevalence_gap", "parity_gap", "odds_gap", "proxy")}
    bias = {"attribute": NAMED, "groups": _list(TEXT), **bias}
    level = _record(column=TEXT, level=TEXT, real=COUNT, synthetic=COUNT)
    return {
        "NotMeasured": _record(not_measured=NAMED),
        "Value": _or(NUMBER, NOT_MEASURED),
        "Interval": _record(low=NUMBER, high=NUMBER),
        "Estimate": _or(_record(value=NUMBER, interval=_or(_known("Interval"), NOT_MEASURED)), NOT_MEASURED),
        "Fidelity": _record(value=VALUE, floor=VALUE, floor_high=VALUE, all_rows=VALUE),
        "Overall": _record(mean=VALUE, floor=VALUE, measured=COUNT, beyond_floor=COUNT),
        "Beside": beside,
        "Bias": _record(**bias),
        "Discrimination": _record(**bias, larger=_list({"enum": ["prevalence_gap", "parity_gap", "odds_gap"]})),
        "Copies": _record(
            rows=COUNT,
            identical=COUNT,
            identical_share=SHARE,
            floor_share=SHARE,
            repeated=COUNT,
            identical_to_holdout=_or(COUNT, NOT_MEASURED),
        ),
        "Distinguishability": _or(_record(classifier=NAMED, rows=COUNT, auroc=ESTIMATE, floor=ESTIMATE), NOT_MEASURED),
        "Loss": _record(loss=ESTIMATE, floor=ESTIMATE),
        "Scores": _record(figures=_by_name(ESTIMATE)),
        "Trained": _record(
            real=_known("Scores"),
            floor_rows=_known("Scores"),
            synthetic=_known("Scores"),
            loss=ESTIMATE,
            floor=ESTIMATE,
        ),
        "Levels": _record(
            classes_lost=_list(level),
            levels_lost=_list(level),
            levels_new=_list(level),
            columns_constant=_list(TEXT),
            columns_all_missing=_list(TEXT),
        ),
        "Guarantee": _record(stated=NAMED, differential_privacy=_or({"type": "object"}, NOTHING)),
        "Risk": _risk(),
        "Verdict": _record(
            state={"enum": ["below", "above", "undecided"]},
            figure=VALUE,
            threshold=NUMBER,
            why=NAMED,
            left_out=_by_name(TEXT),
            null=VALUE,
        ),
        "Attack": _attack(),
    }


def _attack() -> Schema:
    return _record(
        attack=NAMED,
        measure=NAMED,
        knowledge=NAMED,
        success=NUMBER,
        control=NUMBER,
        excess=NUMBER,
        interval=_known("Interval"),
        patients=COUNT,
        wanted=COUNT,
        achieved=COUNT,
        threshold=NUMBER,
        above=YES,
        beside=_by_name(NUMBER),
        details=_by_name(NUMBER),
    )


def _risk() -> Schema:
    return _record(
        source=NAMED,
        verdict=_known("Verdict"),
        attacks=_list(_known("Attack")),
        not_run=_by_name(TEXT),
        notes=_list(TEXT),
        people=_or(_record(members=COUNT, control=COUNT, attacker=COUNT), NOTHING),
        effort=NAMED,
        seed={"type": "integer"},
        quasi_identifiers=_list(TEXT),
        sensitive=_list(TEXT),
        thresholds=_by_name(_record(value=NUMBER, source=NAMED)),
        anchors=_list(TEXT),
        anchors_left_out=_by_name(TEXT),
    )


def _short() -> Schema:
    """What summary and label repeat of the utility assessment."""
    used = _record(headline=NAMED, models=_by_name(_known("Loss")))
    return _record(
        univariate=_known("Overall"),
        bivariate=_known("Overall"),
        utility=_or(used, NOT_MEASURED),
        distinguishability=_known("Distinguishability"),
        copies=_known("Copies"),
    )


def _quality() -> Schema:
    used = _record(
        headline=NAMED,
        train_rows=COUNT,
        test_rows=COUNT,
        test_from=TEXT,
        decision=TEXT,
        models=_by_name(_known("Trained")),
        groups=_list(_record(attribute=TEXT, level=TEXT, patients=COUNT, models=_by_name(_known("Trained")))),
    )
    prevalence = _record(what=TEXT, real=NUMBER, synthetic=VALUE, floor=NUMBER, difference=VALUE)
    rule = _record(rule=TEXT, real=COUNT, synthetic=COUNT, real_per_1000=NUMBER, synthetic_per_1000=NUMBER)
    shapes = ("column_shapes", "column_shapes_floor", "column_pair_trends", "column_pair_trends_floor")
    ranks = _record(
        configurations=_list(TEXT),
        on_real=_list(NUMBER),
        on_synthetic=_list(NUMBER),
        tau=ESTIMATE,
        floor=ESTIMATE,
        same_models=ESTIMATE,
        same_models_floor=ESTIMATE,
        same_best=YES,
        test_rows=COUNT,
    )
    return _record(
        real_rows=COUNT,
        holdout_rows=COUNT,
        hospitals=_list(TEXT),
        outcome=NAMED,
        task={"enum": ["binary", "classes", "number"]},
        mode=NAMED,
        matched_rows=COUNT,
        halvings=COUNT,
        seed={"type": "integer"},
        univariate=_known("Overall"),
        columns=_list(_column()),
        bivariate=_known("Overall"),
        pairs=_list(_pair()),
        utility=_or(used, NOT_MEASURED),
        rules=_list(rule),
        levels=_known("Levels"),
        prevalence=_list(prevalence),
        copies=_known("Copies"),
        ranks=_or(ranks, NOT_MEASURED),
        bias=_list(_known("Bias")),
        distinguishability=_known("Distinguishability"),
        sdmetrics=_or(_record(**dict.fromkeys(shapes, VALUE)), NOT_MEASURED),
        notes=_list(TEXT),
        worst_subgroup=_or(TEXT, NOT_MEASURED),
    )


def _column() -> Schema:
    return _record(
        name=NAMED,
        kind=NAMED,
        measure=NAMED,
        shape=FIDELITY,
        missing=FIDELITY,
        missing_real=SHARE,
        missing_synthetic=SHARE,
        histogram=_record(edges=_list(NUMBER), levels=_list(TEXT), real=_list(NUMBER), synthetic=_list(NUMBER)),
        shape_beyond=_or(YES, NOTHING),
        missing_beyond=_or(YES, NOTHING),
    )


def _pair() -> Schema:
    return _record(
        first=NAMED,
        second=NAMED,
        measure=NAMED,
        trend=FIDELITY,
        real=VALUE,
        synthetic=VALUE,
        missing_together=FIDELITY,
        trend_beyond=_or(YES, NOTHING),
        missing_beyond=_or(YES, NOTHING),
    )


def _parts(report: str) -> dict[str, Schema]:
    """What a report says beyond its head."""
    both = {"guarantee": _known("Guarantee"), "risk": _or(_known("Risk"), NOTHING)}
    summary = {
        "settings": _by_name(TEXT),
        "quality": _or(_short(), NOTHING),
        **both,
        "discrimination": _list(TEXT),
    }
    if report == "utility":
        return {"quality": _or(_quality(), NOTHING)}
    if report == "privacy":
        removed = {"type": "object", "additionalProperties": NUMBER, "propertyNames": {"enum": ["exact", "close"]}}
        matches = _record(
            found=_or(_known("Copies"), NOTHING), filter=_or(TEXT, NOTHING), removed=_or(removed, NOTHING)
        )
        return {**both, "matches": matches, "discrimination": _or(_list(_known("Discrimination")), NOTHING)}
    if report == "checklist":
        item = _record(
            id={"enum": list(ITEMS)},
            group={"enum": list(GROUPS)},
            question=NAMED,
            status={"enum": ["filled", "answered", "open"]},
            known=_or(NAMED, NOTHING),
            answer=_or(NAMED, NOTHING),
        )
        return {"items": {**_list(item), "minItems": len(ITEMS), "maxItems": len(ITEMS)}}
    if report == "label":  # nothing is released unmeasured
        return {**summary, "quality": _short(), "risk": _known("Risk"), "accepted_risk": _or(NAMED, NOTHING)}
    return summary


def schema(report: str) -> Schema:
    """Describe the document of a report, or of the label."""
    digest: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    hashed = digest if report == "label" else _or(digest, NOTHING)
    described = _record(
        document={"const": f"pettoolkit {report}"},
        schema_version={"const": SCHEMA_VERSION},
        report={"const": report},
        language={"enum": list(LANGUAGES)},
        date={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        version=NAMED,
        table=_record(name=NAMED, rows=COUNT, sha256=hashed),
        responsible=_record(name=NAMED, email=NAMED),
        **_parts(report),
    )
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"pettoolkit {report}", **described}
    return {**found, "$defs": _used(found)}


def _used(found: Schema) -> dict[str, Schema]:
    """The definitions that a schema refers to, and those that these refer to."""
    known = _definitions()
    kept: dict[str, Schema] = {}
    while True:
        text = json.dumps([found, kept])
        more = {n: d for n, d in known.items() if n not in kept and f'"#/$defs/{n}"' in text}
        if not more:
            return dict(sorted(kept.items()))
        kept |= more


def text(report: str) -> str:
    """Write a schema as it is committed."""
    return json.dumps(schema(report), indent=1) + "\n"


def write() -> None:
    """Write all schemas anew."""
    for report in (*REPORTS, "label"):
        (SCHEMAS / f"{report}.json").write_text(text(report), encoding="utf-8")
