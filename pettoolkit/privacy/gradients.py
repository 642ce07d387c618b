"""Sums of clipped per-patient gradients: the one quantity that differentially private training releases.

Every patient's gradient is scaled down to an L2 norm of at most C over all parameters ("flat" clipping,
Abadi et al. 2016, arXiv:1607.00133), so adding or removing a patient moves the sum by at most C. There
are two engines with the same result: ``vectorised``, in closed form for dense nets (Goodfellow 2015,
arXiv:1510.01799), and ``opacus``, which takes any module whose layers Opacus knows.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pettoolkit.errors import BadInput
from pettoolkit.models.dense import DenseNet, Params

CLIP_MARGIN = 1e-5
"""Clipped gradients are scaled to C (1 - margin), so that float32 rounding never carries one above C."""

CHUNK_NUMBERS = 4_000_000
"""Per-patient gradients are held for so many numbers at a time when a patient has several rows."""


@dataclass(frozen=True)
class ClippedSum:
    """A sum of clipped gradients, and what happened to the patients in it.

    ``patients`` were summed; ``unusable`` of them had a gradient that is not finite and contributed
    nothing. Both counts are private: they stay in the hospital.
    """

    gradient: Params
    patients: int
    unusable: int


class GradientEngine(Protocol):
    """Computes the clipped sum for one network."""

    name: str

    def clipped_sum(
        self, params: Params, x: Tensor, y: Tensor, clip: float, patient: Tensor | None = None
    ) -> ClippedSum:
        """Sum over patients of their clipped gradients.

        Parameters
        ----------
        params
            Parameters by name; not changed.
        x, y
            Rows of shape (n, ...) and outcomes of shape (n,); n may be 0.
        clip
            C > 0, the largest L2 norm of a patient's gradient; ``math.inf`` does not clip.
        patient
            Shape (n,), integers: whose row it is. A patient's rows are summed before clipping. None:
            every row is a patient.
        """
        ...


def engine_for(net: DenseNet, gradients: str = "auto") -> GradientEngine:
    """Choose the engine named ``auto``, ``vectorised`` or ``opacus`` for a dense net (``auto``: vectorised)."""
    if gradients in ("auto", "vectorised"):
        return VectorisedGradients(net)
    if gradients == "opacus":
        return OpacusGradients(as_module(net, net.init(seed=0)))
    raise BadInput(f"dp.gradients: choose auto, vectorised or opacus (got {gradients})")


def clipped_gradient_sum(
    net: DenseNet, params: Params, x: Tensor, y: Tensor, clip: float, patient: Tensor | None = None
) -> Params:
    """Clip and sum a dense net's gradients by the vectorised engine; see :class:`GradientEngine`."""
    return VectorisedGradients(net).clipped_sum(params, x, y, clip, patient).gradient


class VectorisedGradients:
    """Clipping at the cost of an ordinary step, for :class:`DenseNet`.

    A patient's squared norm is the sum over layers of ``|delta|^2 (|a|^2 + 1)``, and scaling ``delta``
    scales the whole gradient, so no gradient of a single patient is ever formed.
    """

    name = "vectorised"

    def __init__(self, net: DenseNet) -> None:
        self.net = net
        self._rows = torch.zeros(0)
        self._rows_version = -1
        self._rows_squared = torch.zeros(0)

    def clipped_sum(
        self, params: Params, x: Tensor, y: Tensor, clip: float, patient: Tensor | None = None
    ) -> ClippedSum:
        """See :meth:`GradientEngine.clipped_sum`."""
        _check_clip(clip)
        n = x.shape[0]
        groups = _groups(patient, n)
        layers = self.net.backward(params, x, y)
        if groups is not None:
            return _grouped_sum(layers, groups, clip)
        squared = _row_norms(layers[0][1]).mul_(self._with_bias(x))
        for a, delta in layers[1:]:
            squared += _row_norms(delta).mul_(_row_norms(a).add_(1))
        scale, usable = _scales(squared, clip)
        if usable is not None:  # 0 * NaN is NaN: unusable rows have to be taken out, not scaled to zero
            layers = [(a[usable], delta[usable]) for a, delta in layers]
            scale = scale[usable]
        gradient = self.net.gradient_sum(params, x, y, layers, None if math.isinf(clip) else scale)
        return ClippedSum(gradient, n, n - scale.shape[0])

    def _with_bias(self, x: Tensor) -> Tensor:
        """Squared norms of the rows with their leading 1, which are the same in every full-batch step."""
        if x is not self._rows or x._version != self._rows_version:
            self._rows, self._rows_version = x, x._version
            self._rows_squared = _row_norms(x).add_(1)
        return self._rows_squared


