"""Cells as programs read them: the names and values that MLflow's parameters have, and the JSON of the commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pettoolkit.records import Json, RunResult, RunSpec, to_json


class Reported(Protocol):
    """A cell with what became of it; ``result`` is None unless it was run."""

    @property
    def spec(self) -> RunSpec:
        """What was asked for."""

    @property
    def status(self) -> str:
        """Such as done, skipped, failed, excluded, to run."""

    @property
    def reason(self) -> str:
        """Why it failed, is stale or is left out; empty otherwise."""


def variant(spec: RunSpec) -> str:
    """Strategy, generator, method or k of the arm; ``-`` if it has none."""
    return spec.variant


def params(spec: RunSpec) -> dict[str, Json]:
    """Parameters by name, as in MLflow; without DP ``epsilon`` is the text ``inf``, for which JSON has no number."""
    return {
        "arm": spec.arm,
        "variant": variant(spec),
        "dp": spec.dp.target if spec.dp else "none",
        "epsilon": spec.dp.epsilon if spec.dp else "inf",
        "noise": spec.dp.noise if spec.dp else "-",
        "model": model(spec),
        "seed": spec.seed,
        "features": spec.features,
        "sites": list(spec.sites),
        "patients_per_site": spec.patients_per_site,
        "unseen": list(spec.unseen),
        "rounds": spec.options.get("rounds"),
    }


def model(spec: RunSpec) -> str:
    """Name of the model, with its hidden units if it has some: ``mlp-32``."""
    return f"{spec.model.name}-{spec.model.hidden}" if spec.model.hidden else spec.model.name


def as_json(experiment: str, cells: Iterable[Reported]) -> dict[str, Json]:
    """Return ``{experiment, cells: [{arm, params, status, reason, metrics, privacy, exposure, run_id}]}``."""
    return {"experiment": experiment, "cells": [_cell(cell) for cell in cells]}


def _cell(cell: Reported) -> dict[str, Json]:
    result: RunResult | None = getattr(cell, "result", None)
    return {
        "arm": cell.spec.arm,
        "params": params(cell.spec),
        "status": cell.status,
        "reason": cell.reason,
        "metrics": to_json(result.metrics) if result else {},
        "privacy": to_json(result.privacy) if result else None,
        "exposure": to_json(result.exposure) if result else None,
        "run_id": getattr(cell, "run_id", None),
    }
