"""Training in one place: mini-batch gradient descent that keeps a snapshot per epoch.

The snapshot with the lowest loss on validation patients is the model ("early stopping"), wherever the
rows are: in one hospital, pooled, or synthetic. Under differential privacy validation patients are
never read and the private trainer is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet, Params


@dataclass(frozen=True)
class Rows:
    """Encoded rows: ``x`` of shape (n, d) and ``y`` of shape (n,), both float32."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class AdamSettings:
    """Mini-batch Adam (Kingma and Ba 2015, arXiv:1412.6980) with a little weight decay."""

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    keep_every: int = 1


def adam(net: DenseNet, params: Params, rows: Rows, settings: AdamSettings, generator: torch.Generator) -> list[Params]:
    """Train in one place and return the parameters after every ``keep_every``-th epoch and the last.

    Parameters
    ----------
    params
        Starting point; not changed.
    generator
        Draws the order of the rows; a seed fixes the result bit for bit.
    """
    current = {k: v.clone() for k, v in params.items()}
    first = {k: torch.zeros_like(v) for k, v in params.items()}
    second = {k: torch.zeros_like(v) for k, v in params.items()}
    snapshots: list[Params] = []
    step = 0
    for epoch in range(1, settings.epochs + 1):
        for batch in torch.split(torch.randperm(len(rows), generator=generator), settings.batch_size):
            gradient = net.gradient_sum(current, rows.x[batch], rows.y[batch])
            step += 1
            for name, value in current.items():
                g = gradient[name] / len(batch) + settings.weight_decay * value
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                unbiased = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
                current[name] = value - settings.learning_rate * first[name] / (1 - 0.9**step) / unbiased
        if epoch % settings.keep_every == 0 or epoch == settings.epochs:
            snapshots.append(dict(current))
    return snapshots


def sgd_epochs(
    net: DenseNet,
    params: Params,
    rows: Rows,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    proximal_mu: float,
    generator: torch.Generator,
) -> Params:
    """Plain mini-batch gradient descent: the local work of a federated round.

    Parameters
    ----------
    params
        Starting point; not changed.
    generator
        Draws the order of the rows; a seed fixes the result bit for bit.
    proximal_mu
        FedProx's pull towards the starting point, ``mu/2 |w - w0|^2`` (Li et al. 2020,
        arXiv:1812.06127); 0 for FedAvg.
    """
    current = {k: v.clone() for k, v in params.items()}
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(rows), generator=generator), batch_size):
            gradient = net.gradient_sum(current, rows.x[batch], rows.y[batch])
            for name, value in current.items():
                step = gradient[name] / len(batch)
                if proximal_mu:
                    step = step + proximal_mu * (value - params[name])
                current[name] = value - learning_rate * step
    return current


def validation_losses(net: DenseNet, snapshots: Sequence[Params], rows: Rows) -> list[float]:
    """Summed loss (not the mean) of each snapshot on the rows, so that sums over hospitals are exact."""
    return [float(net.loss(p, rows.x, rows.y)) * len(rows) if len(rows) else 0.0 for p in snapshots]


def best(snapshots: Sequence[Params], losses: Sequence[float]) -> tuple[int, Params]:
    """Index and parameters of the first snapshot with the lowest loss."""
    index = min(range(len(snapshots)), key=lambda i: losses[i])
    return index, snapshots[index]


def to_arrays(params: Params) -> dict[str, npt.NDArray[np.float32]]:
    """Parameters as numpy arrays (copies)."""
    return {name: value.numpy().copy() for name, value in params.items()}


def to_params(arrays: Mapping[str, npt.NDArray[np.floating[Any]]]) -> Params:
    """Parameters from numpy arrays (copies, float32)."""
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in arrays.items()}
