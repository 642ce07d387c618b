"""Noise on what is released, so that exact decryptions never leave the hospitals.

A decrypted CKKS sum carries the encryption noise in its low digits, and whoever sees a few exact ones recovers the
secret key (Li and Micciancio 2021, EUROCRYPT). So one hospital adds noise to what is released, once; all hospitals
release the same. Independent noise per hospital would average out. Noise for differential privacy does not replace it:
the attack works on the exact decryption. Sized for a number of statistical bits, not proven.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pettoolkit.encryption.errors import FloodingSpent
from pettoolkit.encryption.packing import Vector
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import BadInput, Refused


@dataclass
class FloodingLedger:
    """Counts the ciphertexts decrypted under one key, and floods what is released, once.

    Parameters
    ----------
    scheme
        Says how large the noise is (``flooding_sd``) and for how many ciphertexts it was sized (``tau``).
    key_id
        The key whose decryptions are counted.
    decrypted
        Ciphertexts decrypted so far.
    released
        Names of what was flooded and released.
    """

    scheme: Scheme
    key_id: str
    decrypted: int = 0
    released: tuple[str, ...] = ()

    def count(self, ciphertexts: int) -> None:
        """Record decryptions before they happen.

        Raises
        ------
        FloodingSpent
            If the noise was not sized for that many.
        """
        if self.scheme.flooding_bits and self.decrypted + ciphertexts > self.scheme.tau:
            raise FloodingSpent(
                f"key {self.key_id}: {self.decrypted + ciphertexts} ciphertexts decrypted, the flooding noise is sized "
                f"for {self.scheme.tau}; choose parameters for more rounds, or rotate the key"
            )
        self.decrypted += ciphertexts

    def release(self, name: str, values: NDArray[Any], gain: float = 1.0) -> Vector:
        """Values as they may leave the hospitals: with noise, drawn once.

        Parameters
        ----------
        name
            What is released (say, a run); the same name twice is refused, since two draws average out.
        values
            Any shape; a function of decrypted sums.
        gain
            How strongly an error of a sum enters a value (1 for the sum itself, 1/w for a mean of weight w).

        Raises
        ------
        Refused
            If the scheme has no room for flooding, or ``name`` was released before.
        """
        if not self.scheme.flooding_bits:
            raise Refused("flooding: the parameters leave no room for it, so nothing decrypted may leave the hospitals")
        if name in self.released:
            raise Refused(f"flooding: {name} was released already; send that again instead of drawing new noise")
        if not gain > 0:
            raise BadInput(f"flooding: gain must be greater than 0 (got {gain})")
        self.released = (*self.released, name)
        return flood(values, self.scheme.flooding_sd * gain)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the hospital's own store."""
        return {
            "scheme": self.scheme.to_dict(),
            "key_id": self.key_id,
            "decrypted": self.decrypted,
            "released": list(self.released),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FloodingLedger:
        """Inverse of :meth:`to_dict`."""
        return cls(Scheme.from_dict(data["scheme"]), data["key_id"], data["decrypted"], tuple(data["released"]))


def flood(values: NDArray[Any], sd: float) -> Vector:
    """``values`` plus Gaussian noise of standard deviation ``sd``, from the system's entropy; never seeded."""
    flooded: Vector = np.array(values, dtype=np.float64)
    flooded += sd * _system_normals(flooded.size).reshape(flooded.shape)
    return flooded


def _system_normals(n: int) -> Vector:
    """Draw standard normals by Box and Muller from the operating system's entropy."""
    pairs = (n + 1) // 2
    bits = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64) >> np.uint64(11)
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    normals: Vector = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return normals[:n]
