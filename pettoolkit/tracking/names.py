"""What a cell is called in MLflow: params, run names, metrics, rounding (DESIGN section 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pettoolkit.records import Guarantee, Json, ModelSpec, NotMeasured, RunResult, RunSpec, Summary, digest_of

SMALL = 0.01
"""Below this, 4 decimals would leave fewer than 2 digits: 4 significant digits are kept instead."""


def params_of(spec: RunSpec) -> dict[str, str]:
    """Params of a cell; ``-`` where there is none, ``epsilon`` is ``inf`` without differential privacy."""
    return {
        "arm": spec.arm,
        "variant": variant_name(spec),
        "dp": "none" if spec.dp is None else spec.dp.target,
        "epsilon": "inf" if spec.dp is None else f"{spec.dp.epsilon:g}",
        "noise": "-" if spec.dp is None else spec.dp.noise,
        "model": model_name(spec.model),
        "seed": str(spec.seed),
        "features": spec.features,
        "sites": ", ".join(spec.sites),
        "train_sites": str(len(spec.sites)),
        "patients_per_site": "all" if spec.patients_per_site is None else str(spec.patients_per_site),
        "unseen": ", ".join(spec.unseen) or "-",
        "rounds": str(spec.options.get("rounds") or "-"),
    }


def variant_name(spec: RunSpec) -> str:
    """Strategy, generator, method or k of the arm, ``-`` if it has none."""
    return spec.variant


def model_name(model: ModelSpec) -> str:
    """``logistic``, ``mlp-32``."""
    return f"{model.name}-{model.hidden}" if model.hidden else model.name


def summary_name(spec: RunSpec) -> str:
    """Name of the run that holds all seeds, e.g. ``federated fedavg logistic + DP, epsilon 3, local noise``."""
    words = [spec.arm, variant_name(spec), model_name(spec.model)]
    parts = [" ".join(word for word in words if word != "-")]
    if spec.dp is not None:
        parts[0] += " + DP"
        parts += [f"epsilon {spec.dp.epsilon:g}", f"{spec.dp.noise} noise"]
    if spec.unseen:
        parts.append(f"unseen {', '.join(spec.unseen)}")
    return ", ".join(parts)


def run_name(spec: RunSpec) -> str:
    """Name of one cell's run, e.g. ``federated fedavg logistic seed 0``."""
    return f"{summary_name(spec)} seed {spec.seed}"


def variant_key(spec: RunSpec) -> str:
    """Digest of all that seeds of one variant share; which sites were drawn may differ, their number not."""
    shared = replace(spec, seed=0, sites=(str(len(spec.sites)),), contract={}, contract_digest="")
    return digest_of(shared.wire())


def row_of(spec: RunSpec, cohort: str, *, seed: bool = True) -> str:
    """Digest of what tells a reader of a table which row it is: hospitals, arm, variant, model, budget; not options.

    Parameters
    ----------
    cohort
        Names all hospitals of the experiment, those that are not drawn to train included.
    seed
        Whether the row is one seed's cell, or all seeds' summary.
    """
    told = params_of(spec)
    for name in ("rounds", "sites", *(() if seed else ("seed",))):
        del told[name]
    return digest_of([told, cohort])


def changed(old: RunSpec, new: RunSpec) -> list[str]:
    """What is not the same in two specs of one row, as ``rounds 30 -> 50``."""
    before, after = _settings(old), _settings(new)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"{name} {_said(before.get(name))} -> {_said(after.get(name))}" for name in names]


def _settings(spec: RunSpec) -> dict[str, Json]:
    """All settings by name, those of the arm without ``options.`` before it."""
    data = spec.wire()
    for name in ("contract", "contract_digest", "experiment", "schema_version"):
        del data[name]
    flat: dict[str, Json] = dict(data.pop("options"))
    for name, value in data.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _said(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)


def metrics_of(result: RunResult) -> dict[str, float]:
    """All figures of a cell that are numbers: the result's own, and those of cost and guarantee."""
    named: dict[str, float | NotMeasured] = {
        "cost/train_seconds": result.cost.train_seconds,
        "cost/cpu_seconds": result.cost.cpu_seconds,
        "cost/cpu_seconds_site_max": result.cost.cpu_seconds_site_max,
        "cost/cpu_seconds_coordinator": result.cost.cpu_seconds_coordinator,
        "cost/peak_rss_mb": result.cost.peak_rss_mb,
        **{name if "/" in name else f"cost/{name}": value for name, value in result.cost.extra.items()},
        **privacy_metrics(result.privacy.guarantee),
        **result.metrics,
    }
    return {name: float(value) for name, value in named.items() if not isinstance(value, NotMeasured)}


def privacy_metrics(guarantee: Guarantee | NotMeasured) -> dict[str, float | NotMeasured]:
    """``privacy/*``; nothing without a guarantee, since infinity is no figure."""
    if isinstance(guarantee, NotMeasured):
        return {}
    return {
        "privacy/epsilon": guarantee.epsilon,
        "privacy/delta": guarantee.delta,
        "privacy/epsilon_if_colluding": guarantee.epsilon_if_coordinator_and_site_collude,
    }


def summary_metrics(summary: Summary) -> dict[str, float]:
    """Means over seeds under the metric's own name, and their SD as ``<name>_seed_sd`` for scores."""
    scores = ("utility/", "robustness/")
    spread = {f"{name}_seed_sd": sd for name, sd in summary.sd.items() if name.startswith(scores)}
    return {**summary.mean, **spread}


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Round the figures that are numbers, and name those that are not (a diverged loss)."""
    good = {name: rounded(value) for name, value in metrics.items() if math.isfinite(value)}
    return good, tuple(name for name in metrics if name not in good)


def rounded(value: float) -> float:
    """Round to 4 decimals; below :data:`SMALL` to 4 significant digits."""
    return float(f"{value:.4g}") if abs(value) < SMALL else round(value, 4)