class OpacusGradients:
    """Clipping by Opacus' hooks: the reference, and the engine of models without a closed form.

    Parameters
    ----------
    module
        Returns logits of shape (n,) or (n, 1); its parameters' names are the names in ``params``.
    """

    name = "opacus"

    def __init__(self, module: torch.nn.Module) -> None:
        from opacus import GradSampleModule

        self.module = module
        self.wrapped: Any = GradSampleModule(module, loss_reduction="sum")

    def per_patient(self, params: Params, x: Tensor, y: Tensor, patient: Tensor | None = None) -> Params:
        """Gradient of each patient, ``{name: (patients, *shape)}``."""
        named = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, value in params.items():
                named[name].copy_(value)
        groups = _groups(patient, len(x))
        if not len(x):  # Opacus' hooks do not run on an empty batch
            return {name: torch.zeros(0, *value.shape) for name, value in params.items()}
        self.wrapped.zero_grad()
        logits = self.wrapped(x).reshape(len(x))
        loss: Any = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing")  # inputs need no gradient
            loss.backward()
        rows: Params = {name: named[name].grad_sample.detach() for name in params}  # type: ignore[attr-defined]
        self.wrapped.zero_grad()
        if groups is None:
            return rows
        n = int(groups.max()) + 1
        return {k: torch.zeros(n, *v.shape[1:], dtype=v.dtype).index_add_(0, groups, v) for k, v in rows.items()}

    def clipped_sum(
        self, params: Params, x: Tensor, y: Tensor, clip: float, patient: Tensor | None = None
    ) -> ClippedSum:
        """See :meth:`GradientEngine.clipped_sum`."""
        _check_clip(clip)
        return _clip_and_sum(self.per_patient(params, x, y, patient), clip)


def as_module(net: DenseNet, params: Params) -> torch.nn.Module:
    """Make a ``torch.nn.Module`` of the same network, whose parameters have the same names and values."""
    layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for i, (n_in, n_out) in enumerate(zip(net.widths[:-1], net.widths[1:], strict=True)):
        if i:
            layers[f"relu{i}"] = torch.nn.ReLU()
        layers[f"layer{i}"] = torch.nn.Linear(n_in, n_out)
    module = torch.nn.Sequential(layers)
    module.load_state_dict(params)
    return module


def _check_clip(clip: float) -> None:
    if not clip > 0:
        raise BadInput(f"dp: the clipping norm must be greater than 0 (got {clip})")


def _groups(patient: Tensor | None, n: int) -> Tensor | None:
    """Patient ids as 0..p-1, or None where each row is a patient of its own."""
    if patient is None:
        return None
    if patient.shape != (n,):
        raise BadInput(f"dp: one patient id per row is needed (got {tuple(patient.shape)} for {n} rows)")
    unique, index = torch.unique(patient, return_inverse=True)
    return None if len(unique) == n else index


def _row_norms(values: Tensor) -> Tensor:
    """Squared norm of each row, (n,); the product with ones is faster than a sum or ``vecdot``."""
    return values.square() @ values.new_ones(values.shape[1])


def _scales(squared: Tensor, clip: float) -> tuple[Tensor, Tensor | None]:
    """Per patient: the factor min(1, C (1 - margin) / norm); and which norms are finite, None if all are."""
    scale = (squared.rsqrt() * (clip * (1 - CLIP_MARGIN))).clamp_(max=1.0)
    if math.isfinite(float(squared.sum())):  # one look at the sum is enough for nearly every batch
        return scale, None
    usable = torch.isfinite(squared)
    return scale, None if bool(usable.all()) else usable


def _clip_and_sum(gradients: Params, clip: float) -> ClippedSum:
    """Clip and sum gradients that are held patient by patient, ``{name: (patients, *shape)}``."""
    n = len(next(iter(gradients.values())))
    scale, usable = _scales(
        torch.stack([g.reshape(n, g[0:1].numel()).square().sum(1) for g in gradients.values()]).sum(0), clip
    )
    if usable is not None:
        gradients = {name: g[usable] for name, g in gradients.items()}
        scale = scale[usable]
    total = {name: torch.tensordot(scale, g, dims=([0], [0])) for name, g in gradients.items()}
    return ClippedSum(total, n, n - len(scale))


def _grouped_sum(layers: list[tuple[Tensor, Tensor]], groups: Tensor, clip: float) -> ClippedSum:
    """Clip and sum where patients have several rows, whole patients at a time.

    The patient's summed gradient is formed, since a closed form of its norm (products of all pairs of
    rows) cancels badly where large rows nearly outweigh each other, and would then let C be exceeded.
    """
    order = torch.argsort(groups, stable=True)
    rows = torch.bincount(groups)
    numbers = sum(a.shape[1] * d.shape[1] + d.shape[1] for a, d in layers)
    per_chunk = max(1, CHUNK_NUMBERS // numbers)
    parts: list[ClippedSum] = []
    first_patient = first_row = 0
    while first_patient < len(rows):
        reach = torch.cumsum(rows[first_patient : first_patient + per_chunk], 0)
        n = max(1, int((reach <= per_chunk).sum()))
        chosen = order[first_row : first_row + int(reach[n - 1])]
        index = groups[chosen] - first_patient
        gradients: Params = {}
        for i, (a, delta) in enumerate(layers):
            outer = delta[chosen].unsqueeze(2) * a[chosen].unsqueeze(1)
            gradients[f"layer{i}.weight"] = outer.new_zeros(n, *outer.shape[1:]).index_add_(0, index, outer)
            gradients[f"layer{i}.bias"] = outer.new_zeros(n, delta.shape[1]).index_add_(0, index, delta[chosen])
        parts.append(_clip_and_sum(gradients, clip))
        first_patient, first_row = first_patient + n, first_row + len(chosen)
    total = {name: torch.stack([p.gradient[name] for p in parts]).sum(0) for name in parts[0].gradient}
    return ClippedSum(total, sum(p.patients for p in parts), sum(p.unusable for p in parts))
