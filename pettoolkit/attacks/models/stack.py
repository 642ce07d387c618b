"""Many networks of one shape on the same rows at once: the shadow models of a membership attack.

All shadows see the same batch; ``weight`` says which of its patients count in which shadow. Their first layers
side by side are one matrix, so a step is two large matrix products instead of one small pair per shadow, and no row is
ever copied. Gradients equal those of training each shadow by itself on its own patients (a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.gradients import CLIP_MARGIN

ROWS_AT_ONCE = 1024
"""Rows of a full batch that are worked on together, so that hidden layers of all shadows stay in the cache."""


class Stack:
    """``count`` networks like ``net``; each parameter has a leading axis of that size."""

    def __init__(self, net: DenseNet, count: int) -> None:
        self.net, self.count = net, count

    def repeat(self, params: Params) -> Params:
        """Every network starts from the same parameters."""
        return {k: v.expand(self.count, *v.shape).clone() for k, v in params.items()}

    def logits(self, params: Params, x: Tensor) -> Tensor:
        """Logits of shape (n, count) for rows of shape (n, features)."""
        return torch.cat([self._forward(params, part)[1] for part in torch.split(x, ROWS_AT_ONCE)])

    def losses(self, params: Params, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each network, shape (count,)."""
        logits = self.logits(params, x)
        each = torch.nn.functional.softplus(logits) - y.unsqueeze(1) * logits
        return each.mean(0)

    def gradient_sum(self, params: Params, x: Tensor, y: Tensor, weight: Tensor, clip: float | None = None) -> Params:
        """Sum over patients of each one's gradient, by network.

        Parameters
        ----------
        weight
            Shape (n, count): 1 where the patient counts in that network, else 0.
        clip
            Largest norm of a patient's gradient (all parameters together); None does not clip.
        """
        total: Params = {}
        for rows, outcomes, counts in _parts(x, y, weight):
            for name, value in self._part(params, rows, outcomes, counts, clip).items():
                total[name] = total[name] + value if name in total else value
        return total

    def _part(self, params: Params, x: Tensor, y: Tensor, weight: Tensor, clip: float | None) -> Params:
        inputs, logits = self._forward(params, x)
        delta = torch.sigmoid(logits).sub_(y.unsqueeze(1))
        if clip is None:
            return self._sums(params, inputs, self._backward(params, inputs, delta.mul_(weight).unsqueeze(2)))
        deltas = self._backward(params, inputs, delta.unsqueeze(2))
        squared = deltas[0].square().sum(2) * (inputs[0].square().sum(1, keepdim=True) + 1)
        for a, d in zip(inputs[1:], deltas[1:], strict=True):
            squared += d.square().sum(2) * (a.square().sum(2) + 1)
        scale = (clip * (1 - CLIP_MARGIN) / squared.sqrt().clamp_min(1e-30)).clamp_max(1.0).mul_(weight).unsqueeze(2)
        return self._sums(params, inputs, [d * scale for d in deltas])

    def _forward(self, params: Params, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Inputs of each layer (the rows, then (n, count, width)), and logits (n, count)."""
        inputs: list[Tensor] = [x]
        for i in range(self.net.depth):
            weight, bias = params[f"layer{i}.weight"], params[f"layer{i}.bias"]
            if i == 0:
                wide = torch.addmm(bias.reshape(-1), x, weight.reshape(-1, weight.shape[2]).T)
                z = wide.view(len(x), self.count, -1)
            elif weight.shape[1] == 1:
                z = ((inputs[-1] * weight[:, 0]).sum(2) + bias[:, 0]).unsqueeze(2)
            else:
                z = torch.einsum("nmi,moi->nmo", inputs[-1], weight) + bias
            if i < self.net.depth - 1:
                inputs.append(z.relu_())
        return inputs, z.squeeze(2)

    def _backward(self, params: Params, inputs: list[Tensor], delta: Tensor) -> list[Tensor]:
        """Loss gradients at each layer's output, (n, count, width), from that at the logits."""
        deltas = [delta]
        for i in range(self.net.depth - 1, 0, -1):
            weight = params[f"layer{i}.weight"]
            back = delta * weight[:, 0] if weight.shape[1] == 1 else torch.einsum("nmo,moi->nmi", delta, weight)
            delta = torch.ops.aten.threshold_backward(back, inputs[i], 0)
            deltas.append(delta)
        return deltas[::-1]

    def _sums(self, params: Params, inputs: list[Tensor], deltas: list[Tensor]) -> Params:
        out: Params = {}
        for i, (a, delta) in enumerate(zip(inputs, deltas, strict=True)):
            shape = params[f"layer{i}.weight"].shape
            if i == 0:
                summed = (delta.reshape(len(a), -1).T @ a).view(shape)
            elif shape[1] == 1:
                summed = (delta * a).sum(0).view(shape)
            else:
                summed = torch.einsum("nmo,nmi->moi", delta, a)
            out[f"layer{i}.weight"] = summed
            out[f"layer{i}.bias"] = delta.sum(0)
        return out


def per_network(values: Tensor, like: Tensor) -> Tensor:
    """Values of shape (count,) with as many trailing axes as ``like`` has."""
    return values.view(-1, *([1] * (like.dim() - 1)))


def keep_better(kept: Params, best: Tensor, params: Params, losses: Tensor) -> tuple[Params, Tensor]:
    """Of two snapshots, for each network the one with the lower loss (the first, if they are equal)."""
    better = losses < best
    chosen = {k: torch.where(per_network(better, v), params[k], v) for k, v in kept.items()}
    return chosen, torch.where(better, losses, best)


def _parts(x: Tensor, y: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    yield from zip(*(torch.split(t, ROWS_AT_ONCE) for t in (x, y, weight)), strict=True)
