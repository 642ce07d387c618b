"""Puts situation, rules and recorded runs together: which technologies qualify, which do not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pettoolkit.advice.checklist import checklist
from pettoolkit.advice.evidence import Risk, Technology
from pettoolkit.advice.knowledge import DP, Knowledge, Limit, Rule, knowledge
from pettoolkit.advice.noninferiority import ENOUGH_SEEDS, FEW_SEEDS, Difference, State, noninferior
from pettoolkit.advice.situation import Situation
from pettoolkit.advice.thin import no_reference, thin
from pettoolkit.evaluation.contrasts import combined
from pettoolkit.records import Interval, Json, NotMeasured, to_json

SCHEMA_VERSION = 1
REFERENCE = "pooled"
"""Arm that *good enough* compares with: a model on all hospitals' real rows, without differential privacy."""

DISCLAIMER = (
    "Not legal advice. Sources say why a question matters; a data protection officer says what it means for your case."
)

Effect = Literal["rule_out", "condition", "note"]


@dataclass(frozen=True)
class Reason:
    """Why a technology is ruled out, or on what it depends."""

    rule: str
    effect: Effect
    text: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """One technology with everything that was found."""

    technology: Technology
    good_enough: Difference | None
    """None for the reference itself."""
    useful: State | None
    """Whether its AUROC is at least what is of use; None where nothing was asked for."""
    risk: Risk | NotMeasured
    reasons: tuple[Reason, ...]
    settled: bool
    """Whether figures of these runs can say anything about such data, and for such a use."""

    @property
    def status(self) -> str:
        """One of: ruled out, not good enough, undecided, qualifies on conditions, qualifies."""
        effects = {reason.effect for reason in self.reasons}
        enough: list[State] = [self.good_enough.state] if self.good_enough else []
        enough += [self.useful] if self.useful else []
        if "rule_out" in effects:
            return "ruled out"
        if "no" in enough:
            return "not good enough"
        if "undecided" in enough or not self.settled:
            return "undecided"
        return "qualifies on conditions" if "condition" in effects else "qualifies"


def advise(
    technologies: Sequence[Technology],
    situation: Situation,
    *,
    experiment: str,
    data: str,
    unfinished: Sequence[str] = (),
    dropped: Sequence[str] = (),
) -> dict[str, Json]:
    """Answer from recorded runs.

    Parameters
    ----------
    technologies
        What was recorded.
    experiment, data
        Name of the experiment, and where its hospitals' data came from (``simulated``, ``physionet2019``, ``tables``).
    unfinished
        Cells of the experiment without a result.
    dropped
        Notes of cells that went on without a hospital.

    Returns
    -------
    dict
        A JSON document: ``technologies`` with ``status``, ``good_enough``, ``risk``, ``reasons``, ``checklist``;
        ``least_risk``, ``undecided`` with ``what_decides``, ``thin``, ``sources`` (those used), ``disclaimer``.
    """
    known = knowledge()
    settled = situation.data == "table" and not (situation.phase == "operation" and data == "simulated")
    judged = [_judge(t, technologies, situation, known, settled=settled) for t in technologies]
    rows = [_row(j, situation, known) for j in judged]
    used = {s for row in rows for s in _sources_of(row)} | {s for some in known.answers.values() for s in some}
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "data": data,
        "situation": situation.model_dump(mode="json"),
        "not_answered": list(situation.open),
        "technologies": rows,
        "margin_stated": "margin" in situation.model_fields_set,
        "least_risk": _least(judged),
        "undecided": [
            {"name": j.technology.name, "what_decides": _what_decides(j, situation, data)}
            for j in judged
            if j.status == "undecided"
        ],
        "thin": [*thin(technologies, situation, data, unfinished, dropped), *_references(technologies)],
        "sources": {name: known.sources[name].model_dump() for name in known.sources if name in used},
        "answers": {name: list(sources) for name, sources in known.answers.items()},
        "disclaimer": DISCLAIMER,
    }


def _judge(
    tech: Technology,
    all_of_them: Sequence[Technology],
    situation: Situation,
    known: Knowledge,
    *,
    settled: bool,
) -> Judged:
    reference = reference_of(tech, all_of_them)
    compared = sum(reference_of(t, all_of_them) not in (None, t) for t in all_of_them)
    risk = tech.risk(
        released=situation.is_released != "no",
        colluding=situation.may_collude == "yes",
        limit=situation.max_risk,
    )
    return Judged(
        technology=tech,
        good_enough=None if reference is tech else _good_enough(tech, reference, situation.margin, compared),
        useful=_useful(tech, situation.min_auroc, len(all_of_them)),
        risk=risk,
        reasons=(*_by_rules(tech, situation, known.rules), *_by_limits(tech, situation, known.limits, risk)),
        settled=settled,
    )


