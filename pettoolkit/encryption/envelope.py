"""What surrounds a ciphertext: a header in the clear, and a control slot inside.

Header (55 bytes): scheme digest, key id, digest of the label (say, run and round), position, number of values,
hospitals in the sum, length and checksum. It tells damaged, foreign and misplaced ciphertexts apart at once, but
anyone can write it; so slot 0 of every ciphertext holds ``1 + v i``: the sum of K hospitals shows K, and v is a secret
function of (key, label, position), so that a wrong key, a mixed-up position or another round is seen after decryption
too. This stops mistakes, not malice: CKKS ciphertexts are malleable.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pettoolkit.encryption.errors import ForeignCiphertext, TruncatedCiphertext, WrongCount, WrongKey
from pettoolkit.encryption.parameters import Scheme

_MAGIC = b"PTKC"
_VERSION = 1
_FORMAT = struct.Struct(">4sB8s8s8sIIQHII")


@dataclass(frozen=True)
class Header:
    """What is written before each ciphertext, in the clear."""

    scheme: bytes
    key_id: bytes
    label: bytes
    index: int
    total: int
    values: int
    sites: int

    def with_sites(self, sites: int) -> Header:
        """Copy the header for a sum of ``sites`` hospitals."""
        return replace(self, sites=sites)


def label_digest(label: str) -> bytes:
    """Eight bytes that name what the ciphertext belongs to."""
    return hashlib.blake2b(label.encode(), digest_size=8).digest()


def seal(header: Header, payload: bytes) -> bytes:
    """Header, payload and checksum as one blob."""
    return _head(header, len(payload), _checksum(header, payload)) + payload


def unseal(blob: bytes) -> tuple[Header, bytes]:
    """Inverse of :func:`seal`.

    Raises
    ------
    TruncatedCiphertext
        If bytes are missing, too many or changed, or these are no ciphertext of ours.
    """
    if len(blob) < _FORMAT.size:
        raise TruncatedCiphertext(f"ciphertext: {len(blob)} bytes are less than a header; ask for it again")
    magic, version, scheme, key_id, label, index, total, values, sites, length, checksum = _FORMAT.unpack_from(blob)
    if magic != _MAGIC or version != _VERSION:
        raise TruncatedCiphertext("ciphertext: these bytes are no ciphertext of this version; ask for it again")
    payload = bytes(blob[_FORMAT.size :])
    if len(payload) != length:
        raise TruncatedCiphertext(f"ciphertext {index}: {len(payload)} of {length} bytes arrived; ask for it again")
    header = Header(scheme, key_id, label, index, total, values, sites)
    if _checksum(header, payload) != checksum:
        raise TruncatedCiphertext(f"ciphertext {index}: its bytes were changed on the way; ask for it again")
    return header, payload


def unseal_all(blobs: Sequence[bytes], scheme: Scheme) -> tuple[Header, list[bytes]]:
    """Headers checked against the scheme and each other; the first header, and the payloads in order.

    Raises
    ------
    TruncatedCiphertext, ForeignCiphertext, WrongKey
        As their names say; a ciphertext that is missing or out of place counts as truncated.
    """
    opened = [unseal(blob) for blob in blobs]
    if len(opened) != scheme.ciphertexts:
        raise TruncatedCiphertext(
            f"ciphertexts: {len(opened)} arrived, a vector of {scheme.values} values has {scheme.ciphertexts}"
        )
    first = opened[0][0]
    for position, (header, _) in enumerate(opened):
        if header.scheme != scheme.digest or header.values != scheme.values:
            raise ForeignCiphertext(f"ciphertext {position}: made under other parameters; use one scheme everywhere")
        if header.key_id != first.key_id:
            raise WrongKey(f"ciphertext {position}: key {header.key_id.hex()}, the others have {first.key_id.hex()}")
        if (header.index, header.total) != (position, scheme.ciphertexts):
            raise TruncatedCiphertext(f"ciphertext {position}: number {header.index} of {header.total} is in its place")
        if (header.label, header.sites) != (first.label, first.sites):
            raise ForeignCiphertext(f"ciphertext {position}: of another round or sum than the first one")
    return first, [payload for _, payload in opened]


def check_control(control: complex, check_value: float, expected_sites: int, position: int, tolerance: float) -> None:
    """Compare the decrypted control slot with what ``expected_sites`` hospitals would leave there.

    Check values are uniform in [0, 0.5): one of another position or round passes with a probability of at most
    4 ``tolerance`` (the chance that two of them lie that close): the tolerance is the error of a decryption, no more.

    Raises
    ------
    WrongCount
        If it is that of another number of hospitals.
    WrongKey
        If it is that of no number of hospitals: another key, round or position, or damage.
    """
    count = round(control.real) if abs(control.real) < 2**31 else 0
    expected = complex(count, count * check_value)
    if count < 1 or abs(control - expected) > tolerance:
        raise WrongKey(
            f"ciphertext {position}: decrypts to garbage; it was made under another key, for another round, or damaged"
        )
    if count != expected_sites:
        raise WrongCount(
            f"ciphertext {position}: the sum holds {count} hospital(s), {expected_sites} are expected; repeat the round"
        )


def check_members(control: complex, expected: complex, position: int, tolerance: float) -> None:
    """Compare the decrypted control slot with the sum of the named hospitals' own marks.

    Raises
    ------
    WrongCount
        If another number of hospitals is in the sum, or one is missing and another there twice.
    """
    if abs(control - expected) > tolerance:
        raise WrongCount(
            f"ciphertext {position}: the sum does not hold each of the {expected.real:.0f} hospitals exactly once "
            "(or it is of another key or round, or damaged); repeat the round"
        )


def _head(header: Header, length: int, checksum: int) -> bytes:
    return _FORMAT.pack(
        _MAGIC,
        _VERSION,
        header.scheme,
        header.key_id,
        header.label,
        header.index,
        header.total,
        header.values,
        header.sites,
        length,
        checksum,
    )


def _checksum(header: Header, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_head(header, len(payload), 0)))
