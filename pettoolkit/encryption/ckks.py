"""Encrypt, add and decrypt vectors of reals, on bytes.

Every hospital encrypts under the shared key, whoever adds needs no key at all (:class:`Adder`), and each hospital
decrypts the sum. Ciphertexts are symmetric and seed-compressed: one polynomial and a seed instead of two polynomials.
The bindings hold the GIL: spread hospitals over processes, not threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.envelope import Header
from pettoolkit.encryption.errors import ForeignCiphertext, OutOfRange, TruncatedCiphertext, WrongCount, WrongKey
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.packing import Vector, chunks, from_slots, to_slots
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import BadInput


def encrypt(key: SecretKey, vector: NDArray[Any], label: str = "", site: str = "") -> list[bytes]:
    """Encrypt one hospital's vector; every ciphertext also counts this hospital.

    Parameters
    ----------
    key
        The shared secret key; its scheme says how long the vector is and how large its values may be.
    vector
        Shape (values,), each value finite and in [-clip, clip].
    label
        What the ciphertexts belong to (say ``run/round``); only equal labels are added and decrypted together.
    site
        Whose it is; :func:`decrypt` can then tell whether a sum holds each hospital once.

    Returns
    -------
    list of bytes
        ``scheme.ciphertexts`` blobs, to be sent in this order.

    Raises
    ------
    OutOfRange
        If a value is not finite or exceeds the clip: the sum could wrap round.
    """
    import tenseal.sealapi as seal

    scheme = key.scheme
    values = _checked(vector, scheme)
    ring = _seal.ring(*scheme.ring)
    encryptor = seal.Encryptor(ring.context, key.native())
    plain = seal.Plaintext()
    blobs: list[bytes] = []
    with _seal.scratch() as scratch:
        for index, chunk in enumerate(chunks(values, scheme.values_per_ciphertext)):
            slots = to_slots(chunk, scheme.slots, complex(1.0, key.check_value(label, index, site)))
            ring.encoder.encode(slots, scheme.scale, plain)
            payload = scratch.dump(encryptor.encrypt_symmetric(plain))
            header = Header(
                scheme.digest,
                bytes.fromhex(key.key_id),
                envelope.label_digest(label),
                index,
                scheme.ciphertexts,
                scheme.values,
                1,
            )
            blobs.append(envelope.seal(header, payload))
    return blobs


class Adder:
    """Adds hospitals' ciphertexts as they come; holds one running sum, however many hospitals there are.

    Parameters
    ----------
    add_context
        From :meth:`Scheme.add_context`: enough to add, neither to encrypt nor to decrypt.
    """

    def __init__(self, add_context: bytes) -> None:
        self.scheme = Scheme.from_add_context(add_context)
        self._ring = _seal.ring(*self.scheme.ring)
        self._header: Header | None = None
        self._sums: list[Any] = []
        self._names: set[str] = set()

    @property
    def sites(self) -> int:
        """Hospitals in the sum so far."""
        return self._header.sites if self._header else 0

    def add(self, blobs: Sequence[bytes], site: str | None = None) -> None:
        """Add one hospital's ciphertexts (or another adder's result); all of them or, on any error, none.

        Parameters
        ----------
        blobs
            In the order in which :func:`encrypt` returned them.
        site
            The hospital's name; the same one twice is refused.

        Raises
        ------
        TruncatedCiphertext, ForeignCiphertext, WrongKey, WrongCount
            As their names say.
        """
        if site is not None and site in self._names:
            raise WrongCount(f"hospital {site}: its ciphertexts are in the sum already")
        header, payloads = envelope.unseal_all(blobs, self.scheme)
        self._check_joins(header)
        incoming = self._load(payloads)
        if self._header is None:
            self._sums, self._header = incoming, header
        else:
            for total, one in zip(self._sums, incoming, strict=True):
                self._ring.evaluator.add_inplace(total, one)
            self._header = self._header.with_sites(self._header.sites + header.sites)
        if site is not None:
            self._names.add(site)

    def result(self) -> list[bytes]:
        """Return the sum so far, as blobs for :func:`decrypt`.

        Raises
        ------
        WrongCount
            If nothing was added.
        """
        if self._header is None:
            raise WrongCount("encrypted sum: no hospital was added")
        out: list[bytes] = []
        with _seal.scratch() as scratch:
            for index, total in enumerate(self._sums):
                header = Header(
                    self._header.scheme,
                    self._header.key_id,
                    self._header.label,
                    index,
                    len(self._sums),
                    self._header.values,
                    self._header.sites,
                )
                out.append(envelope.seal(header, scratch.dump(total)))
        return out

    def _check_joins(self, header: Header) -> None:
        if self.sites + header.sites > self.scheme.sites:
            raise WrongCount(
                f"encrypted sum: the scheme has headroom for {self.scheme.sites} hospitals; one more could wrap round"
            )
        if self._header is None:
            return
        if header.key_id != self._header.key_id:
            raise WrongKey(
                f"encrypted sum: key {header.key_id.hex()} does not match the others' {self._header.key_id.hex()}; "
                "all hospitals need the same key file"
            )
        if header.label != self._header.label:
            raise ForeignCiphertext("encrypted sum: these ciphertexts are of another round than the others")

    def _load(self, payloads: Iterable[bytes]) -> list[Any]:
        with _seal.scratch() as scratch:
            return [_load(scratch, self._ring, payload, self.scheme, i) for i, payload in enumerate(payloads)]


def add(add_context: bytes, ciphertexts: Iterable[Sequence[bytes]]) -> list[bytes]:
    """Sum of several hospitals' ciphertexts, taken one at a time; see :class:`Adder`."""
    adder = Adder(add_context)
    for blobs in ciphertexts:
        adder.add(blobs)
    return adder.result()


