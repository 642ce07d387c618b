"""What touched private data, as values: the mechanism, whose answer it was, and on what input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from pettoolkit.errors import Refused
from pettoolkit.records import Json

GAUSSIAN, SUBSAMPLED, ZCDP = "gaussian", "subsampled_gaussian", "zcdp"


@dataclass(frozen=True)
class Mechanism:
    """One differentially private mechanism, run ``steps`` times with fresh noise.

    Parameters
    ----------
    kind
        ``gaussian``: a sum over all patients plus normals. ``subsampled_gaussian``: the same over a Poisson
        sample. ``zcdp``: anything with a proof of ``rho``-zCDP (Bun and Steinke 2016, arXiv:1605.02065).
    sigma
        Noise multiplier: SD of the noise over the add/remove L2 sensitivity. With shared noise that of the sum
        over the honest hospitals.
    q
        Probability with which each patient is in a step's sample; 1 unless subsampled.
    sensitivity
        L2 change of the exact answer when one patient is added or removed, in the answer's own unit (C
        for clipped sums). The accounting needs only ``sigma``; this makes the record complete.
    rho
        For ``zcdp``, of one step.
    sampling
        ``full`` or ``poisson``. Anything else (``shuffled``, ``fixed_size``) is refused: no accountant here
        holds for it.
    replace_factor
        Sensitivity for replacing one patient over that for adding or removing one: 2 for clipped sums, sqrt(2)
        for histograms.
    honest_sites
        Number of hospitals that share the noise; 1 if one place adds all of it.
    """

    kind: str
    sigma: float = 0.0
    q: float = 1.0
    steps: int = 1
    sensitivity: float = 1.0
    rho: float = 0.0
    sampling: str = "full"
    replace_factor: float = 2.0
    honest_sites: int = 1

    def __post_init__(self) -> None:
        if self.sampling not in ("full", "poisson"):
            raise Refused(
                f"dp: {self.sampling} batches can't be accounted as Poisson samples; "
                "use the full batch (dp.batch: null) or the Poisson sampler (dp.batch: SIZE)"
            )
        if self.kind not in (GAUSSIAN, SUBSAMPLED, ZCDP):
            raise Refused(f"dp: no accountant for mechanism {self.kind}; use {GAUSSIAN}, {SUBSAMPLED} or {ZCDP}")
        if (self.kind == SUBSAMPLED) != (self.sampling == "poisson"):
            raise Refused(f"dp: a {self.kind} mechanism can't have sampling {self.sampling}")
        if not 0 < self.q <= 1 or (self.kind != SUBSAMPLED and self.q != 1):
            raise Refused(f"dp: the sampling probability of {self.kind} can't be {self.q}")
        numbers = (self.sigma, self.rho, self.sensitivity, self.replace_factor)
        if any(math.isnan(v) or v < 0 for v in numbers) or self.steps < 1 or self.honest_sites < 1:
            raise Refused(f"dp: impossible mechanism {self}")

    def times(self, steps: int) -> Mechanism:
        """Make the same mechanism run ``steps`` times."""
        return replace(self, steps=steps)

    def quieter(self, factor: float) -> Mechanism:
        """Make the same mechanism with ``factor`` times the noise."""
        return replace(self, sigma=self.sigma * factor, rho=self.rho / factor**2)


def gaussian(
    sigma: float, steps: int = 1, sensitivity: float = 1.0, q: float = 1.0, honest_sites: int = 1
) -> Mechanism:
    """Describe Gaussian noise on a (sub)sampled sum; ``q = 1`` is the full batch."""
    kind, sampling = (GAUSSIAN, "full") if q == 1 else (SUBSAMPLED, "poisson")
    return Mechanism(kind, sigma, q, steps, sensitivity, sampling=sampling, honest_sites=honest_sites)


def zcdp(rho: float, steps: int = 1, sensitivity: float = 1.0, replace_factor: float = 2.0) -> Mechanism:
    """Describe a mechanism with a proof of ``rho``-zCDP for adding or removing one patient."""
    return Mechanism(ZCDP, rho=rho, steps=steps, sensitivity=sensitivity, replace_factor=replace_factor)


def merged(mechanisms: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    """Count equal mechanisms together: the same events with the fewest entries, in order of appearance."""
    steps: dict[Mechanism, int] = {}
    for mechanism in mechanisms:
        one = mechanism.times(1)
        steps[one] = steps.get(one, 0) + mechanism.steps
    return tuple(one.times(n) for one, n in steps.items())


@dataclass(frozen=True)
class Identity:
    """Which answer it is: run, hospital, round and purpose, and a hash of all it was computed from."""

    run: str
    site: str
    round: int
    purpose: str
    input_hash: str

    @property
    def slot(self) -> str:
        """The identity without the input: what may be answered once."""
        return f"{self.run}/{self.site}/{self.purpose}/{self.round}"


@dataclass(frozen=True)
class Event:
    """One answer that was given.

    ``attempt`` counts earlier answers in the same slot; ``simulated`` says that its noise came from a seed.
    """

    identity: Identity
    mechanism: Mechanism
    attempt: int = 0
    simulated: bool = True


def input_hash(arrays: Mapping[str, torch.Tensor], **settings: Json) -> str:
    """SHA-256 (hex) of everything an answer depends on besides the hospital's rows.

    Parameters
    ----------
    arrays
        Parameters that came with the request, by name; names, types, shapes and every bit count.
    settings
        Clipping norm, steps, rates and whatever else the request says; plain JSON values.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name].detach().numpy())
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.tobytes())
    digest.update(repr(sorted(settings.items())).encode())
    return digest.hexdigest()
