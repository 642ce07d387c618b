"""How a model was trained, as far as shadow models have to imitate it: one value type per way of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet, Params

Bools = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Everybody who may be in a shadow's training rows, and two kinds of patients who are in none.

    ``x`` (n, features), ``y`` (n,), ``site`` (n,) the hospital's number in ``names``. ``held`` choose a shadow's epoch
    or round; ``others`` are the attacker's own patients, the same as ``held`` if not given.
    """

    x: Tensor
    y: Tensor
    site: Tensor
    held_x: Tensor
    held_y: Tensor
    held_site: Tensor
    names: tuple[str, ...] = ()
    others: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def population(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, outcomes and hospitals of the attacker's own patients."""
        return self.others or (self.held_x, self.held_y, self.held_site)

    def only(self, number: int) -> Pool:
        """One hospital's part."""
        rows, held = self.site == number, self.held_site == number
        if not held.any():  # a hospital without validation patients borrows everybody's
            held = torch.ones_like(held)
        x, y, site = self.population
        mine = site == number
        return Pool(
            self.x[rows],
            self.y[rows],
            self.site[rows],
            self.held_x[held],
            self.held_y[held],
            self.held_site[held],
            self.names,
            (x[mine], y[mine], site[mine]),
        )

    def of_site(self, number: int) -> Tensor:
        """Positions of one hospital's rows."""
        return torch.nonzero(self.site == number).squeeze(1)

    @property
    def sites(self) -> list[int]:
        """The hospitals' numbers."""
        return [int(s) for s in torch.unique(self.site)]


@dataclass(frozen=True)
class Central:
    """Mini-batch Adam in one place; the epoch with the lowest validation loss is kept."""

    epochs: int | None
    batch_size: int
    learning_rate: float
    fixed: bool = False
    """Train for a fixed length instead, without validation."""


@dataclass(frozen=True)
class Rounds:
    """Federated rounds without privacy noise; the round with the lowest validation loss is kept.

    ``server`` holds the constants of FedAdam's step.
    """

    strategy: str
    rounds: int
    local_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    proximal_mu: float = 0.0
    server: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Noisy:
    """Descent on clipped sums with Gaussian noise, for a fixed number of steps; the last iterates are averaged.

    ``sd`` is the SD of the noise on the sum of one place, ``places`` how many add their own, ``q`` the sampling
    probability. With ``local_steps`` each place takes so many steps of its own before the models are averaged.
    """

    steps: int
    clip: float
    learning_rate: float
    momentum: float
    average_from: float
    sd: float
    q: float = 1.0
    local_steps: int = 0


@dataclass(frozen=True)
class Newton:
    """Newton's method on sums (``newton``), or ridge linear regression from one sum (``one_shot``)."""

    method: str
    ridge: float
    rounds: int


@dataclass(frozen=True)
class Single:
    """Anything else, one shadow after the other.

    ``train`` gets the pool, which of its rows count (n,) and the shadow's number, and returns a function from encoded
    rows to logits.
    """

    train: Callable[[Pool, Bools, int], Callable[[Tensor], Logits]]


How = Central | Rounds | Noisy | Newton | Single


@dataclass(frozen=True)
class Recipe:
    """A training: how, of which network, from which start, and whether each hospital trained a model of its own.

    ``net`` is None where the model is no network (:class:`Single`). ``key`` names the training: equal keys on equal
    patients give equal shadows, which are then made once (an encrypted arm takes those of the plain one).
    """

    how: How
    net: DenseNet | None
    start: Params
    by_site: bool = False
    key: str = ""
