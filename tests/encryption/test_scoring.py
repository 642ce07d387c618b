"""Encrypted scoring: the same logits as in the clear, from a side that has no key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal

from pettoolkit.encryption import _seal, envelope, scoring
from pettoolkit.encryption.errors import ForeignCiphertext, OutOfRange, TruncatedCiphertext, WrongKey
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import BadInput


@pytest.fixture(scope="module")
def scoring_key() -> SecretKey:
    return SecretKey.create(scoring.scheme())


def patients(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, d))


@pytest.mark.parametrize("n", [1, 7, 4096, 4097])
def test_logits_are_those_of_the_clear(scoring_key: SecretKey, n: int) -> None:
    x, weights = patients(n, 5), np.array([3.0, -20.0, 0.0, 1e-3, 0.5])

    answers = [scoring.score(group, weights, -3.0) for group in scoring.encrypt_patients(scoring_key, x)]
    logits = np.concatenate([scoring.decrypt_logits(scoring_key, a) for a in answers])

    np.testing.assert_allclose(logits, x @ weights - 3.0, atol=1e-6)


def test_four_thousand_patients_take_four_times_their_float32_up_and_one_ciphertext_down(
    scoring_key: SecretKey,
) -> None:
    x = patients(4000, 41)

    (group,) = scoring.encrypt_patients(scoring_key, x)

    assert sum(map(len, group)) < 4 * x.size * 4
    assert len(scoring.score(group, np.ones(41), 0.0)) < 120_000


def test_what_the_scorer_gets_holds_no_value_and_no_key(scoring_key: SecretKey) -> None:
    same = np.ones((4, 2))
    (first,), (second,) = (scoring.encrypt_patients(scoring_key, same) for _ in range(2))
    ring = _seal.ring(*scoring.scheme().ring)

    assert all(a != b for a, b in zip(first, second, strict=True))
    assert all(scoring_key.to_bytes()[-1000:-32] not in blob for blob in first)
    with pytest.raises(ValueError, match="secret key is not valid"):
        seal.Decryptor(ring.context, seal.SecretKey())
    with pytest.raises(WrongKey):
        scoring.decrypt_logits(SecretKey.create(scoring.scheme()), scoring.score(first, np.ones(2), 0.0))


def test_what_is_wrong_is_named(scoring_key: SecretKey, key: SecretKey) -> None:
    (group,) = scoring.encrypt_patients(scoring_key, patients(3, 3))
    (other,) = scoring.encrypt_patients(SecretKey.create(scoring.scheme()), patients(3, 3))
    answer = scoring.score(group, np.ones(3), 0.0)

    with pytest.raises(TruncatedCiphertext, match="the model has 2"):
        scoring.score(group, np.ones(2), 0.0)
    with pytest.raises(TruncatedCiphertext, match="in the place"):
        scoring.score(group[::-1], np.ones(3), 0.0)
    with pytest.raises(WrongKey, match="feature 1"):
        scoring.score([group[0], other[1], group[2]], np.ones(3), 0.0)
    with pytest.raises(TruncatedCiphertext):
        scoring.score([group[0][:-1], *group[1:]], np.ones(3), 0.0)
    with pytest.raises(ForeignCiphertext):
        scoring.score([answer, *group[1:]], np.ones(3), 0.0)
    with pytest.raises(ForeignCiphertext):
        scoring.decrypt_logits(scoring_key, group[0])
    with pytest.raises(OutOfRange, match="wrap round"):
        scoring.score(group, np.full(3, 1e4), 0.0)
    with pytest.raises(OutOfRange, match="scale the features"):
        scoring.encrypt_patients(scoring_key, 2 * np.ones((2, 2)))
    with pytest.raises(BadInput, match="scoring needs"):
        scoring.encrypt_patients(key, patients(3, 3))
    with pytest.raises(BadInput, match="all weights are zero"):
        scoring.score(group, np.zeros(3), 0.0)


def forged(blob: bytes, change: Callable[[Any, Any], None], as_answer: bool) -> bytes:
    """A feature's ciphertext, changed; in the header of an answer or its own."""
    ring = _seal.ring(*scoring.scheme().ring)
    header, payload = envelope.unseal(blob)
    if as_answer:
        header = replace(header, label=envelope.label_digest(f"{scoring.LABEL}/answer"), index=0, total=1)
    with _seal.scratch() as scratch:
        ciphertext = scratch.load(seal.Ciphertext(), ring, payload, "feature")
        change(ring, ciphertext)
        return envelope.seal(header, scratch.dump(ciphertext))


def test_a_ciphertext_of_another_form_is_neither_scored_nor_decrypted(scoring_key: SecretKey) -> None:
    """A square has the level and scale of an answer, and a polynomial more."""
    ((blob,),) = scoring.encrypt_patients(scoring_key, patients(3, 1))

    def square(ring: Any, ciphertext: Any) -> None:
        ring.evaluator.square_inplace(ciphertext)

    def square_at_the_scale_of_one(ring: Any, ciphertext: Any) -> None:
        ring.evaluator.square_inplace(ciphertext)
        ciphertext.scale = 2.0**scoring.SCALE_BITS

    def rescaled(_: Any, ciphertext: Any) -> None:
        ciphertext.scale = 2.0**30

    with pytest.raises(TruncatedCiphertext, match="the answer is not an encryption"):
        scoring.decrypt_logits(scoring_key, forged(blob, square, as_answer=True))
    with pytest.raises(ForeignCiphertext, match="the answer is of another level or scale"):
        scoring.decrypt_logits(scoring_key, forged(blob, rescaled, as_answer=True))
    with pytest.raises(TruncatedCiphertext, match="feature 0 is not an encryption"):
        scoring.score([forged(blob, square_at_the_scale_of_one, as_answer=False)], np.ones(1), 0.0)
    with pytest.raises(ForeignCiphertext, match="feature 0 is of another level or scale"):
        scoring.score([forged(blob, rescaled, as_answer=False)], np.ones(1), 0.0)


def test_the_largest_logits_do_not_wrap_round(scoring_key: SecretKey) -> None:
    """All slots at their extreme, where the encoded sum is largest."""
    weights = np.full(4, (scoring.LOGIT_LIMIT - 1) / 4)
    (group,) = scoring.encrypt_patients(scoring_key, np.ones((4096, 4)))

    logits = scoring.decrypt_logits(scoring_key, scoring.score(group, weights, 1.0))

    np.testing.assert_allclose(logits, scoring.LOGIT_LIMIT, rtol=1e-6)
    assert envelope.unseal(group[0])[0].values == 4096
