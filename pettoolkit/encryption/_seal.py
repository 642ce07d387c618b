"""The only file that touches TenSEAL: SEAL objects to bytes and back, and one cached context per ring.

The bindings save to and load from files only, so that bytes pass through a private file in memory
(``memfd_create``; elsewhere a file in a folder that only this user can open). They hold the GIL all the time: threads
gain nothing, processes do. SEAL's objects don't pickle: only bytes cross borders. SEAL draws its randomness from the
operating system's entropy; nothing here seeds it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pettoolkit.encryption.errors import TruncatedCiphertext
from pettoolkit.errors import BadInput


@dataclass(frozen=True)
class Ring:
    """SEAL's context for one ring degree and its primes, with the tools that need no key."""

    context: Any
    encoder: Any
    evaluator: Any


@lru_cache(maxsize=16)
def ring(degree: int, prime_bits: tuple[int, ...]) -> Ring:
    """Context of a ring, made once per process (5-30 ms).

    Raises
    ------
    BadInput
        If SEAL rejects the parameters, 128-bit security included.
    """
    import tenseal.sealapi as seal

    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(degree)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(degree, list(prime_bits)))
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        reason = context.parameters_error_message()
        raise BadInput(f"encryption: ring degree {degree} with primes {prime_bits}: {reason}")
    return Ring(context, seal.CKKSEncoder(context), seal.Evaluator(context))


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """Open a private file in memory through which SEAL's objects become bytes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pettoolkit", os.MFD_CLOEXEC)
        try:
            yield Scratch(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="pettoolkit-") as folder:
            yield Scratch(os.path.join(folder, "object"))


class Scratch:
    """Turns SEAL's objects into bytes and back through the file at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def dump(self, thing: Any) -> bytes:
        """Serialise anything with SEAL's ``save``."""
        thing.save(self._path)
        with open(self._path, "rb") as file:
            return file.read()

    def load(self, thing: Any, where: Ring, data: bytes, what: str) -> Any:
        """Load ``data`` into ``thing`` and return it; SEAL checks that it is valid for the ring.

        Raises
        ------
        TruncatedCiphertext
            If SEAL can't read the bytes as that kind of object under these parameters.
        """
        with open(self._path, "wb") as file:
            file.write(data)
        try:
            thing.load(where.context, self._path)
        except (ValueError, RuntimeError) as error:
            raise TruncatedCiphertext(f"{what}: SEAL can't read it ({error}); ask for it again") from None
        return thing