def reference_of(tech: Technology, all_of_them: Sequence[Technology]) -> Technology | None:
    """Pooled real data with the same model, features, hospitals and sizes, without differential privacy."""
    own = tech.spec
    setting = (own.model, own.features, own.unseen, own.patients_per_site, len(own.sites))
    for other in all_of_them:
        spec = other.spec
        if spec.arm == REFERENCE and spec.dp is None and setting == (
            spec.model, spec.features, spec.unseen, spec.patients_per_site, len(spec.sites)
        ):  # fmt: skip
            return other
    return None


def _references(technologies: Sequence[Technology]) -> list[str]:
    """Where there was more than one to compare with."""
    found = []
    for tech in technologies:
        first = reference_of(tech, technologies)
        if tech.spec.arm == REFERENCE and tech.spec.dp is None and first is not None and first is not tech:
            found.append(f"Two pooled models of one kind: the others are compared with {first.name}, not {tech.name}.")
    return found


def _good_enough(tech: Technology, reference: Technology | None, margin: float, compared: int) -> Difference:
    if reference is None:
        missing = NotMeasured("nothing to compare with")
        return Difference("undecided", no_reference(tech.spec), missing, missing, len(tech.seeds))
    seeds = sorted(set(tech.seeds) & set(reference.seeds))
    ours = [tech.predictions[tech.seeds.index(seed)] for seed in seeds]
    theirs = [reference.predictions[reference.seeds.index(seed)] for seed in seeds]
    drawn = [result.spec.sites for t in (tech, reference) for result in t.results]
    sites = [site for site in drawn[0] if all(site in some for some in drawn)]
    return noninferior(ours, theirs, sites, margin=margin, comparisons=max(1, compared))


def _useful(tech: Technology, least: float | None, compared: int) -> State | None:
    """Whether the AUROC reaches what is of use; patients and seeds vary, and all technologies hold together."""
    if least is None:
        return None
    value, patients = tech.summary.mean.get("utility/auroc"), tech.summary.intervals.get("utility/auroc")
    each = [r.metrics["utility/auroc"] for r in tech.results if "utility/auroc" in r.metrics]
    if value is None or patients is None or len(each) < ENOUGH_SEEDS:
        return "undecided"
    found = combined(value, patients, np.array(each)).interval(compared)
    return "yes" if found.low >= least else "no" if found.high < least else "undecided"


def _by_rules(tech: Technology, situation: Situation, rules: Sequence[Rule]) -> list[Reason]:
    reasons = []
    for rule in rules:
        answers = {key: getattr(situation, key) for key in rule.when}
        if not _matches(rule, tech, situation) or any(
            a is not None and a not in rule.when[k] for k, a in answers.items()
        ):
            continue
        unanswered = [key for key, answer in answers.items() if answer is None]
        if not unanswered:
            reasons.append(Reason(rule.id, rule.effect, rule.because, rule.sources))
        elif rule.effect != "note":
            asked = " and ".join(f"{key} is {' or '.join(rule.when[key])}" for key in unanswered)
            asked = f"ruled out if {asked}" if rule.effect == "rule_out" else asked
            reasons.append(Reason(rule.id, "condition", f"{asked}: {rule.because}", rule.sources))
    return reasons


def _matches(rule: Rule, tech: Technology, situation: Situation) -> bool:
    hospitals = situation.hospitals or len(tech.spec.sites)
    return (
        (not rule.arms or tech.spec.arm in rule.arms)
        and (not rule.leaves or bool(set(rule.leaves) & set(tech.leaves)))
        and (rule.guarantee is None or rule.guarantee == tech.guaranteed)
        and (not rule.release_verdict or tech.verdict("release") in rule.release_verdict)
        and (rule.hospitals_at_most is None or hospitals <= rule.hospitals_at_most)
    )


def _by_limits(
    tech: Technology, situation: Situation, limits: Sequence[Limit], risk: Risk | NotMeasured
) -> list[Reason]:
    found = []
    for limit in limits:
        most = getattr(situation, limit.limit)
        if most is not None and (said := _over(limit.measure, most, tech, situation, risk)) is not None:
            effect, text = said
            found.append(Reason(limit.id, effect, f"{text}; {limit.because}", limit.sources))
    return found


