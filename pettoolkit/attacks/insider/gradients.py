"""Parameters as vectors, and each patient's own gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet, Params

Floats = npt.NDArray[np.float64]


def each_gradient(net: DenseNet, model: Params, x: Tensor, y: Tensor, clip: float) -> Floats:
    """Each patient's own gradient in one row, in the order of :func:`flat`, scaled down to the norm ``clip``."""
    parts = {}
    for i, (a, delta) in enumerate(net.backward(model, x, y)):
        parts[f"layer{i}.weight"] = (delta.unsqueeze(2) * a.unsqueeze(1)).reshape(len(x), -1)
        parts[f"layer{i}.bias"] = delta
    rows = torch.cat([parts[name] for name in sorted(parts)], dim=1).double().numpy()
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    clipped: Floats = rows * np.minimum(1.0, clip / np.maximum(length, 1e-30))
    return clipped


def minus(a: Mapping[str, Any], b: Mapping[str, Any]) -> Params:
    """Difference by name."""
    return {k: a[k] - b[k] for k in a}


def flat(params: Params) -> Floats:
    """All numbers in the order of their names."""
    numbers: Floats = torch.cat([params[name].flatten() for name in sorted(params)]).double().numpy()
    return numbers


def mean_of(updates: Mapping[str, Params], weight: Mapping[str, float]) -> Params:
    """Mean of some hospitals' updates, each with its weight."""
    total = sum(weight.values())
    names = updates[next(iter(weight))]
    return {k: torch.stack([updates[site][k] * (w / total) for site, w in weight.items()]).sum(0) for k in names}
