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
        weights = refresh(rows_key, PLAN, trainer.step(blob), weights).weights
        blob = encrypt_weights(rows_key, PLAN, weights)
        plain = plain_step(PLAN, *rows, plain)

    assert np.abs(plain - 0.1).max() > 0.3  # it moved
    np.testing.assert_allclose(weights, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("n", "features", "rate"), [(1, 3, 1.0), (3, 16, 1.0), (12, 41, 1.5), (60, 5, 8.0), (1500, 6, 2.0), (2048, 16, 1.5)]
)
def test_the_error_of_a_refresh_is_what_flooding_is_sized_for(rows_key, n, features, rate):
    """From one row, where the sum's error is divided by nothing, to all rows; without room for an empty first block."""
    plan = RecordsPlan(n, features, rate, 1)
    rng = np.random.default_rng(n)
    x, y = rng.uniform(-1, 1, (n, features)), rng.integers(0, 2, n)
    trainer = RecordsTrainer(plan.to_bytes(), evaluation_keys(rows_key, plan))
    trainer.add_rows(encrypt_rows(rows_key, plan, x, y, 0), "all")
    errors = []
    for _ in range(2):
        sent = rng.uniform(-1, 1, features)
        found = refresh(rows_key, plan, trainer.step(encrypt_weights(rows_key, plan, sent)), sent)
        assert found.sound
        assert 0 < found.error < 1e-10  # measured in slots whose content is known
        errors.append(found.weights - plain_step(plan, x, y, sent))

    assert np.sqrt(np.mean(np.square(errors))) <= plan.error_sd
    assert np.abs(errors).max() < 5 * plan.error_sd


def test_few_rows_take_more_flooding():
    many, few = (RecordsPlan(n, 42, 1.5, 3).flooding_sd(60, 30) for n in (2048, 20))

    assert many < 1e-4
    assert few > 10 * many
    assert RecordsPlan(2048, 42, 1.5, 3).flooding_sd(60, 30, gain=2.0) == pytest.approx(2 * many)


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

    sent = PLAN.blocked(before)
    empty = np.flatnonzero(sent == 0)
    assert len(empty) == PLAN.blocks - PLAN.features > 0
    assert np.abs(slots[:, 1:] - sent[:, None]).max() < 1e-10
    assert np.abs(slots[empty, 0]).max() < 1e-10


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
    assert not refresh(other, PLAN, forged, weights).sound  # nothing raised: who sees it could ask again


def shifted_rows(trainer, ring):
    """A row of the uploads turned into the weights' slots, at the level of a step: what a coordinator can make."""
    from pettoolkit.encryption import _seal

    turned = seal.Ciphertext()
    trainer._ring.evaluator.rotate_vector(trainer._rows[0], PLAN.across[0], trainer._galois, turned)
    turned = trainer._to_level(turned, 5)
    header, _ = envelope.unseal(ring)
    with _seal.scratch() as scratch:
        return envelope.seal(header, scratch.dump(turned))


def test_a_refresh_answers_the_same_whatever_the_ciphertext_decrypts_to(rows_key, trainer):
    sent = np.linspace(-1, 1, PLAN.features)
    step = trainer.step(encrypt_weights(rows_key, PLAN, sent))
    row = shifted_rows(trainer, step)
    far = RecordsPlan(PLAN.rows, PLAN.features, PLAN.learning_rate, 3)

    sound = refresh(rows_key, far, step, sent)
    other_point = refresh(rows_key, PLAN, step, sent + 0.5)
    a_row = refresh(rows_key, PLAN, row, sent)

    assert sound.sound
    for refused, before in ((other_point, sent + 0.5), (a_row, sent)):
        assert not refused.sound
        np.testing.assert_array_equal(refused.weights, before)  # nothing decrypted goes on


def test_weights_out_of_range_are_no_step_either(rows, rows_key, public):
    steep = RecordsPlan(PLAN.rows, PLAN.features, 500.0, 3)
    diverging = RecordsTrainer(steep.to_bytes(), public)
    diverging.add_rows(encrypt_rows(rows_key, steep, *rows, 0), "all")
    sent = np.full(PLAN.features, 2.0)

    found = refresh(rows_key, steep, diverging.step(encrypt_weights(rows_key, steep, sent)), sent)

    assert np.abs(plain_step(steep, *rows, sent)).max() > 16
    assert not found.sound
    np.testing.assert_array_equal(found.weights, sent)


def test_a_refused_header_is_not_counted_as_a_decryption(rows_key, trainer):
    weights = np.zeros(PLAN.features)
    step = trainer.step(encrypt_weights(rows_key, PLAN, weights))
    counted = []

    def count():
        counted.append(1)

    for bad in (step[:-1], encrypt_weights(rows_key, PLAN, weights)):
        with pytest.raises((TruncatedCiphertext, ForeignCiphertext)):
            refresh(rows_key, PLAN, bad, weights, count)
    assert counted == []
    refresh(rows_key, PLAN, step, weights, count)
    assert counted == [1]


def test_ciphertexts_of_another_run_are_refused(rows_key, trainer, rows):
    x, y = rows
    other = RecordsPlan(**{**PLAN.__dict__, "run": "another"})

    with pytest.raises(ForeignCiphertext, match="another plan"):
        trainer.step(encrypt_weights(rows_key, other, np.zeros(PLAN.features)))
    with pytest.raises(ForeignCiphertext, match="another plan"):
        trainer.add_rows(encrypt_rows(rows_key, other, x[:10], y[:10], 0), "late")


def test_only_what_has_the_level_of_a_step_is_decrypted(rows_key, trainer):
    weights = np.zeros(PLAN.features)

    with pytest.raises(ForeignCiphertext, match="another level"):
        refresh(rows_key, PLAN, encrypt_weights(rows_key, PLAN, weights), weights)


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
