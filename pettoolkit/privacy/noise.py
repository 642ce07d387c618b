"""Gaussian noise: from a seed in simulations, from the system's entropy in deployments.

A simulated stream is named by (seed, site, noise mode, purpose, round, attempt, step) and by nothing else. So
streams differ between hospitals, rounds and seeds, while two arms with the same seed and noise mode draw
the same noise and can be compared number by number. ``attempt`` counts how often a ledger has charged
that round before: without it two answers to different inputs would carry the same noise, and their
difference would show the patients.

Noise is drawn in float64 and rounded to the type of the sum it is added to; attacks on the low bits of
floating-point noise (Mironov 2012, doi 10.1145/2382196.2382264) are outside what is guaranteed.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from pettoolkit.errors import Refused
from pettoolkit.models.dense import Params

Floats = npt.NDArray[np.float64]

NOISE_MODES = ("local", "shared", "central", "alone")
"""Who adds noise: each hospital in full; each a part of it; the coordinator; one hospital that trains by itself."""


@dataclass(frozen=True)
class Draw:
    """Which draw is meant: the noise of one answer."""

    purpose: str
    round: int = 0
    attempt: int = 0
    step: int = 0


class NoiseSource(Protocol):
    """Where one hospital's noise comes from."""

    @property
    def simulated(self) -> bool:
        """Whether the noise comes from a seed."""
        ...

    def normals(self, draw: Draw, n: int) -> Floats:
        """Draw ``n`` independent standard normals, shape (n,)."""
        ...

    def uniforms(self, draw: Draw, n: int) -> Floats:
        """Draw ``n`` independent uniforms in [0, 1), shape (n,), independent of the normals."""
        ...

    def generator(self, draw: Draw) -> np.random.Generator:
        """Make a generator for mechanisms that draw on their own (synthetic rows)."""
        ...


@dataclass(frozen=True)
class SeededNoise:
    """Reproducible noise of a simulation: epsilon is then what a deployment *would* give."""

    seed: int
    site: str
    mode: str = "local"

    simulated: ClassVar[bool] = True

    def normals(self, draw: Draw, n: int) -> Floats:
        """See :meth:`NoiseSource.normals`."""
        return self._stream(draw, "normals").standard_normal(n)

    def uniforms(self, draw: Draw, n: int) -> Floats:
        """See :meth:`NoiseSource.uniforms`."""
        return self._stream(draw, "uniforms").random(n)

    def generator(self, draw: Draw) -> np.random.Generator:
        """See :meth:`NoiseSource.generator`."""
        return self._stream(draw, "generator")

    def _stream(self, draw: Draw, use: str) -> np.random.Generator:
        name = repr((self.seed, self.site, self.mode, draw.purpose, draw.round, draw.attempt, draw.step, use))
        key = _Key(hashlib.sha256(name.encode()).digest()[:16])
        return np.random.Generator(np.random.Philox(cast("np.random.SeedSequence", key)))  # any ISeedSequence will do


class _Key(np.random.bit_generator.ISeedSequence):
    """Hands Philox its 128-bit key as it is: the stream of ``Philox(key=..)``, which reads system entropy in vain."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: npt.DTypeLike = np.uint64) -> npt.NDArray[np.uint64]:
        """Two words of 64 bits, which is what Philox asks for."""
        return np.frombuffer(self._key, dtype="<u8", count=n_words).astype(dtype)


@dataclass(frozen=True)
class SystemNoise:
    """Noise of a deployment: every bit comes from the operating system, and nothing can repeat it."""

    simulated: ClassVar[bool] = False

    def normals(self, draw: Draw, n: int) -> Floats:
        """See :meth:`NoiseSource.normals`; the draw's name plays no part. By Box and Muller's transform."""
        half = (n + 1) // 2
        radius: Floats = np.sqrt(
            -2.0 * np.log(_system_fractions(half) + 2.0**-53)
        )  # in (0, 1], so that the log is finite
        angle = 2.0 * math.pi * _system_fractions(half)
        both: Floats = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return both[:n]

    def uniforms(self, draw: Draw, n: int) -> Floats:
        """See :meth:`NoiseSource.uniforms`; the draw's name plays no part."""
        return _system_fractions(n)

    def generator(self, draw: Draw) -> np.random.Generator:
        """See :meth:`NoiseSource.generator`: keyed with 128 fresh bits."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "little")))


def site_sd(sigma: float, clip: float, mode: str, honest_sites: int = 1) -> float:
    """SD of the noise that one place adds to each number of its clipped sum.

    Parameters
    ----------
    sigma
        Noise multiplier of the whole mechanism.
    clip
        L2 norm C that bounds a patient's contribution.
    mode
        One of :data:`NOISE_MODES`. With ``shared`` each hospital adds ``sigma C / sqrt(honest_sites)``, so that
        the sum over the honest hospitals alone carries ``sigma C``; otherwise the place adds ``sigma C``.
    honest_sites
        How many hospitals are trusted to add their part (mode ``shared``).
    """
    if mode not in NOISE_MODES:
        raise Refused(f"dp.noise: choose {', '.join(NOISE_MODES)} (got {mode})")
    if mode != "shared":
        return sigma * clip
    if honest_sites < 1:
        raise Refused(f"dp.honest_sites: at least one hospital must be honest (got {honest_sites})")
    return sigma * clip / math.sqrt(honest_sites)


def add_gaussian(values: Params, sd: float, noise: NoiseSource, draw: Draw) -> Params:
    """Add independent normals of standard deviation ``sd`` to every number; ``sd = 0`` changes no bit.

    One flat draw is cut up in the order of the names, so that hospitals that hold the parameters in
    another order agree on the noise.
    """
    if not (math.isfinite(sd) and sd >= 0):
        raise Refused(f"dp: the noise's standard deviation must be a finite number, 0 or more (got {sd})")
    if sd == 0:
        return dict(values)
    names = sorted(values)
    sizes = [values[name].numel() for name in names]
    normals = torch.from_numpy(noise.normals(draw, sum(sizes)) * sd)
    parts = torch.split_with_sizes(normals.to(values[names[0]].dtype), sizes)
    noisy = {name: values[name] + part.view(values[name].shape) for name, part in zip(names, parts, strict=True)}
    return {name: noisy[name] for name in values}


def _system_fractions(n: int) -> Floats:
    bits = np.frombuffer(os.urandom(8 * n), dtype=np.uint64) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
