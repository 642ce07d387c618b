"""`dp_vae`: a small variational autoencoder with differential privacy, class by class.

A row is cut into public cells (:mod:`pettoolkit.synthesis.cells`), one-hot; encoder and decoder know the outcome
class; the decoder gives each column's distribution over its cells, so that a missing value is a cell as any other and
no value can lie beyond the public bounds. Layer norms take the place of batch norms, which would mix patients.

Proof of the guarantee
----------------------
Neighbours are two tables of which one has one patient (row) more; the number of patients is public.

1. *Class counts* by Gaussian noise at sensitivity 1, as in :mod:`pettoolkit.synthesis.marginals`.
2. *Each of T steps* (full batch, so no sampling is assumed) releases the sum over patients of gradients clipped to
   norm C (:mod:`pettoolkit.synthesis.clipping`) plus Gaussian noise: sensitivity C for adding or removing one
   patient, 2 C for replacing one. A patient's gradient depends on the parameters (noisy already), the patient's row and
   random codes. Codes come from the private noise and not from a seed that others know, step by step and patient by
   patient: one patient more leaves the codes of the others as they were, so that given all codes the sums differ by one
   patient's gradient, and averaging over codes that nobody knows can only bring the two closer (joint convexity).
   DP-SGD: Abadi et al. 2016, arXiv:1607.00133.

All are Gaussian mechanisms chosen adaptively, whose rho of zCDP adds up. Adam on the noisy sums, averaging the
parameters, and sampling are post-processing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.cells import Cells, cells_of
from pettoolkit.synthesis.clipping import clipped_sum
from pettoolkit.synthesis.noisy import CLASS_SHARE, Query, on_simplex
from pettoolkit.synthesis.protocol import DpBudget, GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, Ints, allocate, assemble, class_values, classes

REPLACE = 2.0
"""Sensitivity of a clipped sum for replacing one patient over that for adding or removing one."""


@dataclass(frozen=True)
class VaeSettings:
    """Size and training of the network. The defaults were chosen on the simulated hospitals alone.

    Parameters
    ----------
    bins
        Public cells of a number column, besides "missing".
    hidden, latent
        Units of the hidden layers of encoder and decoder, and numbers of a row's code.
    steps, clip, learning_rate
        Full-batch steps of Adam on noisy sums clipped to norm ``clip``.
    beta
        Weight of the divergence from the prior in the loss (Higgins et al. 2017).
    """

    bins: int = 8
    hidden: int = 48
    latent: int = 4
    steps: int = 100
    clip: float = 1.0
    learning_rate: float = 0.02
    beta: float = 1.0


class Network(nn.Module):
    """Encoder and decoder of one hospital's rows, both given the class."""

    def __init__(self, cells: int, n_classes: int, settings: VaeSettings) -> None:
        super().__init__()
        h, z = settings.hidden, settings.latent
        self.encoder = nn.Sequential(nn.Linear(cells + n_classes, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, 2 * z))
        self.decoder = nn.Sequential(nn.Linear(z + n_classes, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, cells))

    def decode(self, code: Tensor, label: Tensor) -> Tensor:
        """Logits of all cells, shape (n, cells)."""
        return torch.as_tensor(self.decoder(torch.cat([code, label], 1)))


