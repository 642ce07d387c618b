"""The coordinator's half of training on encrypted rows: gradient steps on ciphertexts, without any secret.

One step uses all five levels: z w (1), its square (2), the cubic (3), residual times rows (4), and a mask (5) that
keeps each block's first slot only. Without the mask the other slots would hold partial sums over rows, from which a
key holder could take single rows apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.errors import ForeignCiphertext, TruncatedCiphertext, WrongCount, WrongKey
from pettoolkit.encryption.records import SCALE_BITS, RecordsPlan, galois_element, rows_header, weights_header
from pettoolkit.errors import BadInput


class RecordsTrainer:
    """Holds encrypted rows and evaluation keys, and takes steps.

    Parameters
    ----------
    plan
        From :meth:`RecordsPlan.to_bytes`.
    evaluation_keys
        From :func:`pettoolkit.encryption.records.evaluation_keys`.

    Raises
    ------
    TruncatedCiphertext
        If the keys can't be read.
    BadInput
        If a key that the plan needs is missing.
    """

    def __init__(self, plan: bytes, evaluation_keys: tuple[bytes, bytes]) -> None:
        import tenseal.sealapi as seal

        self.plan = RecordsPlan.from_bytes(plan)
        self._ring = _seal.ring(*self.plan.scheme().ring)
        with _seal.scratch() as scratch:
            self._relin = scratch.load(seal.RelinKeys(), self._ring, evaluation_keys[0], "relinearisation keys")
            self._galois = scratch.load(seal.GaloisKeys(), self._ring, evaluation_keys[1], "rotation keys")
        missing = [step for step in self.plan.rotations if not self._galois.has_key(galois_element(step))]
        if missing:
            raise BadInput(f"encrypted records: rotation keys for {missing} are missing; make them for this plan")
        self._levels = _levels(self._ring)
        self._rows: dict[int, Any] = {}
        self._late_rows: dict[int, Any] = {}
        self._held = 0
        self._sites: set[str] = set()
        self._key_id: bytes | None = None

    @property
    def rows(self) -> int:
        """Rows held so far."""
        return self._held

    @property
    def held(self) -> int:
        """Rows held so far."""
        return self._held

    def add_rows(self, uploads: Mapping[int, bytes], site: str) -> None:
        """Take one hospital's rows; all of them or, on any error, none.

        Parameters
        ----------
        uploads
            From :func:`pettoolkit.encryption.records.encrypt_rows`.
        site
            The hospital's name; the same one twice is refused.

        Raises
        ------
        TruncatedCiphertext, ForeignCiphertext, WrongKey, WrongCount
            As their names say.
        """
        if site in self._sites:
            raise WrongCount(f"hospital {site}: its rows were taken already")
        loaded: dict[int, Any] = {}
        rows = 0
        for position, blob in uploads.items():
            header, payload = envelope.unseal(blob)
            rows_header(header, self.plan)
            if header.index != position:
                raise TruncatedCiphertext(f"hospital {site}: rows {position} hold number {header.index}")
            self._check_key(header.key_id)
            loaded[position] = self._load(payload, f"hospital {site}: rows {position}")
            rows += header.values
        if self._held + rows > self.plan.rows:
            raise WrongCount(f"hospital {site}: {rows} more rows are too many, the plan has {self.plan.rows}")
        for position, one in loaded.items():
            if position in self._rows:
                self._ring.evaluator.add_inplace(self._rows[position], one)
            else:
                self._rows[position] = one
        self._held += rows
        self._sites.add(site)
        self._late_rows = {}

    def step(self, weights: bytes) -> bytes:
        """One gradient step over all rows.

        Parameters
        ----------
        weights
            Fresh ciphertext of the weights, from ``encrypt_weights`` or ``refresh``.

        Returns
        -------
        bytes
            Ciphertext of the new weights with no level left, for ``refresh``.

        Raises
        ------
        WrongCount
            If not all rows of the plan are held: the mean would be another.
        """
        if self._held != self.plan.rows:
            raise WrongCount(f"encrypted records: {self._held} of {self.plan.rows} rows are held; ask for the others")
        header, payload = envelope.unseal(weights)
        weights_header(header, self.plan)
        self._check_key(header.key_id)
        current = self._load(payload, "encrypted weights")
        gradient = self._sum_within_blocks(self._gradient(current))
        updated = self._masked(gradient, current.scale)
        switched = self._to_level(current, 5)
        self._ring.evaluator.add_inplace(updated, switched)
        with _seal.scratch() as scratch:
            return envelope.seal(header, scratch.dump(updated))

    def _gradient(self, weights: Any) -> Any:
        """Rows times residuals, added over ciphertexts; the products are relinearised once, after the addition."""
        import tenseal.sealapi as seal

        evaluator = self._ring.evaluator
        total: Any = None
        for position, rows in self._rows.items():
            residual = self._residual(self._margin(rows, weights))
            product = seal.Ciphertext()
            evaluator.multiply(self._late(position), residual, product)
            if total is None:
                total = product
            else:
                evaluator.add_inplace(total, product)
        return self._finished(total)

    def _margin(self, rows: Any, weights: Any) -> Any:
        """``z w`` of each row, in every block. Level 1."""
        import tenseal.sealapi as seal

        margin, rotated = seal.Ciphertext(), seal.Ciphertext()
        self._ring.evaluator.multiply(rows, weights, margin)
        self._finished(margin)
        for step in self.plan.across:
            self._ring.evaluator.rotate_vector(margin, step, self._galois, rotated)
            self._ring.evaluator.add_inplace(margin, rotated)
        return margin

    def _residual(self, margin: Any) -> Any:
        """``1/2 - a1 m - a3 m^3``, by which each row pulls at the weights. Level 3."""
        import tenseal.sealapi as seal

        evaluator = self._ring.evaluator
        a1, a3 = self.plan.sigmoid
        squared = seal.Ciphertext()
        evaluator.square(margin, squared)
        self._finished(squared)
        cubic = self._times_constant(margin, -a3, target_scale=2.0**SCALE_BITS)
        evaluator.multiply_inplace(cubic, squared)
        self._finished(cubic)
        linear = self._times_constant(self._to_level(margin, 2), -a1, target_scale=cubic.scale)
        evaluator.add_inplace(cubic, linear)
        half = seal.Plaintext()
        self._ring.encoder.encode(0.5, cubic.parms_id(), cubic.scale, half)
        evaluator.add_plain_inplace(cubic, half)
        return cubic

    def _times_constant(self, ciphertext: Any, constant: float, target_scale: float) -> Any:
        """Multiply by a public number so that the result, one level down, has exactly the target scale."""
        import tenseal.sealapi as seal

        plain, out = seal.Plaintext(), seal.Ciphertext()
        scale = target_scale * self._last_prime(ciphertext) / ciphertext.scale
        self._ring.encoder.encode(constant, ciphertext.parms_id(), scale, plain)
        self._ring.evaluator.multiply_plain(ciphertext, plain, out)
        self._ring.evaluator.rescale_to_next_inplace(out)
        return out

    def _sum_within_blocks(self, ciphertext: Any) -> Any:
        """Each block's first slot becomes the sum of its block. Level 4."""
        import tenseal.sealapi as seal

        evaluator = self._ring.evaluator
        for step, terms in self.plan.within:
            rotated = ciphertext
            total = self._copy(ciphertext)
            for _ in range(terms - 1):
                turned = seal.Ciphertext()
                evaluator.rotate_vector(rotated, step, self._galois, turned)
                evaluator.add_inplace(total, turned)
                rotated = turned
            ciphertext = total
        return ciphertext

    def _masked(self, gradient: Any, target_scale: float) -> Any:
        """``lr / n`` times the first slot of each block, zero elsewhere. Level 5."""
        import tenseal.sealapi as seal

        columns = np.zeros((self.plan.features, self.plan.block))
        columns[:, 0] = self.plan.learning_rate / self.plan.rows
        mask = self.plan.blocked(columns)
        plain, out = seal.Plaintext(), seal.Ciphertext()
        scale = target_scale * self._last_prime(gradient) / gradient.scale
        self._ring.encoder.encode(mask.ravel(), gradient.parms_id(), scale, plain)
        self._ring.evaluator.multiply_plain(gradient, plain, out)
        self._ring.evaluator.rescale_to_next_inplace(out)
        return out

    def _finished(self, product: Any) -> Any:
        """Relinearise and rescale a product in place."""
        self._ring.evaluator.relinearize_inplace(product, self._relin)
        self._ring.evaluator.rescale_to_next_inplace(product)
        return product

    def _late(self, position: int) -> Any:
        """Rows at the level of the residuals, switched down once."""
        if position not in self._late_rows:
            self._late_rows[position] = self._to_level(self._rows[position], 3)
        return self._late_rows[position]

    def _to_level(self, ciphertext: Any, level: int) -> Any:
        import tenseal.sealapi as seal

        out = seal.Ciphertext()
        self._ring.evaluator.mod_switch_to(ciphertext, self._levels[level][0], out)
        return out

    def _copy(self, ciphertext: Any) -> Any:
        import tenseal.sealapi as seal

        out = seal.Ciphertext()
        self._ring.evaluator.mod_switch_to(ciphertext, ciphertext.parms_id(), out)
        return out

    def _last_prime(self, ciphertext: Any) -> int:
        return next(prime for level, prime in self._levels if level == ciphertext.parms_id())

    def _check_key(self, key_id: bytes) -> None:
        if self._key_id is None:
            self._key_id = key_id
        if key_id != self._key_id:
            raise WrongKey(
                f"encrypted records: key {key_id.hex()}, the others have {self._key_id.hex()}; use one key file"
            )

    def _load(self, payload: bytes, what: str) -> Any:
        import tenseal.sealapi as seal

        with _seal.scratch() as scratch:
            loaded = scratch.load(seal.Ciphertext(), self._ring, payload, what)
        if loaded.parms_id() != self._levels[0][0] or loaded.scale != 2.0**SCALE_BITS:
            raise ForeignCiphertext(f"{what}: not fresh, or of another scale")
        if loaded.size() != 2 or loaded.is_transparent():
            raise TruncatedCiphertext(f"{what}: it is not an encryption of anything; ask for it again")
        return loaded


def _levels(ring: _seal.Ring) -> list[tuple[Any, int]]:
    """Parameter id and last prime of each level, from fresh to used up."""
    levels: list[tuple[Any, int]] = []
    data = ring.context.first_context_data()
    while data is not None:
        levels.append((data.parms_id(), data.parms().coeff_modulus()[-1].value()))
        data = data.next_context_data()
    return levels
