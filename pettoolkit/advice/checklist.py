"""Costs and benefits of one technology: what was measured, and what nobody measured, told apart."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from pettoolkit.advice.evidence import Technology
from pettoolkit.advice.knowledge import ITEMS
from pettoolkit.records import Json, NotMeasured

NOT_MEASURED = "not measured"


def checklist(tech: Technology, texts: Mapping[str, str]) -> list[dict[str, Json]]:
    """One entry for each item: ``{item, measured, consider}``; ``measured`` says *not measured* where nothing was.

    ``consider`` is sourced text to think about (DSIT and ICO, cost-benefit awareness tool, 2024) and claims no figure.
    """
    measured = {"compute": _compute(tech), "storage": _storage(tech), "testing": _testing(tech)}
    return [
        {"item": item, "measured": measured.get(item, NOT_MEASURED), "consider": texts.get(item, "")}
        for item in ("compute", *ITEMS)
    ]


def _compute(tech: Technology) -> str:
    memory = [m for r in tech.results if not isinstance(m := r.cost.peak_rss_mb, NotMeasured)]
    said = f"{tech.seconds:.3g} s of training"
    return f"{said}, up to {fmean(memory):.0f} MB of memory" if memory else said


def _storage(tech: Technology) -> str:
    if not tech.leaves:
        return "nothing left a hospital"
    said = f"{tech.megabytes:.3g} MB left the hospital that sent most ({', '.join(tech.leaves)})"
    expansion = [r.metrics[name] for r in tech.results if (name := "cost/ciphertext_expansion") in r.metrics]
    return f"{said}, {fmean(expansion):.1f} times the plain numbers" if expansion else said


def _testing(tech: Technology) -> str:
    seeds = f"{len(tech.seeds)} seed{'s' if len(tech.seeds) > 1 else ''}"
    if tech.verdict("release") == "not measured":
        return f"accuracy over {seeds}; risk {NOT_MEASURED}"
    return f"accuracy over {seeds}; attacks: release {tech.verdict('release')}, insiders {tech.verdict('insider')}"
