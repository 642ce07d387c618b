"""From figures to one of three words: below, above, undecided (and then: what would decide).

The family of attacks is fixed before the run. All its intervals are widened together (Bonferroni), over the whole
family: whether a figure is left out depends on data, so leaving it out must not narrow the others. *Above* if any
lower end is above its threshold. *Below* only if no upper end is above its own (groups of exactly eleven are what the
agencies accept) and none was left out because its patients are too few to tell. Otherwise *undecided*.

The one figure that stands for all (``risk/reid_max``) is the strongest attack's: which one that is, is read off one
half of the targets, and how strong it is off the other half. The largest of many noisy figures would be too large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pettoolkit.attacks.protocol import Exact, Finding
from pettoolkit.attacks.statistics import bonferroni, excess
from pettoolkit.records import NO_OBSTACLE, AttackFigure, Interval, MeasuredRisk, NotMeasured, Verdict

EXCESS = "excess"
"""Key of the threshold of every measure that has none of its own."""

ROWS = "singling_out"
"""Measure whose n are released rows: such an attack is on nobody in particular."""

NOTHING = NotMeasured("nothing was attacked")
NONE_DECIDES = NotMeasured("no attack has enough patients to say anything")
UNSEEN = NotMeasured("what might give something away was not attacked")


@dataclass(frozen=True)
class Threshold:
    """What is still acceptable, and who says so."""

    value: float
    source: str


THRESHOLDS: Mapping[str, Threshold] = {
    "reidentification_probability": Threshold(
        1 / 11,
        "0.09, groups of at least 11: EMA Policy 0070 (EMA/90915/2016, 5.4) and Health Canada's guidance on public "
        "release of clinical information (2019); both speak of the probability per record, 1 / group size",
    ),
    EXCESS: Threshold(0.09, "0.09 of excess risk: pettoolkit's own default, set by no authority"),
}
"""By measure; what is not listed has the threshold :data:`EXCESS`."""


def thresholds(written: Mapping[str, float] | None = None) -> dict[str, Threshold]:
    """The defaults, with those that the experiment file writes in their place."""
    return {**THRESHOLDS, **{name: Threshold(value, "the experiment file") for name, value in (written or {}).items()}}


def threshold_of(measure: str, known: Mapping[str, Threshold] = THRESHOLDS) -> Threshold:
    """The threshold of a measure."""
    return known.get(measure, known[EXCESS])


def verdict(
    findings: Sequence[Finding],
    *,
    view: str,
    null: Sequence[Finding] = (),
    known: Mapping[str, Threshold] = THRESHOLDS,
    not_run: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge one view.

    Parameters
    ----------
    findings
        All figures of the cell; those of the other view, and of single hospitals, are not judged.
    view
        ``release`` or ``insider``.
    null
        The same attacks where nobody can be exposed.
    known
        Thresholds by measure (:func:`thresholds`).
    not_run
        Attacks of this view that did not run, with the reason: without them nothing is called *below*, unless they
        did not apply or cost too much.
    """
    family = [f for f in findings if f.figure.view == view and f.figure.site == "*"]
    if not family:
        why = "; ".join(f"{name}: {reason}" for name, reason in (not_run or {}).items()) or NOTHING.reason
        return Verdict("undecided", NotMeasured(why), known[EXCESS].value, why)
    missing = {n: why for n, why in (not_run or {}).items() if not why.startswith(NO_OBSTACLE)}
    level = bonferroni(len(family))
    judged = [(f, f.evidence.interval(level), threshold_of(f.figure.measure, known).value) for f in family]
    above = [(f, i, t) for f, i, t in judged if i.low > t]
    left_out = {
        name_of(f.figure): _too_few(f, i, t)
        for f, i, t in judged
        if i.low <= t and _half_width(i) > t and not isinstance(f.evidence, Exact)
    }
    # one whose noise is larger than the threshold would be the strongest by chance
    told = [f for f in family if name_of(f.figure) not in left_out]
    shown: float | NotMeasured = NONE_DECIDES
    empty: float | NotMeasured = NONE_DECIDES
    threshold, name = known[EXCESS].value, ""
    if missing and told and all(isinstance(f.evidence, Exact) and f.evidence.success == 0 for f in told):
        shown = empty = UNSEEN  # a coordinator who holds nothing says nothing of a hospital that was not attacked
    elif told:
        strongest = choose(told, known)
        name = name_of(strongest.figure)
        shown, threshold = reported(strongest, known)
        empty = _null_of(strongest, null, level, threshold)
    if above:
        state, why = "above", "; ".join(_said(f, i, t) for f, i, t in above[:3])
    elif left_out or missing or any(i.high > t for _, i, t in judged):
        state, why = "undecided", _open(judged, left_out, missing)
    else:
        state = "below"
        why = "its upper end is not above its threshold (95 %)"
        if len(family) > 1:
            why = f"none of {len(family)} upper ends is above its threshold (together 95 %)"
    return Verdict(state, shown, threshold, why, left_out, empty, name)


