"""Training on encrypted rows: the plan that all parties share, and what a hospital does.

The hospitals upload their rows once, encrypted; the coordinator (:mod:`pettoolkit.encryption.records_trainer`) takes
gradient steps on ciphertexts, and between steps a hospital that holds the key refreshes the encrypted weights. With
labels in {-1, 1} folded into the rows, z = label * x, the step of logistic regression is
``w += lr/n sum sigma(-z w) z`` and needs one ciphertext per group of rows (Kim et al. 2018, BMC Medical Genomics
11:83); sigma is a polynomial of degree 3.

Slots are feature-major: block j of a ciphertext holds one feature of its rows. One ciphertext then carries all weights,
each repeated over its block. Everybody is taken to be semi-honest: a coordinator that doesn't follow the protocol can
have other things than weights refreshed. It learns nothing from how that is taken: whatever a ciphertext decrypts to,
:func:`refresh` answers the same, and says only to the hospital itself whether it was a step.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.envelope import Header
from pettoolkit.encryption.errors import ForeignCiphertext, OutOfRange, TruncatedCiphertext, WrongKey
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.packing import Vector
from pettoolkit.encryption.parameters import MAX_SITES, Scheme
from pettoolkit.errors import BadInput

RING_DEGREE = 16384
PRIME_BITS = (60, 54, 54, 54, 54, 54)
SPECIAL_BITS = 60
SCALE_BITS = 54
"""One prime per multiplication of a step (five), and a base prime that holds weights below 2^(60 - 1 - 54) = 32.

