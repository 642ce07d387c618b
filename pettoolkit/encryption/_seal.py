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


_HEADER, _MODE, _LENGTH = 16, 5, slice(8, 16)
"""SEAL's header (seal/serialization.h): its bytes, the place of the compression mode, and of the length of all."""
_PLAIN, _ZSTD = 0, 2
_LARGEST = 2**30
"""Bytes of the largest object that is loaded; evaluation keys have some ten million."""


def _inflated(data: bytes, what: str) -> bytes:
    """The same object without compression: malformed zstd streams end the process inside SEAL, and are refused here.

    Raises
    ------
    TruncatedCiphertext
        If the length is not the one that the header says, or the content can't be decompressed.
    """
    import pyarrow as pa

    if (
        len(data) < _HEADER
        or int.from_bytes(data[_LENGTH], "little") != len(data)
        or data[_MODE] not in (_PLAIN, _ZSTD)
    ):
        raise TruncatedCiphertext(f"{what}: its {len(data)} bytes are not what its header says; ask for it again")
    if data[_MODE] == _PLAIN:
        return data
    source = pa.BufferReader(data[_HEADER:])
    try:
        content: bytes = pa.CompressedInputStream(source, "zstd").read(_LARGEST)
    except (pa.ArrowException, OSError):
        raise TruncatedCiphertext(f"{what}: it can't be decompressed; ask for it again") from None
    length = (_HEADER + len(content)).to_bytes(8, "little")
    return data[:_MODE] + bytes([_PLAIN]) + data[_MODE + 1 : 8] + length + content


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
            file.write(_inflated(data, what))
        try:
            thing.load(where.context, self._path)
        except (ValueError, RuntimeError) as error:
            raise TruncatedCiphertext(f"{what}: SEAL can't read it ({error}); ask for it again") from None
        return thing
