"""Finished cells with figures of our choice."""

from __future__ import annotations

from typing import Any

from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import (
    Cost,
    Exposure,
    Guarantee,
    Interval,
    ModelSpec,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    RunSpec,
    Traffic,
)

NONE = PrivacyStatement(NotMeasured("no differential privacy"), "the coordinator", "everything", "yes, by anyone")


def spec(arm: str = "federated", **changed: Any) -> RunSpec:
    options = {"federated": {"strategy": "fedavg", "rounds": 30}, "synthetic": {"generator": "marginals"}}.get(arm, {})
    defaults: dict[str, Any] = {"features": "compact", "seed": 0, "sites": ("a", "b"), "experiment": "x"}
    defaults["model"] = ModelSpec("logistic")
    return RunSpec(task="sepsis-landmark", arm=arm, options=options, **(defaults | changed))


def result(
    of: RunSpec,
    auroc: dict[str, float | NotMeasured],
    *,
    sent: int = 0,
    kind: str = "update",
    privacy: PrivacyStatement = NONE,
    seconds: float = 1.0,
) -> RunResult:
    known = [a for s, a in auroc.items() if isinstance(a, float) and s in of.sites]
    unseen = [a for s, a in auroc.items() if isinstance(a, float) and s in of.unseen]
    metrics, intervals = {}, {}
    for name, values in (("utility/auroc", known), ("robustness/auroc_unseen_site", unseen)):
        if values:
            metrics[name] = sum(values) / len(values)
            intervals[name] = Interval(metrics[name] - 0.05, metrics[name] + 0.05)
    traffic = tuple(Traffic(site, "out", kind, "training", 1, sent) for site in of.sites if sent)
    evaluation = tuple(Traffic(site, "out", "predictions", "evaluation", 1, 10**9) for site in of.sites)
    setup = tuple(Traffic(site, "out", "metrics", "setup", 1, 85) for site in of.sites)
    return RunResult(
        spec=of,
        config_hash="h",
        metrics=metrics,
        intervals=intervals,
        per_site={site: {"auroc": value} for site, value in auroc.items()},
        cross_site=NotMeasured("one shared model"),
        subgroups={},
        privacy=privacy,
        exposure=Exposure(traffic + setup + evaluation),
        cost=Cost(seconds),
    )


def done(of: RunSpec, auroc: dict[str, float | NotMeasured], **changed: Any) -> CellReport:
    return CellReport(of, "done", result(of, auroc, **changed), "run")


def private(epsilon: float) -> PrivacyStatement:
    """What shared noise guarantees."""
    guarantee = Guarantee(
        epsilon,
        epsilon * 2 + 0.7,
        1e-5,
        "PLD",
        "Gaussian",
        assumptions=("patients are counted", "hospitals are honest"),
        not_covered=("tuning",),
        epsilon_if_sites_collude={"1": epsilon + 0.5, "2": epsilon + 1.5},
        epsilon_if_coordinator_and_site_collude=epsilon * 2,
    )
    return PrivacyStatement(guarantee, "nobody", "the figure beside epsilon", "no")
