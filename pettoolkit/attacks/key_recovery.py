"""Recover the hospitals' secret key from exact decrypted sums that were published (Li and Micciancio 2021, EUROCRYPT).

A CKKS ciphertext (c0, c1) decrypts to the integer polynomial ``t = c0 + c1 s mod q``, encryption noise included.
Whoever holds the ciphertext (the coordinator) and sees its decryption in double precision encodes it again, rounds to
get t exactly, and has linear equations for the key s. Here only the *real* parts of the slots are taken, so that the
attack also works on libraries that publish nothing else, and on ciphertexts whose control slot is secret: real parts
give ``t(X) + t(1/X)``, one equation in s(w) and s(1/w) at each root of unity w. Two published sums give both.

Noise drowns it: the rounding is then wrong everywhere. Coarser numbers block this exact attack too, which is no
protection: float32 always, double precision at scales beyond about 2^50. Published in extended precision
(``np.longdouble``) the sums give the key away at any scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Extended = npt.NDArray[np.longdouble]
Residues = npt.NDArray[np.object_]

SHIFTS = np.linspace(-1.0, 1.0, 81)
"""What the unknown noise of the control slot may add to coefficients, in the worst one."""


@dataclass(frozen=True, eq=False)
class PublishedSum:
    """A ciphertext, and what was published of its decryption.

    Parameters
    ----------
    c0, c1
        Its two polynomials modulo ``prime``, shape (N,), as SEAL stores them: values at the roots of unity.
    real_slots
        Real parts of all N/2 slots, as published, in double or extended precision; of slots that were not published
        the expected value without noise.
    scale
        By which values were multiplied before rounding.
    prime
        First prime of the modulus (the only one that is needed).
    """

    c0: Residues
    c1: Residues
    real_slots: Floats | Extended
    scale: float
    prime: int


def recover_key(first: PublishedSum, second: PublishedSum) -> npt.NDArray[np.int64] | None:
    """Solve for the secret key.

    Returns
    -------
    ndarray of shape (N,) or None
        The key's coefficients, each -1, 0 or 1; None if the attack failed.
    """
    p, n = first.prime, len(first.c0)
    mirror = _mirror(n)
    rows: list[tuple[Residues, Residues, Residues]] = []
    for published in (first, second):
        known = ntt(_symmetric_part(published), p)
        rows.append((published.c1, published.c1[mirror], (known - published.c0 - published.c0[mirror]) % p))
    (a, b, u), (c, d, v) = rows
    determinant = (a * d - b * c) % p
    if not determinant.all():
        return None
    inverse = np.array([pow(int(x), -1, p) for x in determinant], dtype=object)
    coefficients = intt((d * u - b * v) % p * inverse % p, p)
    centred = np.where(coefficients > p // 2, coefficients - p, coefficients)
    return centred.astype(np.int64) if np.isin(centred, (-1, 0, 1)).all() else None


def polynomials(ciphertext: Any, degree: int) -> tuple[Residues, Residues]:
    """Both polynomials of a SEAL ciphertext modulo its first prime, shape (degree,) each."""
    step = degree * ciphertext.coeff_modulus_size()
    return tuple(  # type: ignore[return-value]
        np.array([ciphertext[start + i] for i in range(degree)], dtype=object) for start in (0, step)
    )


def real_slots_of(values: Sequence[float] | Floats | Extended, slots: int, count: int) -> Floats | Extended:
    """Real parts of all slots of one of our ciphertexts, from the published sum of ``count`` hospitals.

    Only the coordinator's knowledge: slot 0 counts hospitals, and every second value is a real part.
    """
    published = np.asarray(values)[::2]
    real: Floats | Extended = np.zeros(slots, dtype=np.longdouble if published.dtype == np.longdouble else np.float64)
    real[0] = count
    real[1 : 1 + len(published)] = published
    return real


def ntt(coefficients: Residues, prime: int) -> Residues:
    """Values of a polynomial of degree below N at the odd powers of a 2N-th root of unity, in SEAL's order."""
    n = len(coefficients)
    psi = _root(n, prime)
    powers = _powers(psi, n, prime)
    values = _cyclic(coefficients * powers % prime, psi * psi % prime, prime)
    return values[_reversed_bits(n)]


