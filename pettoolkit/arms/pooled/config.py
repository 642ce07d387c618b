"""Keys of ``arm: pooled``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pettoolkit.arms.keys import CentralTraining

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model."""


class PooledKeys(CentralTraining):
    """The coordinator trains on everybody's raw records."""

    arm: Literal["pooled"]

    noise_modes: ClassVar[tuple[str, ...]] = ("central",)
    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES
