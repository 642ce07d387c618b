"""What those who take part see: sums over patients, single updates, or what they hold anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from pettoolkit.attacks.protocol import INSIDER, NO_BOUND, View
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.bounds import AttackBound
from pettoolkit.records import NotMeasured

Floats = npt.NDArray[np.float64]

COORDINATOR, HOSPITAL, BOTH = "coordinator", "a hospital", "coordinator and a hospital"


OTHERS = "all other hospitals"

RAW, CIPHERTEXTS, NOTHING = "raw_records", "ciphertexts", "nothing"
"""What an insider may hold without attacking."""


class SeenSum(Protocol):
    """A sum over patients as an insider saw it, whatever was summed."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Whose patients are in it."""
        ...

    @property
    def observed(self) -> Floats:
        """Shape (numbers,)."""
        ...

    @property
    def noise(self) -> Floats | float:
        """Variance of what is in the sum beside patients, a number or (numbers,)."""
        ...

    def of(self, rows: pd.DataFrame, contract: Contract, site: str, kept: npt.NDArray[np.intp]) -> Floats:
        """What each of these patients of a hospital adds to the numbers ``kept``: rows (n) to (n, kept)."""
        ...


@dataclass(frozen=True)
class ObservedSum:
    """A sum over patients of the hospitals ``sites``, as it was seen.

    Parameters
    ----------
    observed
        Shape (numbers,).
    share
        What one patient adds if he or she is in it: encoded rows (n, features), outcomes (n,) and the name of their
        hospital to (n, numbers).
    noise
        Variance of what is in the sum beside that: privacy noise, or what the linear picture of a training leaves out.
        A number, or shape (numbers,).
    """

    sites: tuple[str, ...]
    observed: Floats
    share: Callable[[Tensor, Tensor, str], Floats]
    noise: Floats | float

    def of(self, rows: pd.DataFrame, contract: Contract, site: str, kept: npt.NDArray[np.intp]) -> Floats:
        """See :meth:`SeenSum.of`."""
        x, y = torch.from_numpy(encode(rows, contract)), torch.from_numpy(outcome(rows, contract))
        return self.share(x, y, site)[:, kept]


@dataclass(frozen=True, kw_only=True)
class SumsView(View):
    """Sums that one insider sees, all over the same patients where their ``sites`` are the same."""

    holder: str
    sums: tuple[SeenSum, ...]
    bound: AttackBound | NotMeasured = NO_BOUND
    kind: str = INSIDER
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class UpdatesView(View):
    """Single hospitals' updates: gradients, or changes of the model by local steps, round by round.

    ``answer`` is what an honest hospital answers to a model if these are its patients: with it the attacks of a
    coordinator who sends a model of his own making are carried out. A hospital sends no model: for it ``answer`` is
    None, and what it sees is the mean of all ``others``, under the name :data:`OTHERS`.
    """

    net: DenseNet
    start: Params
    updates: tuple[Mapping[str, Params], ...]
    answer: Callable[[Params, Tensor, Tensor], Params] | None
    kind: str = INSIDER
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeldView(View):
    """What an insider holds without attacking: :data:`RAW`, :data:`CIPHERTEXTS` or :data:`NOTHING`."""

    holder: str
    held: str
    kind: str = INSIDER
