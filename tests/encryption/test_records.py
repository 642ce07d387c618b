from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tenseal.sealapi as seal

from pettoolkit.encryption import envelope
from pettoolkit.encryption.errors import (
    ForeignCiphertext,
    OutOfRange,
    TruncatedCiphertext,
    WrongCount,
    WrongKey,
)
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.records import (
    ERROR_SD,
    RecordsPlan,
    encrypt_rows,
    encrypt_weights,
    evaluation_keys,
    plain_step,
    refresh,
    sigmoid_coefficients,
)
from pettoolkit.encryption.records_trainer import RecordsTrainer
from pettoolkit.errors import BadInput

PLAN = RecordsPlan(rows=1500, features=6, learning_rate=2.0, sites=3)
CUTS = (0, 400, 1100, 1500)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 1, (PLAN.rows, PLAN.features))
    x[:, 0] = 1.0
    y = (rng.random(PLAN.rows) < 1 / (1 + np.exp(-x @ rng.normal(size=PLAN.features)))).astype(int)
    return x, y


@pytest.fixture(scope="module")
def rows_key():
    return SecretKey.create(PLAN.scheme())


@pytest.fixture(scope="module")
def public(rows_key):
    return evaluation_keys(rows_key, PLAN)


@pytest.fixture(scope="module")
def trainer(rows, rows_key, public):
    """A coordinator that holds three hospitals' rows, two of which share ciphertexts."""
    x, y = rows
    trainer = RecordsTrainer(PLAN.to_bytes(), public)
    for start, end in pairwise(CUTS):
        trainer.add_rows(encrypt_rows(rows_key, PLAN, x[start:end], y[start:end], start), f"rows {start}")
    return trainer


def test_training_on_ciphertexts_is_training_on_rows(rows, rows_key, trainer):
    weights = plain = np.full(PLAN.features, 0.1)
    blob = encrypt_weights(rows_key, PLAN, weights)

    for _ in range(5):
        weights, blob = refresh(rows_key, PLAN, trainer.step(blob), weights)
        plain = plain_step(PLAN, *rows, plain)

    assert np.abs(plain - 0.1).max() > 0.3  # it moved
    np.testing.assert_allclose(weights, plain, atol=1e-3)


def test_the_error_of_a_refresh_is_what_flooding_is_sized_for(rows, rows_key, trainer):
    before = np.linspace(-1, 1, PLAN.features)

    after, _ = refresh(rows_key, PLAN, trainer.step(encrypt_weights(rows_key, PLAN, before)), before)

    assert np.abs(after - plain_step(PLAN, *rows, before)).max() < 4 * ERROR_SD * PLAN.learning_rate
    assert PLAN.flooding_sd(iterations=50, bits=30) < 1e-3


def test_the_plain_step_follows_the_gradient_of_the_log_likelihood(rows):
    x, y = rows
    weights = np.full(PLAN.features, 0.2)
    gradient = x.T @ (y - 1 / (1 + np.exp(-x @ weights))) / PLAN.rows

    moved = (plain_step(PLAN, x, y, weights) - weights) / PLAN.learning_rate

    assert moved @ gradient / np.linalg.norm(moved) / np.linalg.norm(gradient) > 0.95


def test_the_sigmoid_has_the_published_coefficients():
    assert sigmoid_coefficients(8.0) == pytest.approx((0.15012, -0.0015930), rel=1e-3)


@pytest.mark.parametrize("features", [1, 2, 3, 16, 17, 42, 200])
def test_rotations_reach_every_feature_and_row(features):
    plan = RecordsPlan(rows=2048, features=features, learning_rate=1.0, sites=3)
    rng = np.random.default_rng(features)
    slots = rng.normal(size=plan.blocks * plan.block)
    grid = slots.reshape(plan.blocks, plan.block)
    across = slots.copy()
    for step in plan.across:
        across += np.roll(across, -step)
    within = slots.copy()
    for step, terms in plan.within:
        within = sum(np.roll(within, -step * i) for i in range(terms))

    np.testing.assert_allclose(across.reshape(grid.shape), np.tile(grid.sum(0), (plan.blocks, 1)), atol=1e-9)
    np.testing.assert_allclose(within.reshape(grid.shape)[:, 0], grid.sum(1), atol=1e-9)
    assert plan.blocks >= features
    assert plan.ciphertexts * plan.block >= plan.rows


def test_a_step_reveals_weights_and_no_partial_sums(rows_key, trainer):
    """Everything that a key holder can decrypt of a step, but the new weights, is what it sent."""
    before = np.linspace(-1, 1, PLAN.features)
    _, payload = envelope.unseal(trainer.step(encrypt_weights(rows_key, PLAN, before)))

    from pettoolkit.encryption import _seal

    ring, plain = _seal.ring(*PLAN.scheme().ring), seal.Plaintext()
    with _seal.scratch() as scratch:
        loaded = scratch.load(seal.Ciphertext(), ring, payload, "step")
    seal.Decryptor(ring.context, rows_key.native()).decrypt(loaded, plain)
    slots = np.array(ring.encoder.decode_complex(plain)).reshape(PLAN.blocks, PLAN.block)

    sent = np.zeros(PLAN.blocks)
    sent[: PLAN.features] = before
    assert np.abs(slots[:, 1:] - sent[:, None]).max() < 1e-10
    assert np.abs(slots[PLAN.features :, 0]).max() < 1e-10


