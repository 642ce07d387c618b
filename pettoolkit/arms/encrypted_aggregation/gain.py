"""How far one error of a decrypted sum can get into the model that is released: by so much more flooding is needed.

What is counted is what the server step does with a sum; the hospitals' later contributions are taken as given. They
are made from a model that holds the error, too, and what local training makes of it is not bounded here: steps that
contract make it smaller, steps that overshoot make it larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pettoolkit.arms.rounds import FEDADAM, settings_of
from pettoolkit.records import Json, RunSpec

_EXPONENTS = range(9)
"""Under DP the settings depend on the public number of patients, which is anything up to 10^8."""


def gain(settings: Mapping[str, Json]) -> float:
    """Largest change of a released weight by an error of 1 in one round's sum, later contributions given; at least 1.

    FedAvg: 1, since the mean is the model. FedSGD: ``lr (1 - m^T) / (1 - m)``, as momentum takes a gradient into every
    later step. FedAdam: :func:`adam_gain`.
    """
    rounds = int(settings["rounds"])
    if settings["strategy"] == "fedsgd":
        momentum = float(settings["momentum"])
        return max(1.0, float(settings["learning_rate"]) * (1 - momentum**rounds) / (1 - momentum))
    if settings["strategy"] == "fedadam":
        return max(1.0, adam_gain(rounds))
    return 1.0


def adam_gain(rounds: int) -> float:
    """Bound for FedAdam's step ``rate m / (sqrt(v) + tau)`` over all rounds.

    Through m an error adds at most ``rate (1 - b1^T) / tau`` over all rounds together. Through v: by Cauchy and Schwarz
    ``|m| <= c sqrt(v)`` with ``c^2 = (1 - b1)^2 / ((1 - b2)(1 - b1^2 / b2))``, and k rounds later
    ``|d| <= sqrt(v / ((1 - b2) b2^k))``, so the derivative is at most ``rate c sqrt((1 - b2) b2^k)`` times
    ``sqrt(v) / (sqrt(v) + tau)^2``, which is at most ``1 / (4 tau)``.
    """
    b1, b2, tau = FEDADAM["beta_1"], FEDADAM["beta_2"], FEDADAM["tau"]
    rate = FEDADAM["eta"] * max(math.sqrt(1 - b2 ** (n + 1)) / (1 - b1 ** (n + 1)) for n in range(1, rounds + 1))
    c = (1 - b1) / math.sqrt((1 - b2) * (1 - b1**2 / b2))
    through_second = c / 4 * math.sqrt(1 - b2) * sum(b2 ** (k / 2) for k in range(rounds))
    return float(rate / tau * (1 - b1**rounds + through_second))


def most_gain(spec: RunSpec) -> float:
    """Largest gain that a run can have, however many patients there turn out to be."""
    if spec.dp is None:
        return gain(settings_of(spec, None))
    return max(gain(settings_of(spec, 10**k)) for k in _EXPONENTS)
