"""Hospitals left out in turn: one interval over all of them, and what more hospitals in training are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pettoolkit.evaluation.intervals import Estimate, bootstrap_mean_site_auroc, paired_difference
from pettoolkit.evaluation.predictions import SitePredictions, from_bytes
from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import Interval, NotMeasured, RunSpec, Summary, digest_of

UNSEEN = "robustness/auroc_unseen_site"


@dataclass(frozen=True)
class InTurn:
    """Cells that differ in their seed and in the hospital left out: each seed's unseen predictions of all of them."""

    spec: RunSpec
    seeds: dict[int, dict[str, SitePredictions]]

    @property
    def total(self) -> int | None:
        """Training patients of all hospitals together, if they were limited."""
        return None if self.spec.patients_per_site is None else self.spec.patients_per_site * len(self.spec.sites)

    @property
    def what(self) -> str:
        """Digest of what may differ only in the number of hospitals and their share of patients."""
        bare = replace(self.spec, seed=0, sites=(), unseen=(), patients_per_site=None, contract={})
        return digest_of(bare.wire())

    def summary(self) -> Summary | None:
        """AUROC over all left-out hospitals with one interval; None where it is undefined."""
        runs = list(self.seeds.values())
        mean = bootstrap_mean_site_auroc(runs, list(runs[0])).mean
        if not isinstance(mean, Estimate) or not isinstance(mean.interval, Interval):
            return None
        spec = replace(self.spec, unseen=tuple(sorted(runs[0])))
        return Summary(spec, tuple(self.seeds), {UNSEEN: mean.value}, {}, {UNSEEN: mean.interval})


def in_turn(reports: Sequence[CellReport], predictions: Callable[[str], bytes]) -> list[InTurn]:
    """Put cells of shared models together that leave out one hospital each; none where fewer than two are left out."""
    groups: dict[str, InTurn] = {}
    for report in sorted(reports, key=lambda r: r.spec.seed):
        spec, result = report.spec, report.result
        if result is None or report.run_id is None or len(spec.unseen) != 1:
            continue
        if not isinstance(result.cross_site, NotMeasured):
            continue  # per-site models: their figure is a mean over models, not one score per patient
        one = InTurn(spec, {})
        key = digest_of([one.what, len(spec.sites), one.total])
        found = from_bytes(predictions(report.run_id))
        seeds = groups.setdefault(key, one).seeds
        seeds.setdefault(spec.seed, {})[spec.unseen[0]] = found[spec.unseen[0]]
    complete = [g for g in groups.values() if len({frozenset(run) for run in g.seeds.values()}) == 1]
    return [g for g in complete if len(next(iter(g.seeds.values()))) > 1]


def worth_of_more(groups: Sequence[InTurn]) -> list[str]:
    """Say, for each arm and total of patients, what the most training hospitals give over the fewest, paired."""
    families: dict[str, list[InTurn]] = {}
    for group in groups:
        families.setdefault(digest_of([group.what, group.total]), []).append(group)
    lines = []
    for family in families.values():
        few, many = (f(family, key=lambda g: len(g.spec.sites)) for f in (min, max))
        if len(few.spec.sites) == len(many.spec.sites) or set(few.seeds) != set(many.seeds):
            continue
        order = sorted(few.seeds)
        found = paired_difference([many.seeds[s] for s in order], [few.seeds[s] for s in order])
        if isinstance(found, NotMeasured):
            continue
        value, interval = found
        patients = "all their patients" if few.total is None else f"{few.total} patients in all"
        verdict = "" if interval.low > 0 or interval.high < 0 else "; undecided: the interval spans 0"
        lines.append(
            f"{few.spec.arm}, {few.spec.model.name}, {patients}: {len(many.spec.sites)} training hospitals instead of "
            f"{len(few.spec.sites)} change AUROC at a left-out hospital by {value:+.3f} "
            f"({interval.low:+.3f} to {interval.high:+.3f}{verdict})"
        )
    return lines
