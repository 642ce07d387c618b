"""Measured risk in words: one cell of the comparison table, and the rows of an arm's block."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pettoolkit.records import AttackFigure, MeasuredRisk, NotMeasured, RunResult, Verdict

MOST = 6
"""Figures of a view that a block names, the strongest first; all are in the result."""

CANARY, BOTH = "canary", "coordinator and a hospital"
"""Instead of a hospital: figures of the audit, and of insiders who collude. No verdict counts them."""

AUC = "membership_auc"
TPR = "membership_tpr_at_1pct_fpr"


def headline(results: Sequence[RunResult]) -> str:
    """Verdicts on release and insiders over all seeds, with the strongest attack's mean excess; ``-`` if none.

    ``undecided 0.05 / above 0.94``. Above in any seed is above; below must hold in all of them.
    """
    found = [m for r in results if isinstance(m := r.privacy.measured, MeasuredRisk)]
    if not found:
        return "-"
    return f"{_together([m.verdict_release for m in found])} / {_together([m.verdict_insider for m in found])}"


def rows(measured: MeasuredRisk | NotMeasured) -> list[tuple[str, str]]:
    """Rows of a block, of one cell: both verdicts, the strongest attacks of each view, and what did not run."""
    if isinstance(measured, NotMeasured):
        return [("measured", f"not measured: {measured.reason}")]
    out = []
    for view, verdict in (("release", measured.verdict_release), ("insider", measured.verdict_insider)):
        figures = [f for f in measured.figures if f.view == view and f.site == "*"]
        name = f"measured: {view}"
        if not figures:
            out.append((name, f"{verdict.state}: {verdict.why}"))
            continue
        out.append((name, f"{_said(verdict)}: {verdict.why}"))
        told = [f for f in figures if f"{f.attack} {f.measure}" not in verdict.left_out]  # of the others it is noise
        strongest = sorted(told, key=lambda f: -f.interval.low)[:MOST]
        if strongest:
            out.append(("", "; ".join(_figure(f) for f in strongest)))
        worst = worst_site(measured.figures, view)
        if worst is not None:
            out.append(("", f"by hospital, at most: {worst.site} {_figure(worst)}"))
    for figure in measured.figures:
        if figure.site == CANARY:
            out.append(("audit", figure.note))
    colluding = [f for f in measured.figures if f.site == BOTH and f.measure == AUC]
    out += [("if both collude", f"{_figure(f)}; {f.note}") for f in colluding]
    alarms = [f for f in measured.figures if f.details.get("alarm")]
    if alarms:
        out.append(("ALARM", "; ".join(f"{f.attack} {f.measure}: {f.note}" for f in alarms)))
    if measured.not_run:
        out.append(("not run", "; ".join(f"{name} ({why})" for name, why in measured.not_run.items())))
    return out


def worst_site(figures: Sequence[AttackFigure], view: str) -> AttackFigure | None:
    """The hospital with the highest lower end."""
    hospitals = [f for f in figures if f.view == view and f.site not in ("*", CANARY, BOTH)]
    return max(hospitals, key=lambda f: f.interval.low, default=None)


def _figure(figure: AttackFigure) -> str:
    bound = "" if isinstance(figure.bound, NotMeasured) else f", guarantee allows {figure.bound:.3f}"
    if figure.measure == AUC:
        raw = f"AUC {figure.success:.3f}"
    elif figure.measure == TPR:
        raw = f"TPR {figure.success:.3f} at 1 % FPR"
    else:
        raw = f"{figure.measure} {figure.success:.2f} against {figure.control:.2f}"
    span = f"{_two(figure.interval.low)} to {_two(figure.interval.high)}"
    return f"{figure.attack} {raw} (excess {_two(figure.excess)}, {span}, {figure.patients} patients{bound})"


def _said(verdict: Verdict) -> str:
    if isinstance(verdict.figure, NotMeasured):
        return verdict.state
    null = "" if isinstance(verdict.null, NotMeasured) else f" (where nobody can be exposed {_two(verdict.null)})"
    name = f" ({verdict.strongest})" if verdict.strongest else ""
    return f"{verdict.state} {verdict.threshold:.2f}, strongest attack {_two(verdict.figure)}{name}{null}"


def _together(verdicts: Sequence[Verdict]) -> str:
    states = {v.state for v in verdicts}
    state = "above" if "above" in states else "below" if states == {"below"} else "undecided"
    figures = [v.figure for v in verdicts if not isinstance(v.figure, NotMeasured)]
    return f"{state} {_two(statistics.fmean(figures))}" if figures else state


def _two(value: float) -> str:
    """Two decimals, and no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"
