"""AUROC within public subgroups (sex, age band, ICU unit), over all hospitals that trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from pettoolkit.evaluation.metrics import LEAST_POSITIVES, Figure, auroc
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import NotMeasured

AGE_BANDS = (40, 60, 75)
"""Public cut points of the age bands that are reported as subgroups."""


def age_bands() -> tuple[str, ...]:
    """Name the age bands, youngest first."""
    between = [f"{low} to {high - 1}" for low, high in itertools.pairwise(AGE_BANDS)]
    return (f"below {AGE_BANDS[0]}", *between, f"{AGE_BANDS[-1]} and over")


def subgroup_auroc(predictions: Iterable[SitePredictions]) -> dict[str, dict[str, Figure]]:
    """AUROC within each level of each attribute: ``{attribute: {level: auroc}}``.

    Only patients of the same hospital are compared with each other, and each such pair of a positive
    and a negative counts once: the Mann-Whitney statistic stratified by hospital. Unlike a mean over
    hospitals it stays usable where a hospital has two positives of a group. A level with fewer than
    10 positives in all is not measured.
    """
    sites = list(predictions)
    attributes = sorted({name for p in sites for name in p.subgroup})
    return {name: {level: _within(sites, name, level) for level in _levels(sites, name)} for name in attributes}


def _levels(sites: list[SitePredictions], name: str) -> list[str]:
    return sorted({str(level) for p in sites if name in p.subgroup for level in p.subgroup[name]})


def _within(sites: list[SitePredictions], name: str, level: str) -> Figure:
    concordant, pairs, positives = 0.0, 0, 0
    for p in sites:
        if name not in p.subgroup:
            continue
        here = p.subgroup[name] == level
        y, score = p.y[here], p.score[here]
        positives += int(y.sum())
        value = auroc(y, score)
        if not isinstance(value, NotMeasured):
            site_pairs = int(y.sum()) * int((y == 0).sum())
            concordant, pairs = concordant + value * site_pairs, pairs + site_pairs
    if positives < LEAST_POSITIVES:
        return NotMeasured(f"undefined: {positives} positives in this group, at least {LEAST_POSITIVES} are needed")
    if not pairs:
        return NotMeasured("undefined: one class in this group at every site")
    return concordant / pairs
