"""Alone or together: whether hospitals that keep their own model do as well as with a shared one, in a sentence.

The arm ``local`` is a fair opponent: large hospitals with a simple model often need nobody else. The means of two
rows hide that, so the line under the table counts hospitals, on the same patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pettoolkit.evaluation.intervals import Estimate, paired_auroc
from pettoolkit.evaluation.predictions import SitePredictions, from_bytes
from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import Interval, NotMeasured, RunSpec, digest_of
from pettoolkit.report.listing import model, variant

OPPONENTS = ("pooled", "federated")
"""The shared model to compare with, where the experiment has it; else the first shared one of the file."""


@dataclass(frozen=True)
class _Row:
    """A line of the table: the cells of one arm that differ in their seed."""

    spec: RunSpec
    shared: bool
    cells: dict[int, CellReport]


def alone_or_together(reports: Sequence[CellReport], predictions: Callable[[str], bytes]) -> list[str]:
    """One sentence for each ``local`` row that has a shared model of the same kind beside it.

    Nothing is said where hospitals are left out in turn. Rows with differential privacy are compared only where the
    experiment has no row without it.
    """
    rows = _rows(reports)
    turns = {row.spec.unseen for row in rows}
    if len(turns) > 1 and all(len(unseen) == 1 for unseen in turns):
        return []
    pairs = [(row, other) for row in rows if row.spec.arm == "local" and (other := _opponent(row, rows))]
    plain = [pair for pair in pairs if pair[0].spec.dp is None]
    several = len({pair[0].spec.unseen for pair in plain or pairs}) > 1
    lines = [_sentence(own, other, predictions, name_unseen=several) for own, other in plain or pairs]
    return [line for line in lines if line]


def _rows(reports: Sequence[CellReport]) -> list[_Row]:
    rows: dict[str, _Row] = {}
    for report in reports:
        if report.result is not None and report.run_id is not None:
            shared = isinstance(report.result.cross_site, NotMeasured)
            key = digest_of(replace(report.spec, seed=0, contract={}).wire())
            rows.setdefault(key, _Row(report.spec, shared, {})).cells[report.spec.seed] = report
    return list(rows.values())


def _opponent(own: _Row, rows: Sequence[_Row]) -> _Row | None:
    """The shared model that was trained on the same hospitals, seeds and budget."""
    found = [r for r in rows if r.shared and _setting(r.spec) == _setting(own.spec) and set(r.cells) == set(own.cells)]
    ranks = {arm: rank for rank, arm in enumerate(OPPONENTS)}
    return min(found, key=lambda row: ranks.get(row.spec.arm, len(ranks)), default=None)


def _setting(spec: RunSpec) -> str:
    budget = None if spec.dp is None else [spec.dp.epsilon, spec.dp.delta]
    return digest_of(
        [spec.model.name, spec.model.hidden, spec.features, spec.sites, spec.unseen, spec.patients_per_site, budget]
    )


def _sentence(own: _Row, other: _Row, predictions: Callable[[str], bytes], *, name_unseen: bool) -> str | None:
    ours, theirs = (_predictions(row, predictions) for row in (own, other))
    found = paired_auroc(ours, theirs, own.spec.sites)
    if isinstance(found, NotMeasured):
        return None
    size = {site: sum(run[site].patients for run in ours) for site in found.per_site}
    larger = sorted(size, key=lambda site: (-size[site], site))[: len(size) // 2]
    level = [site for site, difference in found.per_site.items() if difference.value >= 0]
    of_larger = f" ({len(set(level) & set(larger))} of the {len(larger)} largest)" if larger else ""
    mean = found.mean
    spread = (
        "" if isinstance(mean.interval, NotMeasured) else f" ({mean.interval.low:+.3f} to {mean.interval.high:+.3f})"
    )
    unseen = f", without {', '.join(own.spec.unseen)}" if name_unseen else ""
    return (
        f"Alone or together{unseen}: local {_name(own.spec)} reaches at least the AUROC of {_title(other.spec)} at "
        f"{len(level)} of {len(size)} hospitals{of_larger}; mean difference {mean.value:+.3f}{spread}, paired: "
        f"{_verdict(mean)}. {_decided(found.per_site)}"
    )


def _predictions(row: _Row, predictions: Callable[[str], bytes]) -> list[dict[str, SitePredictions]]:
    return [from_bytes(predictions(row.cells[seed].run_id or "")) for seed in sorted(row.cells)]


def _verdict(mean: Estimate) -> str:
    sign = _sign(mean)
    if sign == 0:
        return "undecided, the interval spans 0"
    return "better alone in the mean" if sign > 0 else "better together in the mean"


def _decided(per_site: Mapping[str, Estimate]) -> str:
    """Which single hospitals' own intervals leave 0 out."""
    words = {1: "better alone", -1: "better together"}
    by_sign = {sign: [site for site, e in per_site.items() if _sign(e) == sign] for sign in (1, -1)}
    said = [f"{words[sign]} {', '.join(sites)}" for sign, sites in by_sign.items() if sites]
    open_ = len(per_site) - sum(map(len, by_sign.values()))
    return f"By hospital: {'; '.join([*said, *([f'{open_} undecided'] if open_ else [])])}."


def _sign(estimate: Estimate) -> int:
    """1 or -1 where the interval decides it, else 0."""
    if not isinstance(estimate.interval, Interval):
        return 0
    return int(estimate.interval.low > 0) - int(estimate.interval.high < 0)


def _name(spec: RunSpec) -> str:
    budget = f" epsilon {spec.dp.epsilon:g}" if spec.dp is not None else ""
    return f"{model(spec)}{budget}"


def _title(spec: RunSpec) -> str:
    return " ".join(word for word in (spec.arm, variant(spec), _name(spec)) if word != "-")