def _over(
    measure: str, most: float, tech: Technology, situation: Situation, risk: Risk | NotMeasured
) -> tuple[Effect, str] | None:
    """Effect and text where a limit is not met, or not shown to be."""
    if measure == "risk":
        if isinstance(risk, NotMeasured):
            return "condition", f"risk is not measured ({risk.reason})"
        if risk.state == "above":
            return "rule_out", f"an attack is measured to get more than {most:g} (strongest {risk.value:.2f})"
        if risk.state == "undecided":
            return "condition", f"attacks do not show that the risk is below {most:g} (strongest {risk.value:.2f})"
        return None
    if measure == "epsilon":
        epsilon = tech.epsilon(colluding=situation.may_collude == "yes")
        if isinstance(epsilon, NotMeasured):
            if tech.leaves or situation.is_released == "yes":
                return "rule_out", "there is no guarantee"
            if situation.is_released == "no":
                return None  # nobody outside a hospital gets anything that a guarantee could be about
            return "condition", "ruled out if is_released is yes: there is no guarantee"
        left = tech.epsilon(colluding=False) != epsilon
        said = f"epsilon is {epsilon:.3g}{' if the coordinator and a hospital collude' if left else ''}, not {most:g}"
        return ("rule_out", said) if epsilon > most * (1 + 1e-9) else None
    value, unit = (tech.megabytes, "MB") if measure == "megabytes" else (tech.seconds, "s")
    return ("rule_out", f"{value:.3g} {unit} were measured, more than {most:g}") if value > most else None


def _least(judged: Sequence[Judged]) -> dict[str, Json]:
    """Among those that qualify, the one with the least measured risk; nobody where none is measured."""
    eligible = [j for j in judged if j.status.startswith("qualifies")]
    rated = [(j, j.risk) for j in eligible if isinstance(j.risk, Risk)]
    unrated = [j.technology.name for j in eligible if isinstance(j.risk, NotMeasured)]
    if not eligible:
        return {"name": None, "why": "none qualifies", "not_told_apart": [], "not_measured": []}
    if all(j.good_enough is None for j in eligible):
        why = "only pooled real data, which the others are compared with, qualifies; no other technology is shown to"
        return {"name": None, "why": why, "not_told_apart": [], "not_measured": []}
    if not rated:
        why = "no attacks were run on those that qualify: run again with --set attacks=quick"
        return {"name": None, "why": why, "not_told_apart": [], "not_measured": unrated}
    best, risk = min(rated, key=lambda pair: pair[1].value)
    near = [j.technology.name for j, r in rated if j is not best and r.interval.low <= risk.interval.high]
    alone = "it is the only one that qualifies" if len(eligible) == 1 else "the least of those that qualify"
    hangs = "; it hangs on the conditions listed with it" if best.status != "qualifies" else ""
    why = f"strongest attack {risk.value:.2f}; {alone}{hangs}"
    return {"name": best.technology.name, "why": why, "not_told_apart": near, "not_measured": unrated}


def _what_decides(judged: Judged, situation: Situation, data: str) -> str:
    """What would turn *undecided* into an answer."""
    if not judged.settled:
        if situation.data != "table":
            return f"runs on {situation.data}, which this toolkit does not make"
        return f"runs on real hospitals' data: {data} ones decide nothing for operation"
    if judged.good_enough is not None and judged.good_enough.state == "undecided":
        return judged.good_enough.why
    if len(judged.technology.seeds) < ENOUGH_SEEDS:
        return FEW_SEEDS
    least = situation.min_auroc
    return f"more test patients and seeds: the interval of its AUROC holds the least that is of use, {least}"


def _row(judged: Judged, situation: Situation, known: Knowledge) -> dict[str, Json]:
    tech, found = judged.technology, judged.good_enough
    family = known.family_of(tech.spec.arm)
    kinds = [name for name in (family, DP if tech.guaranteed else None) if name is not None]
    interval = tech.summary.intervals.get("utility/auroc", NotMeasured("too few patients"))
    return {
        "name": tech.name,
        "arm": tech.spec.arm,
        "family": family or "unknown",
        "status": judged.status,
        "seeds": list(tech.seeds),
        "auroc": {
            "value": tech.summary.mean.get("utility/auroc"),
            "interval": _span(interval),
            "useful": judged.useful,
        },
        "good_enough": {"state": "reference", "why": "pooled real data itself"} if found is None else to_json(found),
        "risk": to_json(judged.risk)
        | {
            "release": tech.verdict("release"),
            "insider": tech.verdict("insider"),
            "threshold": to_json(tech.threshold),
            "why": {view: why for view in ("release", "insider") if (why := tech.why(view))},
        },
        "epsilon": to_json(tech.epsilon(colluding=situation.may_collude == "yes")),
        "delta": to_json(tech.delta),
        "leaves": list(tech.leaves),
        "reasons": [to_json(reason) for reason in judged.reasons],
        "maturity": {kind: known.maturity[kind][situation.data].model_dump(mode="json") for kind in kinds},
        "checklist": checklist(tech, known.checklist.get(family or "", {})),
    }


def _span(interval: Interval | NotMeasured) -> Json:
    return to_json(interval)


def _sources_of(row: Mapping[str, Json]) -> list[str]:
    named = [*row["reasons"], *row["maturity"].values()]
    return [source for part in named for source in part["sources"]]
