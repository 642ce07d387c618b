"""Flower's FedAvg, one reply at a time: the coordinator holds one sum, however many hospitals there are.

Flower's own keeps all replies of a round and averages them then, so that its memory grows with the number of hospitals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx

from pettoolkit.federation import wire

Named = dict[str, npt.NDArray[Any]]

AT_ONCE = 16
"""Hospitals asked side by side; more than the cores of most machines that simulate them."""


class WeightedSum:
    """The weighted mean of replies, summed in the order in which they come.

    Bit for bit what ``flwr.serverapp.strategy.strategy_utils.aggregate_arrayrecords`` gives for the same replies in the
    same order, if ``expected`` is the sum of their weights: each array is multiplied by ``weight / expected`` and added
    in place. If other weights came (a hospital was dropped), the sum is scaled to theirs at the end.

    Parameters
    ----------
    expected
        Sum of all weights, known beforehand.
    """

    def __init__(self, expected: float) -> None:
        self._expected, self._seen = expected, 0.0
        self._sum: Named = {}

    def add(self, arrays: Mapping[str, npt.NDArray[Any]], weight: float) -> None:
        """Add one reply; its arrays may be forgotten afterwards."""
        self._seen += weight
        share = weight / self._expected
        for name, value in arrays.items():
            if name in self._sum:
                self._sum[name] += value * share
            else:
                self._sum[name] = value * share

    def mean(self) -> Named:
        """The weighted mean; empty if nothing came."""
        if self._seen == self._expected or not self._sum:
            return self._sum
        scale = self._expected / self._seen
        return {name: np.asarray(value * scale, dtype=value.dtype) for name, value in self._sum.items()}


class StreamedAvg(FedAvg):
    """FedAvg that takes replies from an iterator and keeps none; weights are patients."""

    patients = 0
    """Training patients of all hospitals together, known from set-up."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Sum up the replies while they come."""
        total = WeightedSum(self.patients)
        for reply in replies:
            weight = wire.metrics_of(reply.content)[wire.NUM_EXAMPLES]
            total.add(wire.arrays_of(reply.content), float(weight))  # type: ignore[arg-type]
        mean = total.mean()
        return (ArrayRecord({k: Array(np.asarray(v)) for k, v in mean.items()}) if mean else None), MetricRecord()

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the replies pass: who drives the strategy has heard them."""
        for _ in replies:
            pass
        return None


class StreamedProx(FedProx, StreamedAvg):
    """FedProx over a streamed sum."""


class StreamedAdam(FedAdam, StreamedAvg):
    """FedAdam over a streamed sum."""