def intt(values: Residues, prime: int) -> Residues:
    """Inverse of :func:`ntt`."""
    n = len(values)
    psi = _root(n, prime)
    natural = np.empty(n, dtype=object)
    natural[_reversed_bits(n)] = values
    inverse = pow(psi, -1, prime)
    scaled = _cyclic(natural, inverse * inverse % prime, prime) * pow(n, -1, prime)
    coefficients: Residues = scaled * _powers(inverse, n, prime) % prime
    return coefficients


def _symmetric_part(published: PublishedSum) -> Residues:
    """Coefficients of ``t(X) + t(1/X)``: integers, rounded so that they fit best whatever slot 0's noise is."""
    exact = 2 * published.scale * _real_embedding_inverse(published.real_slots)
    unit = np.zeros_like(published.real_slots)
    unit[0] = 1.0
    direction = _real_embedding_inverse(unit)
    direction /= np.abs(direction).max()
    misfits = [np.abs((x := exact + shift * direction) - np.rint(x)).mean() for shift in SHIFTS]
    best = exact + SHIFTS[int(np.argmin(misfits))] * direction
    whole: Residues = np.array([int(x) % published.prime for x in np.rint(best)], dtype=object)
    return whole


def _real_embedding_inverse(real: Floats | Extended) -> Floats | Extended:
    """Coefficients of the real polynomial with these real slots; slot j is its value at the power 3^j of a root."""
    from scipy.fft import fft  # in the precision of what it is given; numpy's is double

    slots = len(real)
    n = 2 * slots
    exponents = np.array([pow(3, j, 2 * n) for j in range(slots)])
    spectrum = np.zeros(2 * n, dtype=real.dtype)
    spectrum[exponents] = real
    spectrum[2 * n - exponents] = real
    coefficients: Floats | Extended = fft(spectrum).real[:n] / n
    return coefficients


def _mirror(n: int) -> npt.NDArray[np.intp]:
    """Position of the root 1/w for each root w, in SEAL's order."""
    order = _reversed_bits(n)
    exponents = 2 * order + 1
    where = np.empty(2 * n, dtype=np.intp)
    where[exponents] = np.arange(n)
    mirrored: npt.NDArray[np.intp] = where[2 * n - exponents]
    return mirrored


def _reversed_bits(n: int) -> npt.NDArray[np.intp]:
    bits = n.bit_length() - 1
    index = np.arange(n)
    out = np.zeros(n, dtype=np.intp)
    for _ in range(bits):
        out = (out << 1) | (index & 1)
        index >>= 1
    return out


def _cyclic(values: Residues, root: int, prime: int) -> Residues:
    """Fourier transform modulo a prime (radix 2, values in order on both sides)."""
    n = len(values)
    if n == 1:
        return values
    even = _cyclic(values[::2], root * root % prime, prime)
    odd = _cyclic(values[1::2], root * root % prime, prime) * _powers(root, n // 2, prime) % prime
    return np.concatenate([(even + odd) % prime, (even - odd) % prime])


@lru_cache(maxsize=64)
def _powers(root: int, n: int, prime: int) -> Residues:
    out = [1]
    for _ in range(n - 1):
        out.append(out[-1] * root % prime)
    return np.array(out, dtype=object)


@lru_cache(maxsize=16)
def _root(n: int, prime: int) -> int:
    """Smallest primitive 2N-th root of unity modulo the prime, which is the one that SEAL takes."""
    for base in range(2, 1000):
        root = pow(base, (prime - 1) // (2 * n), prime)
        if pow(root, n, prime) == prime - 1:
            break
    square, smallest, current = root * root % prime, root, root
    for _ in range(n - 1):
        current = current * square % prime
        smallest = min(smallest, current)
    return smallest