def choose(family: Sequence[Finding], known: Mapping[str, Threshold] = THRESHOLDS) -> Finding:
    """The strongest attack, relative to its threshold, on the first half of the targets."""

    def strength(found: Finding) -> float:
        half = found.evidence.half(0)
        return excess(half.success, half.control) / threshold_of(found.figure.measure, known).value

    return max(family, key=strength)


def reported(chosen: Finding, known: Mapping[str, Threshold] = THRESHOLDS) -> tuple[float, float]:
    """Excess of the chosen attack on the other half of the targets, and its threshold."""
    half = chosen.evidence.half(1)
    return excess(half.success, half.control), threshold_of(chosen.figure.measure, known).value


def measured(
    findings: Sequence[Finding],
    not_run: Mapping[str, str],
    *,
    null: Sequence[Finding] = (),
    written: Mapping[str, float] | None = None,
    insider_not_run: Mapping[str, str] | None = None,
) -> MeasuredRisk:
    """Put figures and both verdicts together.

    Parameters
    ----------
    findings, null
        Of both views.
    not_run, insider_not_run
        Attacks on the release and on the insider's view that did not run, with reasons.
    written
        Thresholds of the experiment file.
    """
    known, inside = thresholds(written), insider_not_run or {}
    return MeasuredRisk(
        figures=tuple(f.figure for f in findings),
        not_run={**not_run, **inside},
        verdict_release=verdict(findings, view="release", null=null, known=known, not_run=not_run),
        verdict_insider=verdict(findings, view="insider", null=null, known=known, not_run=inside),
    )


def name_of(figure: AttackFigure) -> str:
    """Attack and measure: what tells figures of one view apart."""
    return f"{figure.attack} {figure.measure}"


def needed(finding: Finding, interval: Interval, threshold: float) -> int:
    """Roughly how many patients would bring the half-width down to half of the threshold: it shrinks as 1 / sqrt(n)."""
    return math.ceil(finding.figure.patients * (2 * _half_width(interval) / threshold) ** 2)


def _more(finding: Finding, interval: Interval, threshold: float) -> str:
    if finding.figure.details.get("reach", 1.0) < 1:
        return "as many control patients as members"
    whom = "released rows" if finding.figure.measure == ROWS else "patients"
    return f"about {needed(finding, interval, threshold)} {whom}"


def _half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _too_few(finding: Finding, interval: Interval, threshold: float) -> str:
    width = f"+-{_half_width(interval):.2f} around it, more than the threshold {threshold:.2f}"
    if finding.figure.details.get("reach", 1.0) < 1:  # tried on a part of the members: its size is the control's
        return f"can't decide: so few control patients leave {width}; as many as members would do better"
    if finding.figure.measure == ROWS:
        return (
            f"can't decide: predicates of {finding.figure.patients} released rows leave {width}; about "
            f"{needed(finding, interval, threshold)} would do: more attacks, or a table with more rows"
        )
    return (
        f"can't decide: {finding.figure.patients} patients leave {width}; about "
        f"{needed(finding, interval, threshold)} would do, and as many control patients"
    )


def _said(finding: Finding, interval: Interval, threshold: float) -> str:
    return (
        f"{name_of(finding.figure)} {finding.figure.excess:.2f} (at least {interval.low:.2f}) is above {threshold:.2f}"
    )


def _open(
    judged: Sequence[tuple[Finding, Interval, float]], left_out: Mapping[str, str], not_run: Mapping[str, str]
) -> str:
    spans = [
        f"{name_of(f.figure)} may be up to {i.high:.2f} ({_more(f, i, t)} would decide)"
        for f, i, t in judged
        if i.high > t and name_of(f.figure) not in left_out
    ]
    wanted = [
        (name_of(f.figure), needed(f, i, t))
        for f, i, t in judged
        if name_of(f.figure) in left_out and f.figure.measure != ROWS and f.figure.details.get("reach", 1.0) >= 1
    ]
    names = list(dict.fromkeys(name for name, _ in wanted))
    whom = "all" if len(names) == len(left_out) else ", ".join(names)
    enough = (
        f" (about {max(n for _, n in wanted)}, and as many control patients, would do for {whom})" if wanted else ""
    )
    parts = [
        *spans[:3],
        *([f"too few patients for {', '.join(left_out)}{enough}"] if left_out else []),
        *(f"{name} did not run ({reason})" for name, reason in not_run.items()),
    ]
    return "; ".join(parts)


def _null_of(chosen: Finding, null: Sequence[Finding], level: float, threshold: float) -> float | NotMeasured:
    """The same attack's excess where nobody can be exposed, if its patients are enough to say so."""
    for found in null:
        if name_of(found.figure) == name_of(chosen.figure):
            if not isinstance(found.evidence, Exact) and _half_width(found.evidence.interval(level)) > threshold:
                return NotMeasured("the null row has too few patients to say")
            return found.figure.excess
    return NotMeasured("no null row was attacked")