Primes of 54 instead of 40 bits cost no time and make decryption errors small enough to be flooded.
"""

WEIGHT_LIMIT = 16.0

ERROR_OF_WEIGHT = 3.5e-13
ERROR_OF_SUM = 1.5e-10
ERROR_OF_SUM_FIRST_BLOCK = 1e-9
"""See :attr:`RecordsPlan.error_sd`."""

REPLICA_TOLERANCE = 1e-6
SLOTS = RING_DEGREE // 2
_RADIX = 8
_ROWS, _WEIGHTS = b"rows----", b"weights-"


@dataclass(frozen=True)
class RecordsPlan:
    """What is trained on encrypted rows; public, and the same for all parties.

    Parameters
    ----------
    rows
        Rows of all hospitals together.
    features
        Columns of a row, a column of ones for the intercept included if there is to be one.
    learning_rate
        Factor of the mean gradient.
    sites
        Number of hospitals.
    radius
        The sigmoid is approximated on [-radius, radius].
    run
        Name of the run; ciphertexts of another run are refused.

    Raises
    ------
    BadInput
        If a figure is out of range.
    """

    rows: int
    features: int
    learning_rate: float
    sites: int
    radius: float = 8.0
    run: str = ""

    def __post_init__(self) -> None:
        if self.rows < 1 or not 1 <= self.features <= SLOTS // 2:
            raise BadInput(f"encrypted records: {self.rows} rows x {self.features} features don't fit the ciphertexts")
        if not (self.learning_rate > 0 and self.radius > 0 and 1 <= self.sites <= MAX_SITES):
            raise BadInput("encrypted records: learning_rate, radius and sites must be greater than 0")

    @property
    def blocks(self) -> int:
        """Blocks of a ciphertext: the power of two that holds the features."""
        return 1 << (self.features - 1).bit_length()

    @property
    def block(self) -> int:
        """Rows in one ciphertext."""
        return SLOTS // self.blocks

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts that hold all rows."""
        return -(-self.rows // self.block)

    @property
    def first(self) -> int:
        """Block of the first feature: the second one if there is room.

        SEAL's key switching errs by far the most in the first few slots (its digits are not centred, and their mean
        concentrates at the roots of unity near 1), which then hold nothing that is used.
        """
        return int(self.features < self.blocks)

    def blocked(self, by_feature: NDArray[Any]) -> Vector:
        """One value (features,) or one row of slots (features, n) per feature, as (blocks, ...); zero elsewhere."""
        out = np.zeros((self.blocks, *by_feature.shape[1:]))
        out[self.first : self.first + self.features] = by_feature
        return out

    @property
    def across(self) -> tuple[int, ...]:
        """Rotations that sum over blocks (features), each applied once: doubling."""
        return tuple(self.block << k for k in range(self.blocks.bit_length() - 1))

    @property
    def within(self) -> tuple[tuple[int, int], ...]:
        """(rotation, terms) that sum within blocks (rows); radix 8 takes a third of the keys and costs little here."""
        stages: list[tuple[int, int]] = []
        step = 1
        while step < self.block:
            terms = min(_RADIX, self.block // step)
            stages.append((step, terms))
            step *= terms
        return tuple(stages)

    @property
    def rotations(self) -> tuple[int, ...]:
        """Every rotation that needs a key."""
        return tuple(sorted({*self.across, *(step for step, _ in self.within)}))

    @property
    def sigmoid(self) -> tuple[float, float]:
        """Coefficients (a1, a3) of ``1/2 + a1 t + a3 t^3``."""
        return sigmoid_coefficients(self.radius)

    def scheme(self) -> Scheme:
        """Return the scheme for which the hospitals' key is made."""
        return Scheme(RING_DEGREE, PRIME_BITS, SPECIAL_BITS, SCALE_BITS, self.features, WEIGHT_LIMIT, self.sites)

    @property
    def error_sd(self) -> float:
        """Bound on the standard deviation of the decryption error of a refreshed weight; a test sweeps it.

        One part is that of a rescaled ciphertext. The other is that of the sum over rows, which ``lr / rows``
        multiplies: with few rows it is the larger one.
        """
        of_sum = ERROR_OF_SUM if self.first else ERROR_OF_SUM_FIRST_BLOCK
        return ERROR_OF_WEIGHT + of_sum * self.learning_rate / self.rows

    def flooding_sd(self, tau: int, bits: int, gain: float = 1.0) -> float:
        """Noise per released weight: ``sqrt(N) sqrt(12 tau) 2^(s/2)`` times the decryption error times ``gain``."""
        return math.sqrt(RING_DEGREE) * math.sqrt(12 * tau) * math.exp2(bits / 2) * self.error_sd * gain

    @property
    def digest(self) -> bytes:
        """Eight bytes that name this plan in the header of each ciphertext."""
        return hashlib.blake2b(self.to_bytes(), digest_size=8).digest()

    def to_bytes(self) -> bytes:
        """Serialise what the coordinator gets besides evaluation keys: no key material, under 200 bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> RecordsPlan:
        """Inverse of :meth:`to_bytes`."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise BadInput(f"encrypted records: the plan is damaged ({error})") from None


def sigmoid_coefficients(radius: float) -> tuple[float, float]:
    """Least-squares fit of the sigmoid on [-radius, radius] by ``1/2 + a1 t + a3 t^3``; .15012 and -.001593 at 8."""
    t = np.linspace(-radius, radius, 20_001)
    powers = np.stack([t, t**3], axis=1)
    a1, a3 = np.linalg.lstsq(powers, 1 / (1 + np.exp(-t)) - 0.5, rcond=None)[0]
    return float(a1), float(a3)


def plain_step(plan: RecordsPlan, x: Vector, y: NDArray[Any], weights: Vector) -> Vector:
    """Take the same step on rows in the clear, with which ciphertexts must agree; shapes as in :func:`encrypt_rows`."""
    a1, a3 = plan.sigmoid
    z = _signed(x, y)
    margin = z @ weights
    updated: Vector = weights + plan.learning_rate / plan.rows * (z.T @ (0.5 - a1 * margin - a3 * margin**3))
    return updated


def evaluation_keys(key: SecretKey, plan: RecordsPlan) -> tuple[bytes, bytes]:
    """Public keys for relinearisation and rotations, made by one hospital and sent to the coordinator once.

    They let it compute, neither encrypt nor decrypt. About 5 MB for the first and for each of ``plan.rotations``.
    """
    import tenseal.sealapi as seal

    ring = _seal.ring(*_ring_of(key, plan))
    generator = seal.KeyGenerator(ring.context, key.native())
    elements = [galois_element(step) for step in plan.rotations]
    with _seal.scratch() as scratch:
        return scratch.dump(generator.create_relin_keys()), scratch.dump(generator.create_galois_keys(elements))


def galois_element(step: int) -> int:
    """Element of the Galois group that rotates slots to the left by ``step`` (SEAL's generator is 3)."""
    return pow(3, step, 2 * RING_DEGREE)


def encrypt_rows(key: SecretKey, plan: RecordsPlan, x: Vector, y: NDArray[Any], start: int) -> dict[int, bytes]:
    """Encrypt one hospital's rows, which are rows ``start`` to ``start + n`` of all.

    Parameters
    ----------
    x
        Shape (n, features), values in [-1, 1].
    y
        Shape (n,), 0 or 1.

    Returns
    -------
    dict
        Position of the ciphertext to its bytes; hospitals that share a ciphertext fill different slots of it.

    Raises
    ------
    OutOfRange
        If a value is not in [-1, 1], or a label neither 0 nor 1.
    """
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != plan.features or len(y) != len(rows):
        raise BadInput(
            f"encrypted records: rows of shape {rows.shape} and {len(y)} labels, {plan.features} features expected"
        )
    if start < 0 or start + len(rows) > plan.rows:
        raise BadInput(f"encrypted records: rows {start} to {start + len(rows)} are beyond the plan's {plan.rows}")
    if not (np.abs(rows) <= 1).all():
        raise OutOfRange("encrypted records: values must be finite and in [-1, 1]; scale the features first")
    if not np.isin(y, (0, 1)).all():
        raise OutOfRange("encrypted records: labels must be 0 or 1")
    signed = _signed(rows, y)
    out: dict[int, bytes] = {}
    for position in range(start // plan.block, -(-(start + len(rows)) // plan.block)):
        first = position * plan.block
        low, high = max(start, first), min(start + len(rows), first + plan.block)
        columns = np.zeros((plan.features, plan.block))
        columns[:, low - first : high - first] = signed[low - start : high - start].T
        out[position] = _encrypt(key, plan, plan.blocked(columns).ravel(), _ROWS, position, high - low)
    return out


def encrypt_weights(key: SecretKey, plan: RecordsPlan, weights: Vector) -> bytes:
    """Encrypt the weights, shape (features,), each repeated over its block.

    Raises
    ------
    OutOfRange
        If a weight is not finite or beyond 16: training diverged.
    """
    if weights.shape != (plan.features,):
        raise BadInput(f"encrypted records: weights of shape {weights.shape}, {plan.features} features expected")
    if not in_range(weights):
        raise OutOfRange(
            f"encrypted records: a weight is beyond {WEIGHT_LIMIT:g}, training diverged; lower learning_rate"
        )
    return _encrypt(key, plan, _replicated(plan, weights), _WEIGHTS, 0, plan.features)


@dataclass(frozen=True, eq=False)
class Refreshed:
    """What a hospital makes of the weights that came back.

    Parameters
    ----------
    weights
        Shape (features,): the new weights, or those that were sent if what came back is no step on them.
    sound
        Whether it was a step, with weights in range. It is a function of a decryption: it stays in the hospital, and
        the protocol goes on as if it were true until the end (nothing is then released).
    error
        Largest error measured in the slots whose content is known; leaves a hospital coarsened or not at all.
    """

    weights: Vector
    sound: bool
    error: float


def refresh(
    key: SecretKey, plan: RecordsPlan, returned: bytes, sent: Vector, before: Callable[[], None] | None = None
) -> Refreshed:
    """Decrypt the weights after a step; :func:`encrypt_weights` then gives them room for the next one.

    Nothing is raised for what the ciphertext decrypts to, only for what anyone can see of it.

    Parameters
    ----------
    returned
        From the coordinator's step on the weights ``sent``.
    sent
        Shape (features,): what was encrypted for that step. It is still in all slots but each block's first, by which a
        wrong key or something else than a step is recognised.
    before
        Called when all that can be checked without the key was checked, before anything is decrypted (to count it).

    Raises
    ------
    TruncatedCiphertext, ForeignCiphertext, WrongKey
        As their names say, by the header and the ciphertext's parameters.
    """
    import tenseal.sealapi as seal

    header, payload = envelope.unseal(returned)
    check_header(header, plan, _WEIGHTS)
    if header.key_id != bytes.fromhex(key.key_id):
        raise WrongKey(f"encrypted weights: made under key {header.key_id.hex()}, this hospital has {key.key_id}")
    ring = _seal.ring(*_ring_of(key, plan))
    with _seal.scratch() as scratch:
        loaded = scratch.load(seal.Ciphertext(), ring, payload, "encrypted weights")
    if loaded.parms_id() != ring.context.last_parms_id() or loaded.scale != 2.0**SCALE_BITS:
        raise ForeignCiphertext("encrypted weights: not those after a step (of another level or scale)")
    if loaded.size() != 2 or loaded.is_transparent():
        raise TruncatedCiphertext("encrypted weights: it is not an encryption of anything; ask for it again")
    if before is not None:
        before()
    plain = seal.Plaintext()
    seal.Decryptor(ring.context, key.native()).decrypt(loaded, plain)
    return _read_step(plan, np.array(ring.encoder.decode_double(plain)).reshape(plan.blocks, plan.block), sent)


def in_range(weights: Vector) -> bool:
    """Whether weights are finite and can be encrypted."""
    return bool((np.abs(weights) <= WEIGHT_LIMIT).all())


def _read_step(plan: RecordsPlan, slots: Vector, sent: Vector) -> Refreshed:
    expected = _replicated(plan, sent).reshape(plan.blocks, plan.block)
    unchanged = np.abs(slots - expected)
    unchanged[plan.first : plan.first + plan.features, 0] = 0.0
    error = float(unchanged.max())
    found: Vector = slots[plan.first : plan.first + plan.features, 0].copy()
    sound = error <= REPLICA_TOLERANCE and in_range(found)
    return Refreshed(found if sound else sent.copy(), sound, error if sound else 0.0)


def check_header(header: Header, plan: RecordsPlan, kind: bytes) -> None:
    """Refuse what belongs to another plan, or is no such ciphertext.

    Raises
    ------
    ForeignCiphertext
        If so.
    """
    if header.scheme != plan.digest or header.label != kind:
        raise ForeignCiphertext("encrypted records: this ciphertext is of another plan, or of another kind")


def rows_header(header: Header, plan: RecordsPlan) -> None:
    """Refuse a ciphertext that holds no rows of this plan."""
    check_header(header, plan, _ROWS)


def weights_header(header: Header, plan: RecordsPlan) -> None:
    """Refuse a ciphertext that holds no weights of this plan."""
    check_header(header, plan, _WEIGHTS)


def _encrypt(key: SecretKey, plan: RecordsPlan, slots: Vector, kind: bytes, position: int, values: int) -> bytes:
    import tenseal.sealapi as seal

    ring = _seal.ring(*_ring_of(key, plan))
    plain = seal.Plaintext()
    ring.encoder.encode(slots, math.exp2(SCALE_BITS), plain)
    with _seal.scratch() as scratch:
        payload = scratch.dump(seal.Encryptor(ring.context, key.native()).encrypt_symmetric(plain))
    header = Header(plan.digest, bytes.fromhex(key.key_id), kind, position, plan.ciphertexts, values, 1)
    return envelope.seal(header, payload)


def _ring_of(key: SecretKey, plan: RecordsPlan) -> tuple[int, tuple[int, ...]]:
    ring = plan.scheme().ring
    if key.scheme.ring != ring:
        raise BadInput(
            f"key {key.key_id}: made for ring {key.scheme.ring}, encrypted records need {ring}: create another"
        )
    return ring


def _signed(x: Vector, y: NDArray[Any]) -> Vector:
    signs: Vector = 2.0 * np.asarray(y, dtype=np.float64) - 1.0
    signed: Vector = x * signs[:, None]
    return signed


def _replicated(plan: RecordsPlan, weights: Vector) -> Vector:
    repeated: Vector = np.repeat(plan.blocked(weights), plan.block)
    return repeated
