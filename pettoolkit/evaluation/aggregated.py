"""What a hospital that gives no rows tells about a model: figures from which no small group can be told."""

from __future__ import annotations

from pettoolkit.evaluation.metrics import RECALL, site_figures
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import NotMeasured

SMALLEST_COUNT = 10
"""Fewer patients than this are not counted out, nor can they be by arithmetic on the figures."""

UNPUBLISHED = 0.5
"""Alarm threshold where the contract publishes no prevalence."""

AT_THRESHOLD = ("accuracy", "balanced_accuracy", "precision", "sensitivity", "f1")


def figures_of(predictions: SitePredictions, prevalence: float | None) -> dict[str, float]:
    """Figures of one model on one hospital's test patients, with the counts of patients and positives.

    Nothing at all is told of fewer than :data:`SMALLEST_COUNT` positives or negatives. With the counts, figures at the
    alarm threshold give the four cells of the confusion table, and precision at 80 % recall gives its false alarms:
    they are told only where all of those are large enough.

    Parameters
    ----------
    prevalence
        The contract's public one, which is the alarm threshold.
    """
    p, threshold = predictions, prevalence or UNPUBLISHED
    if min(p.positives, p.patients - p.positives) < SMALLEST_COUNT:
        return {}
    found = {name: v for name, v in site_figures(p, threshold).items() if not isinstance(v, NotMeasured)}
    alarm, positive = p.score >= threshold, p.y == 1
    cells = (alarm & positive, alarm & ~positive, ~alarm & positive, ~alarm & ~positive)
    withheld: set[str] = set()
    if min(int(cell.sum()) for cell in cells) < SMALLEST_COUNT:
        withheld |= set(AT_THRESHOLD)
    ppv, true = found.get("ppv_at_80_recall"), RECALL * int(positive.sum())
    if ppv is not None and min(true, true * (1 - ppv) / ppv) < SMALLEST_COUNT:
        withheld.add("ppv_at_80_recall")
    told = {name: value for name, value in found.items() if name not in withheld}
    return {**told, "patients": float(p.patients), "positives": float(p.positives)}
