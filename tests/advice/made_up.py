"""Technologies with figures of our choice, as if they had been recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pettoolkit.advice.evidence import Technology
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import (
    AttackFigure,
    Cost,
    DpSpec,
    Exposure,
    Guarantee,
    Interval,
    MeasuredRisk,
    ModelSpec,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    RunSpec,
    Summary,
    Traffic,
    Verdict,
)

SITES = ("east", "north", "west")
KINDS: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "pooled": ("raw_records",),
    "federated": ("update",),
    "encrypted_aggregation": ("ciphertext", "model"),
    "encrypted_records": ("ciphertext", "model"),
    "anonymised": ("anonymised_records",),
    "synthetic": ("synthetic_records",),
}


UNATTACKED = NotMeasured("no attacks were run")


def scores(separation: float, seed: int, model: int, patients: int = 400) -> dict[str, SitePredictions]:
    """AUROC Phi(separation / sqrt 2); nine tenths of what scores miss is the patients' own and the same for all."""
    found = {}
    for number, site in enumerate(SITES):
        shared, own = np.random.default_rng([number, seed]), np.random.default_rng([number, seed, model])
        y = (np.arange(patients) < patients // 4).astype(np.int8)
        noise = np.sqrt(0.9) * shared.normal(size=patients) + np.sqrt(0.1) * own.normal(size=patients)
        found[site] = SitePredictions(np.arange(patients), y, 1 / (1 + np.exp(-(noise + separation * y))))
    return found


def attacked(release: float, insider: float, reach: float = 0.02, *, together: float | None = None) -> MeasuredRisk:
    """One attack on each view, with so much excess, give or take ``reach``."""
    figures = [_figure("lira", "release", release, reach), _figure("update_membership", "insider", insider, reach)]
    if together is not None:
        both = _figure("update_membership", "insider", together, reach)
        figures.append(replace(both, site="coordinator and a hospital"))
    verdicts = [_verdict(excess, reach) for excess in (release, insider)]
    return MeasuredRisk(tuple(figures), {}, *verdicts)


def guarantee(epsilon: float, colluding: float | None = None) -> Guarantee:
    left = NotMeasured("noise is not shared") if colluding is None else colluding
    return Guarantee(epsilon, 2 * epsilon, 1e-5, "PLD", "Gaussian", epsilon_if_coordinator_and_site_collude=left)


def technology(
    arm: str,
    separation: float = 1.0,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    patients: int = 400,
    risk: MeasuredRisk | NotMeasured = UNATTACKED,
    guaranteed: Guarantee | None = None,
    megabytes: float = 1.0,
    **changed: Any,
) -> Technology:
    """A technology that was recorded over ``seeds``."""
    dp = None if guaranteed is None else DpSpec(guaranteed.epsilon)
    results, metrics = [], {"utility/auroc": 0.75}
    for seed in seeds:
        spec = replace(RunSpec("t", arm, {}, ModelSpec("logistic"), "compact", seed, SITES, dp=dp), **changed)
        sent = tuple(
            Traffic(site, "out", kind, "training", 1, int(megabytes * 1e6)) for site in SITES for kind in KINDS[arm]
        )
        rows = {site: {"patients": float(patients), "positives": float(patients // 4)} for site in SITES}
        privacy = PrivacyStatement(guaranteed or NotMeasured("none"), "x", "x", "x", measured=risk)
        results.append(
            RunResult(spec, "h", metrics, {}, rows, NotMeasured("one model"), {}, privacy, Exposure(sent), Cost(2.0))
        )
    model = sum(map(ord, arm)) + int(1000 * separation)
    interval = {"utility/auroc": Interval(0.70, 0.80)}
    summary = Summary(results[0].spec, tuple(seeds), {"utility/auroc": 0.75}, {}, interval)
    predicted = tuple(scores(separation, seed, model, patients) for seed in seeds)
    name = arm if guaranteed is None else f"{arm} epsilon {guaranteed.epsilon:g}"
    return Technology(name, tuple(results), predicted, summary)


def _figure(attack: str, view: str, excess: float, reach: float) -> AttackFigure:
    span = Interval(excess - reach, excess + reach)
    return AttackFigure(attack, "membership_auc", view, "full", 0.5, 0.5, excess, span, 100, 100, 100, 1.0)


def _verdict(excess: float, reach: float, threshold: float = 0.09) -> Verdict:
    state = "above" if excess - reach > threshold else "below" if excess + reach < threshold else "undecided"
    return Verdict(state, excess, threshold, "because")
