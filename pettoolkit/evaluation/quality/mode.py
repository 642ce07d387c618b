"""How much a declaration computes, and who is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pettoolkit.evaluation.quality.models import Name


@dataclass(frozen=True)
class Mode:
    """How much is computed.

    Attributes
    ----------
    halvings, resamples
        Random halvings of the real rows behind each noise floor; bootstrap resamples behind each interval.
    models
        Trained on real and on synthetic rows; the first one also judges bias and names the worst subgroup.
    trees
        Of the gradient boosting that tells rows apart.
    proxy
        Model that tells a protected attribute from the other columns.
    sdmetrics
        Whether sdmetrics' own scores stand beside ours.
    """

    name: str
    halvings: int
    resamples: int
    models: tuple[Name, ...]
    trees: int
    proxy: Name
    sdmetrics: bool


HALVINGS = 20
"""Of the real rows. With 5, 10 to 17 % of the distances between two samples of the same patients (toy tables of 400 to
2,000 rows) were called beyond their floor; with 20, 1 to 5 %."""

FULL = Mode("full", HALVINGS, 500, ("gradient_boosting", "logistic", "random_forest"), 100, "gradient_boosting", True)
QUICK = Mode("quick", HALVINGS, 200, ("logistic",), 20, "logistic", False)


class Steps:
    """Says what is being done, in steps that take about equally long.

    Parameters
    ----------
    say
        Gets what is being done, and how many of how many steps are done.
    """

    def __init__(self, say: Callable[[str, int, int], None] | None = None) -> None:
        self._say = say
        self._done = self._total = 0

    def begin(self, total: int) -> None:
        """Say how many steps there will be."""
        self._total = total

    def next(self, doing: str) -> None:
        """Begin a step."""
        if self._say is not None:
            self._say(doing, self._done, self._total)
        self._done += 1

    def end(self) -> None:
        """Say that all is done."""
        if self._say is not None:
            self._say("done", self._total, self._total)