class DpVae:
    """Generator of rows by a VAE trained with DP-SGD; see the module's text.

    Parameters
    ----------
    settings
        See :class:`VaeSettings`.
    """

    def __init__(self, settings: VaeSettings | None = None) -> None:
        self._settings = settings or VaeSettings()
        self._events: tuple[GuaranteeEvent, ...] = ()
        self._contract: Contract | None = None
        self._cells: tuple[Cells, ...] = ()
        self._shares: Floats = np.zeros(0)
        self._network: Network | None = None

    @property
    def events(self) -> tuple[GuaranteeEvent, ...]:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        return self._events

    @property
    def notes(self) -> tuple[str, ...]:
        """None: what could be noted would tell about patients."""
        return ()

    @property
    def counts(self) -> Mapping[str, int]:
        """Nothing is ever corrected: cells lie within the bounds."""
        return {"clipped": 0}

    def plan(self, contract: Contract, dp: DpBudget | None) -> tuple[GuaranteeEvent, ...]:
        """Class counts, then one event per step; rho adds up to the budget."""
        if dp is None:
            raise Refused(
                "generator dp_vae exists with differential privacy only (write dp with an epsilon, or generator: tvae)"
            )
        steps = self._settings.steps
        each = dp.rho * (1 - CLASS_SHARE) / steps
        step = GuaranteeEvent.gaussian("sum of clipped gradients", each, self._settings.clip, replace_factor=REPLACE)
        return (GuaranteeEvent.gaussian("class counts", dp.rho * CLASS_SHARE), *(step,) * steps)

    def fit(self, rows: pd.DataFrame, contract: Contract, *, seed: int, dp: DpBudget | None) -> None:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        events = self.plan(contract, dp)
        assert dp is not None  # the plan refused it
        if len(rows) == 0:
            raise Refused("generator dp_vae: this hospital has no training patient (leave the hospital out)")
        if not contract.feature_columns:
            raise BadInput("generator dp_vae: the contract has no feature (use generator: marginals)")
        label = classes(rows, contract)
        n_classes = len(class_values(contract))
        self._contract, self._events, self._cells = contract, events, cells_of(contract, self._settings.bins)
        counted = Query(events[0], np.bincount(label, minlength=n_classes).astype(np.float64)).answer(dp.noise)
        sizes = on_simplex(counted, float(len(rows)))
        self._shares = sizes / sizes.sum()
        codes = np.column_stack([c.encode(rows) for c in self._cells])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = Network(sum(map(len, self._cells)), n_classes, self._settings)
        self._train(self._network, torch.from_numpy(codes), torch.from_numpy(label), dp.noise)

    def sample(self, n: int, *, seed: int) -> pd.DataFrame:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        if self._contract is None or self._network is None:
            raise Refused("generator dp_vae: sample was asked for before fit")
        rng = np.random.default_rng(seed)
        per_class = allocate(n, self._shares)
        label = np.repeat(np.arange(len(per_class)), per_class)
        code = torch.from_numpy(rng.standard_normal((n, self._settings.latent)).astype(np.float32))
        with torch.no_grad():
            logits = self._network.decode(code, _hot(torch.from_numpy(label), len(per_class)))
        order = rng.permutation(n)
        values = {}
        for cells, part in zip(self._cells, torch.split(logits, [len(c) for c in self._cells], dim=1), strict=True):
            values[cells.column.name] = cells.decode(_drawn(part, rng)[order], rng)
        return assemble(values, label[order], self._contract)

    def _train(self, network: Network, codes: Tensor, label: Tensor, noise: np.random.Generator) -> None:
        settings, step = self._settings, self._events[-1]
        sizes = [len(c) for c in self._cells]
        x = torch.cat([_hot(codes[:, j], size) for j, size in enumerate(sizes)], 1)
        given = _hot(label, len(self._shares))
        parameters = dict(network.named_parameters())
        optimiser = torch.optim.Adam(parameters.values(), lr=settings.learning_rate)
        averages = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
        averaged = 0
        secret = noise.integers(0, 2**63, size=2).tolist()
        for number in range(settings.steps):
            # filled patient by patient: who comes last changes nobody else's code
            normals = np.random.default_rng([*secret, number]).standard_normal((len(x), settings.latent))
            draw = torch.from_numpy(normals.astype(np.float32))
            losses = functools.partial(_losses, network, x, codes, given, sizes, draw, settings)
            exact = clipped_sum(network, losses, settings.clip)
            for name, parameter in parameters.items():
                spread = torch.from_numpy(noise.normal(0.0, step.sigma, size=tuple(parameter.shape)))
                parameter.grad = ((exact[name] + spread) / len(x)).to(parameter.dtype)
            optimiser.step()
            if 2 * number >= settings.steps:
                averaged += 1
                for name, parameter in parameters.items():
                    averages[name] += parameter.detach()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_((averages[name] / averaged).to(parameter.dtype))


def _losses(
    network: Network, x: Tensor, codes: Tensor, given: Tensor, sizes: list[int], draw: Tensor, settings: VaeSettings
) -> Tensor:
    """Each patient's negative evidence lower bound, mean over columns, shape (n,)."""
    middle, spread = network.encoder(torch.cat([x, given], 1)).chunk(2, dim=1)
    spread = spread.clamp(-8.0, 8.0)  # logarithm of the variance
    logits = network.decode(middle + draw * torch.exp(spread / 2), given)
    parts = torch.split(logits, sizes, dim=1)
    rebuilt = sum(functional.cross_entropy(part, codes[:, j], reduction="none") for j, part in enumerate(parts))
    divergence = 0.5 * (middle**2 + spread.exp() - spread - 1.0).sum(1)
    return torch.as_tensor(rebuilt + settings.beta * divergence) / len(sizes)


def _hot(codes: Tensor, size: int) -> Tensor:
    return functional.one_hot(codes, size).to(torch.float32)


def _drawn(logits: Tensor, rng: np.random.Generator) -> Ints:
    """One cell of each row, drawn from its logits (Gumbel's trick)."""
    return np.asarray(np.argmax(logits.numpy() + rng.gumbel(size=tuple(logits.shape)), axis=1).astype(np.int64))
