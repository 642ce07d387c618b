"""Scoring patients whose values the scorer never sees: a linear predictor on ciphertexts, feature by feature.

The patients' side encrypts one ciphertext per feature, which holds that feature of up to 4,096 patients (two per
complex slot). The scoring side multiplies each by a public weight and adds: no rotations, no evaluation keys, one
ciphertext back. Only the patients' side can decrypt the logits; it keeps them, so that no flooding is needed. What the
scorer sends back tells the patients' side the model's predictions, as any answer would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.envelope import Header
from pettoolkit.encryption.errors import ForeignCiphertext, OutOfRange, TruncatedCiphertext, WrongKey
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.packing import Slots, Vector
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import BadInput

RING_DEGREE = 4096
PRIME_BITS = (44, 44)
SPECIAL_BITS = 20
SCALE_BITS = 38
"""Of the values and of the weights: their product has twice as many, of the 88 that a ciphertext carries."""

LOGIT_LIMIT = 2.0 ** (sum(PRIME_BITS) - 1 - 2 * SCALE_BITS) / 2
"""Largest sum of absolute weights, 1024, with room for two values per slot."""

LABEL = "scoring"


def scheme() -> Scheme:
    """Return the scheme for which a scoring key is made; values are in [-1, 1]."""
    return Scheme(RING_DEGREE, PRIME_BITS, SPECIAL_BITS, SCALE_BITS, RING_DEGREE, 1.0, 1)


def encrypt_patients(key: SecretKey, x: Vector) -> list[list[bytes]]:
    """Encrypt patients, feature by feature.

    Parameters
    ----------
    x
        Shape (patients, features), values in [-1, 1].

    Returns
    -------
    list of list of bytes
        One list per 4,096 patients, of one blob per feature.

    Raises
    ------
    OutOfRange
        If a value is not in [-1, 1].
    """
    import tenseal.sealapi as seal

    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise BadInput(f"encrypted scoring: patients of shape {rows.shape}, rows and features expected")
    if not (np.abs(rows) <= 1).all():
        raise OutOfRange("encrypted scoring: values must be finite and in [-1, 1]; scale the features first")
    ring = _seal.ring(*_ring_of(key))
    encryptor = seal.Encryptor(ring.context, key.native())
    plain = seal.Plaintext()
    groups: list[list[bytes]] = []
    with _seal.scratch() as scratch:
        for start in range(0, len(rows), RING_DEGREE):
            group = rows[start : start + RING_DEGREE]
            blobs: list[bytes] = []
            for feature in range(rows.shape[1]):
                ring.encoder.encode(_slots(group[:, feature]), 2.0**SCALE_BITS, plain)
                header = _header(key, feature, rows.shape[1], len(group))
                blobs.append(envelope.seal(header, scratch.dump(encryptor.encrypt_symmetric(plain))))
            groups.append(blobs)
    return groups


def score(blobs: Sequence[bytes], weights: Vector, bias: float) -> bytes:
    """Compute the logits of one group of patients from ciphertexts; needs no key.

    Parameters
    ----------
    blobs
        One per feature, from :func:`encrypt_patients`.
    weights, bias
        Of a logistic model, shape (features,), in the clear.

    Raises
    ------
    TruncatedCiphertext, ForeignCiphertext, WrongKey
        As their names say.
    OutOfRange
        If weights are so large that a logit could wrap round.
    """
    import tenseal.sealapi as seal

    if len(blobs) != len(weights):
        raise TruncatedCiphertext(f"encrypted scoring: {len(blobs)} features arrived, the model has {len(weights)}")
    if not np.abs(weights).sum() + abs(bias) <= LOGIT_LIMIT:
        raise OutOfRange(f"encrypted scoring: logits could exceed {LOGIT_LIMIT:g} and wrap round; is this a model?")
    ring = _seal.ring(*scheme().ring)
    total, plain = None, seal.Plaintext()
    first = envelope.unseal(blobs[0])[0]
    with _seal.scratch() as scratch:
        for feature, (blob, weight) in enumerate(zip(blobs, weights, strict=True)):
            header, payload = envelope.unseal(blob)
            _check(header, first, feature, len(weights))
            loaded = _load(scratch, ring, payload, SCALE_BITS, f"feature {feature}")
            if abs(weight) < 2.0**-SCALE_BITS:
                continue  # SEAL refuses a product with zero, which would be no ciphertext
            ring.encoder.encode(float(weight), loaded.parms_id(), 2.0**SCALE_BITS, plain)
            ring.evaluator.multiply_plain_inplace(loaded, plain)
            if total is None:
                total = loaded
            else:
                ring.evaluator.add_inplace(total, loaded)
        if total is None:
            raise BadInput("encrypted scoring: all weights are zero, so every patient has the same score")
        both = np.full(RING_DEGREE // 2, complex(bias, bias))
        ring.encoder.encode(both, total.parms_id(), total.scale, plain)
        ring.evaluator.add_plain_inplace(total, plain)
        return envelope.seal(_answer(first), scratch.dump(total))


def score_all(groups: Sequence[Sequence[bytes]], weights: Vector, bias: float) -> list[bytes]:
    """Do the whole work of the scoring side, so that it can be run in a process of its own; see :func:`score`."""
    return [score(blobs, weights, bias) for blobs in groups]


def decrypt_logits(key: SecretKey, blob: bytes) -> Vector:
    """Decrypt one group's logits, shape (patients,), on the patients' side.

    Raises
    ------
    TruncatedCiphertext, ForeignCiphertext, WrongKey
        As their names say.
    """
    import tenseal.sealapi as seal

    header, payload = envelope.unseal(blob)
    if header.scheme != scheme().digest or header.label != envelope.label_digest(f"{LABEL}/answer"):
        raise ForeignCiphertext("encrypted scoring: this is no answer of a scoring side")
    if header.key_id != bytes.fromhex(key.key_id):
        raise WrongKey(f"encrypted scoring: made under key {header.key_id.hex()}, this side has {key.key_id}")
    ring = _seal.ring(*_ring_of(key))
    plain = seal.Plaintext()
    with _seal.scratch() as scratch:
        loaded = _load(scratch, ring, payload, 2 * SCALE_BITS, "the answer")
    seal.Decryptor(ring.context, key.native()).decrypt(loaded, plain)
    flat = np.array(ring.encoder.decode_complex(plain)).view(np.float64)
    logits: Vector = flat[: header.values].copy()
    return logits


def _load(scratch: _seal.Scratch, ring: _seal.Ring, payload: bytes, scale_bits: int, what: str) -> Any:
    """A ciphertext of two polynomials that encrypts something, at the level and scale where it should be."""
    import tenseal.sealapi as seal

    loaded = scratch.load(seal.Ciphertext(), ring, payload, what)
    if loaded.parms_id() != ring.context.first_parms_id() or loaded.scale != 2.0**scale_bits:
        raise ForeignCiphertext(f"encrypted scoring: {what} is of another level or scale than expected")
    if loaded.size() != 2 or loaded.is_transparent():
        raise TruncatedCiphertext(f"encrypted scoring: {what} is not an encryption of anything; ask for it again")
    return loaded


def _slots(values: Vector) -> Slots:
    padded = np.zeros(RING_DEGREE)
    padded[: len(values)] = values
    return padded.view(np.complex128)


def _header(key: SecretKey, feature: int, features: int, patients: int) -> Header:
    label = envelope.label_digest(LABEL)
    return Header(scheme().digest, bytes.fromhex(key.key_id), label, feature, features, patients, 1)


def _answer(first: Header) -> Header:
    label = envelope.label_digest(f"{LABEL}/answer")
    return Header(first.scheme, first.key_id, label, 0, 1, first.values, 1)


def _check(header: Header, first: Header, feature: int, features: int) -> None:
    if header.scheme != scheme().digest or header.label != envelope.label_digest(LABEL):
        raise ForeignCiphertext(f"encrypted scoring: ciphertext {feature} holds no feature of patients")
    if header.key_id != first.key_id:
        raise WrongKey(f"encrypted scoring: feature {feature} is of another key than the first")
    if (header.index, header.total, header.values) != (feature, features, first.values):
        raise TruncatedCiphertext(
            f"encrypted scoring: feature {header.index} of {header.total}, {header.values} patients, is in the place "
            f"of feature {feature} of {features}, {first.values} patients"
        )


def _ring_of(key: SecretKey) -> tuple[int, tuple[int, ...]]:
    if key.scheme.ring != scheme().ring:
        raise BadInput(f"key {key.key_id}: made for ring {key.scheme.ring}, scoring needs {scheme().ring}")
    return key.scheme.ring
