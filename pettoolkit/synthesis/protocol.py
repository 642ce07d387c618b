"""What every generator of synthetic rows looks like, and the register of their names.

A generator is fitted inside one hospital on its training rows and then sampled; only the sampled rows
may leave. A generator with differential privacy says *before* it reads a row what it is going to spend
(:meth:`Generator.plan`), so that the hospital's ledger can refuse or record it first.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput

if TYPE_CHECKING:
    from pettoolkit.privacy.events import Mechanism


@dataclass(frozen=True)
class DpBudget:
    """What one fit may spend on one hospital's patients.

    Parameters
    ----------
    rho
        Zero-concentrated DP (Bun and Steinke 2016, arXiv:1605.02065) of everything that the fit
        releases, for adding or removing one patient.
    noise
        Where the noise comes from: seeded in a simulation, system entropy in a deployment.
    patients
        Public number of patients, by which a generator may plan what is worth asking; None: not known yet.
    """

    rho: float
    noise: np.random.Generator
    patients: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise BadInput(f"synthetic: rho must be a number above 0 (got {self.rho})")

    @classmethod
    def for_epsilon(
        cls, epsilon: float, delta: float, noise: np.random.Generator, patients: int | None = None
    ) -> DpBudget:
        """Spend (epsilon, delta) in full on queries that are all answered with Gaussian noise.

        Such queries together are one Gaussian mechanism with mu^2 = 2 rho (Dong, Roth and Su 2019,
        arXiv:1905.02383, Corollary 3.3), whose closed form allows more than the general conversion from zCDP
        (rho .036 instead of .031 at epsilon 1 and delta 1e-5).
        """
        from pettoolkit.privacy.accounting import gaussian_mu

        return cls(gaussian_mu(epsilon, delta) ** 2 / 2, noise, patients)


@dataclass(frozen=True)
class GuaranteeEvent:
    """One query on private rows that was answered with Gaussian noise.

    ``sensitivity`` is the L2 distance of the exact answers on two tables that differ by adding or
    removing one patient, ``sigma`` the SD of the noise, ``rho = sensitivity^2 / (2 sigma^2)``. ``replace_factor``
    is the sensitivity for replacing one patient over that: sqrt(2) for a histogram (two counts change by 1), 2 for
    clipped sums.
    """

    query: str
    sensitivity: float
    sigma: float
    rho: float
    replace_factor: float = math.sqrt(2)

    @classmethod
    def gaussian(
        cls, query: str, rho: float, sensitivity: float = 1.0, replace_factor: float = math.sqrt(2)
    ) -> GuaranteeEvent:
        """Make the event that spends ``rho``: sigma = sensitivity / sqrt(2 rho)."""
        return cls(query, sensitivity, sensitivity / math.sqrt(2 * rho), rho, replace_factor)

    def mechanism(self) -> Mechanism:
        """Describe the event to a ledger."""
        from pettoolkit.privacy.events import GAUSSIAN, Mechanism

        return Mechanism(
            GAUSSIAN, self.sigma / self.sensitivity, sensitivity=self.sensitivity, replace_factor=self.replace_factor
        )


def total_rho(events: Iterable[GuaranteeEvent]) -> float:
    """Add up what the events cost together (zCDP adds up)."""
    return math.fsum(e.rho for e in events)


def one_mechanism(events: Sequence[GuaranteeEvent], honest_sites: int = 1) -> Mechanism:
    """Describe all events of a plan to a ledger as the one Gaussian mechanism that they are together.

    Gaussian mechanisms compose to one with ``1 / sigma^2`` added up (Dong, Roth and Su 2019, arXiv:1905.02383,
    Corollary 3.3), for either adjacency: so ``sigma = 1 / sqrt(2 rho)`` at sensitivity 1 for the total rho, and the
    factor for replacing a patient is the root of the mean of the events' squared factors, weighted by rho.
    """
    from pettoolkit.privacy.events import GAUSSIAN, Mechanism

    rho = total_rho(events)
    factors = {e.replace_factor for e in events}
    mean = math.fsum(e.rho * e.replace_factor**2 for e in events) / rho
    factor = factors.pop() if len(factors) == 1 else math.sqrt(mean)
    return Mechanism(GAUSSIAN, 1 / math.sqrt(2 * rho), replace_factor=factor, honest_sites=honest_sites)


@runtime_checkable
class Generator(Protocol):
    """Fit on one hospital's rows, sample rows, declare what was spent."""

    @property
    def events(self) -> tuple[GuaranteeEvent, ...]:
        """What the last fit answered about private rows with noise; empty without DP (then nothing is guaranteed)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of the rows must know: fallbacks taken, rows clipped; no patient's values."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """How often the last sample had to be corrected, by kind (``clipped`` values, ...)."""
        ...

    def plan(self, contract: Contract, dp: DpBudget | None) -> tuple[GuaranteeEvent, ...]:
        """Say what a fit will spend, from public things alone.

        Raises
        ------
        Refused
            If this generator has no differential privacy and ``dp`` asks for it.
        """
        ...

    def fit(self, rows: pd.DataFrame, contract: Contract, *, seed: int, dp: DpBudget | None) -> None:
        """Learn from rows in natural units (feature columns and outcome of ``contract``; one row per patient).

        Raises
        ------
        Refused
            If the rows are too few, or DP is asked of a generator without it.
        BadInput
            If the rows do not have the contract's columns.
        """
        ...

    def sample(self, n: int, *, seed: int) -> pd.DataFrame:
        """Draw ``n`` rows in natural units, NaN where missing.

        Columns are ``contract.feature_columns`` and the outcome; no patient id. Numbers are float64
        within the contract's bounds, categories its levels (None where missing), the outcome int8.
        """
        ...


_REGISTRY: dict[str, tuple[str, str]] = {
    "ctgan": ("pettoolkit.synthesis.sdv_adapter", "Ctgan"),
    "dp_vae": ("pettoolkit.synthesis.vae", "DpVae"),
    "gaussian_copula": ("pettoolkit.synthesis.sdv_adapter", "GaussianCopula"),
    "marginals": ("pettoolkit.synthesis.marginals", "Marginals"),
    "tvae": ("pettoolkit.synthesis.sdv_adapter", "Tvae"),
}
"""Name in an experiment file -> (module, class); the module is imported when the generator is made."""

WITH_DP = frozenset({"dp_vae", "marginals"})
"""Generators that can guarantee differential privacy."""

ONLY_DP = frozenset({"dp_vae"})
"""Generators that exist with differential privacy only."""


def names() -> tuple[str, ...]:
    """List the names of all generators, sorted."""
    return tuple(sorted(_REGISTRY))


def create(name: str, **options: Any) -> Generator:
    """Make a fresh generator by name.

    Raises
    ------
    BadInput
        If the name or an option is unknown.
    """
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names())}"
        raise BadInput(f"generator: unknown name {name!r} ({hint})")
    module, cls = _REGISTRY[name]
    factory = getattr(importlib.import_module(module), cls)
    try:
        made = factory(**options)
    except TypeError as error:
        raise BadInput(f"generator {name}: {error}") from error
    assert isinstance(made, Generator)
    return made