@dataclass(frozen=True, eq=False)
class Decrypted:
    """A decrypted sum.

    Parameters
    ----------
    values
        Shape (values,).
    error
        Largest error measured where the plaintext is known: in control slots and in slots that nobody filled. It is a
        function of the exact decryption, so it leaves a hospital coarsened (:func:`coarse`) or not at all.
    """

    values: Vector
    error: float


def coarse(error: float) -> float:
    """The next power of two, which is all that may be told of a measured error."""
    return 2.0 ** math.ceil(math.log2(error)) if error > 0 else 0.0


def decrypt(
    key: SecretKey,
    blobs: Sequence[bytes],
    expected_sites: int,
    label: str = "",
    members: Sequence[str] | None = None,
) -> Vector:
    """The values of :func:`decrypt_measured`, where neither count nor error is wanted."""
    return decrypt_measured(key, blobs, expected_sites, label, members).values


def decrypt_measured(
    key: SecretKey,
    blobs: Sequence[bytes],
    expected_sites: int,
    label: str = "",
    members: Sequence[str] | None = None,
    before: Callable[[], None] | None = None,
) -> Decrypted:
    """Decrypt a sum inside a hospital.

    Parameters
    ----------
    key, label
        As in :func:`encrypt`.
    blobs
        From :meth:`Adder.result` (or :func:`encrypt`, which is a sum of one).
    expected_sites
        Hospitals that must be in the sum; the count slot says how many are.
    members
        Their names, where each encrypted with its own: then each must be in the sum exactly once.
    before
        Called when all that can be checked without the key was checked, before anything is decrypted (to count it).

    Returns
    -------
    Decrypted
        Exact to ``scheme.error``. Before any of it leaves the hospitals, it must be flooded.

    Raises
    ------
    TruncatedCiphertext, ForeignCiphertext, WrongKey, WrongCount
        As their names say; never garbage.
    """
    import tenseal.sealapi as seal

    scheme = key.scheme
    header, payloads = envelope.unseal_all(blobs, scheme)
    _check_header(header, key, expected_sites, label)
    ring = _seal.ring(*scheme.ring)
    with _seal.scratch() as scratch:
        loaded = [_load(scratch, ring, payload, scheme, index) for index, payload in enumerate(payloads)]
    if before is not None:
        before()
    decryptor = seal.Decryptor(ring.context, key.native())
    plain = seal.Plaintext()
    pieces: list[Vector] = []
    left, error, tolerance = scheme.values, 0.0, 2.0 * scheme.error
    for index, ciphertext in enumerate(loaded):
        decryptor.decrypt(ciphertext, plain)
        full, control = from_slots(np.array(ring.encoder.decode_complex(plain)), scheme.values_per_ciphertext)
        if members is None:
            expected = expected_sites * complex(1.0, key.check_value(label, index))
            envelope.check_control(control, key.check_value(label, index), expected_sites, index, tolerance)
        else:
            expected = complex(len(members), sum(key.check_value(label, index, member) for member in members))
            envelope.check_members(control, expected, index, tolerance)
        size = min(left, scheme.values_per_ciphertext)
        apart = control - expected
        error = max(error, abs(apart.real), abs(apart.imag), float(np.abs(full[size:]).max(initial=0.0)))
        pieces.append(full[:size])
        left -= size
    return Decrypted(np.concatenate(pieces), error)


def _check_header(header: Header, key: SecretKey, expected_sites: int, label: str) -> None:
    if header.key_id != bytes.fromhex(key.key_id):
        raise WrongKey(
            f"encrypted sum: made under key {header.key_id.hex()}, this hospital has {key.key_id}; "
            "all hospitals need the same key file"
        )
    if header.label != envelope.label_digest(label):
        raise ForeignCiphertext(f"encrypted sum: it is not of {label or 'this round'}")
    if header.sites != expected_sites:
        raise WrongCount(
            f"encrypted sum: it holds {header.sites} hospital(s), {expected_sites} are expected; repeat the round"
        )


def _checked(vector: NDArray[Any], scheme: Scheme) -> Vector:
    values = np.asarray(vector, dtype=np.float64)
    if values.shape != (scheme.values,):
        raise BadInput(f"encryption: a vector of shape {values.shape}, the scheme is for {scheme.values} values")
    if not np.isfinite(values).all():
        raise OutOfRange(f"encryption: value {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    worst = int(np.argmax(np.abs(values)))
    if abs(values[worst]) > scheme.clip * (1 + 1e-12):
        raise OutOfRange(
            f"encryption: value {worst} exceeds the clip {scheme.clip:g}, so the sum could wrap round; "
            "clip first, or raise clip"
        )
    return values


def _load(scratch: _seal.Scratch, ring: _seal.Ring, payload: bytes, scheme: Scheme, index: int) -> Any:
    import tenseal.sealapi as seal

    loaded = scratch.load(seal.Ciphertext(), ring, payload, f"ciphertext {index}")
    if loaded.parms_id() != ring.context.first_parms_id():
        raise ForeignCiphertext(f"ciphertext {index}: of another level than fresh ones; only sums are decrypted")
    if loaded.scale != scheme.scale:
        raise ForeignCiphertext(f"ciphertext {index}: its scale is not the scheme's 2^{scheme.scale_bits}")
    if loaded.size() != 2 or loaded.is_transparent():
        raise TruncatedCiphertext(f"ciphertext {index}: it is not an encryption of anything; ask for it again")
    return loaded