def test_the_coordinator_neither_encrypts_nor_decrypts(trainer):
    held = trainer._ring.context

    with pytest.raises(ValueError, match="secret key is not valid"):
        seal.Decryptor(held, seal.SecretKey())
    with pytest.raises(ValueError, match="public key is not valid"):
        seal.Encryptor(held, seal.PublicKey())
    assert len(PLAN.to_bytes()) < 200
    assert RecordsPlan.from_bytes(PLAN.to_bytes()) == PLAN


def test_a_step_waits_for_all_rows(rows, rows_key, public):
    x, y = rows
    early = RecordsTrainer(PLAN.to_bytes(), public)
    uploads = encrypt_rows(rows_key, PLAN, x[:400], y[:400], 0)
    early.add_rows(uploads, "a")

    with pytest.raises(WrongCount, match="400 of 1500"):
        early.step(encrypt_weights(rows_key, PLAN, np.zeros(PLAN.features)))
    with pytest.raises(WrongCount, match="hospital a"):
        early.add_rows(uploads, "a")
    for site in "bcd":
        if early.rows + 400 <= PLAN.rows:
            early.add_rows(uploads, site)
    with pytest.raises(WrongCount, match="too many"):
        early.add_rows(uploads, "e")


def test_another_key_is_named(rows, trainer, rows_key):
    other = SecretKey.create(PLAN.scheme())
    weights = np.zeros(PLAN.features)
    step = trainer.step(encrypt_weights(rows_key, PLAN, weights))
    header, payload = envelope.unseal(step)
    forged = envelope.seal(envelope.Header(**{**header.__dict__, "key_id": bytes.fromhex(other.key_id)}), payload)

    with pytest.raises(WrongKey, match="use one key file"):
        trainer.step(encrypt_weights(other, PLAN, weights))
    with pytest.raises(WrongKey, match=other.key_id):
        refresh(other, PLAN, step, weights)
    with pytest.raises(WrongKey, match="not a step"):
        refresh(other, PLAN, forged, weights)
    with pytest.raises(WrongKey, match="not a step"):
        refresh(rows_key, PLAN, step, weights + 0.5)


def test_foreign_truncated_and_misplaced_ciphertexts_are_named(rows, rows_key, trainer):
    x, y = rows
    weights = encrypt_weights(rows_key, PLAN, np.zeros(PLAN.features))
    uploads = encrypt_rows(rows_key, PLAN, x[:10], y[:10], 0)
    foreign = RecordsPlan(PLAN.rows, PLAN.features, 3.0, 3)

    with pytest.raises(TruncatedCiphertext):
        trainer.step(weights[:-1])
    with pytest.raises(ForeignCiphertext, match="another kind"):
        trainer.step(uploads[0])
    with pytest.raises(ForeignCiphertext, match="another plan"):
        trainer.step(encrypt_weights(rows_key, foreign, np.zeros(PLAN.features)))
    with pytest.raises(TruncatedCiphertext, match="hold number 0"):
        trainer.add_rows({1: uploads[0]}, "late")
    with pytest.raises(ForeignCiphertext, match="not fresh"):
        trainer.step(trainer.step(weights))


def test_keys_for_another_plan_are_refused(rows_key, public):
    wide = RecordsPlan(PLAN.rows, 40, 2.0, 3)

    with pytest.raises(BadInput, match="rotation keys for"):
        RecordsTrainer(wide.to_bytes(), public)
    with pytest.raises(TruncatedCiphertext, match="relinearisation keys"):
        RecordsTrainer(PLAN.to_bytes(), (public[0][:1000], public[1]))


def test_what_a_hospital_gets_wrong_is_named(rows, rows_key, key):
    x, y = rows

    with pytest.raises(OutOfRange, match="scale the features"):
        encrypt_rows(rows_key, PLAN, 2 * x, y, 0)
    with pytest.raises(OutOfRange, match="labels must be 0 or 1"):
        encrypt_rows(rows_key, PLAN, x, y * 2, 0)
    with pytest.raises(BadInput, match="beyond the plan"):
        encrypt_rows(rows_key, PLAN, x, y, 1)
    with pytest.raises(BadInput, match="6 features expected"):
        encrypt_rows(rows_key, PLAN, x[:, 1:], y, 0)
    with pytest.raises(OutOfRange, match="training diverged"):
        encrypt_weights(rows_key, PLAN, np.full(PLAN.features, 17.0))
    with pytest.raises(BadInput, match="create another"):
        encrypt_rows(key, PLAN, x, y, 0)
    with pytest.raises(BadInput, match="don't fit"):
        RecordsPlan(0, 6, 1.0, 3)
    with pytest.raises(BadInput, match="greater than 0"):
        RecordsPlan(10, 6, 0.0, 3)
    with pytest.raises(BadInput, match="damaged"):
        RecordsPlan.from_bytes(b"{")
