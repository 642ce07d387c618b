"""Keys of ``arm: local``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pettoolkit.arms.keys import CentralTraining

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model."""


class LocalKeys(CentralTraining):
    """Each hospital trains on its own patients."""

    arm: Literal["local"]

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)
    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES
