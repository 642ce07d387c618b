from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import tenseal.sealapi as seal

from pettoolkit.encryption import _seal
from pettoolkit.encryption.ckks import add, decrypt, encrypt
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import MAX_MODULUS_BITS, Scheme, choose, flooding_sd
from pettoolkit.errors import BadInput

VALUES = [10**i for i in range(1, 8)]
SITES = [2, 3, 5, 10, 30, 100]
CLIPS = [1e-3, 0.1, 1.0, 10.0, 400.0]


def largest_sum(scheme: Scheme) -> float:
    """Worst case by the slow way: every slot of every hospital at the clip, all in phase, and the control slot."""
    slots = np.full(scheme.slots, math.sqrt(2) * scheme.clip)
    slots[0] = 1.2
    return scheme.sites * float(np.mean(np.abs(slots))) * scheme.scale


@pytest.mark.parametrize("flooding", [True, False])
@pytest.mark.parametrize("clip", CLIPS)
def test_every_choice_is_secure_has_headroom_and_is_precise(clip, flooding):
    for values in VALUES:
        for sites in SITES:
            scheme = choose(values, clip, sites, flooding, flooding_tolerance=1e-2)

            assert sum(scheme.all_prime_bits) <= MAX_MODULUS_BITS[scheme.ring_degree]
            assert largest_sum(scheme) < 2.0 ** (scheme.modulus_bits - 1)
            assert scheme.error <= 1e-6
            assert scheme.flooding_sd <= 1e-2
            assert (scheme.flooding_sd > 0) == flooding
            assert scheme.ciphertexts * scheme.values_per_ciphertext >= values
            assert len(scheme.add_context()) < 200


def test_seal_agrees_that_each_ring_is_secure():
    rings = {
        choose(n, c, k, f, flooding_tolerance=1e-2).ring for n in VALUES for c in CLIPS for k in SITES for f in (0, 30)
    }

    assert len(rings) >= 4
    for ring in rings:
        assert _seal.ring(*ring).context.parameters_set()


def test_our_security_table_is_seals():
    for degree, bits in MAX_MODULUS_BITS.items():
        assert seal.CoeffModulus.MaxBitCount(degree, seal.SEC_LEVEL_TYPE.TC128) == bits


@pytest.mark.parametrize(("clip", "flooding"), [(1e-3, True), (1.0, True), (400.0, True), (1.0, False), (400.0, False)])
def test_sums_at_the_clip_come_back_within_the_stated_error(clip, flooding):
    scheme = choose(300, clip, 4, flooding, flooding_tolerance=1e-2)
    key = SecretKey.create(scheme)
    vectors = [np.full(300, clip), np.full(300, clip), np.full(300, clip), np.tile([clip, -clip], 150)]

    total = decrypt(key, add(scheme.add_context(), [encrypt(key, v) for v in vectors]), 4)

    assert np.abs(total - np.sum(vectors, axis=0)).max() <= scheme.error


def test_without_headroom_seal_wraps_round_silently_and_we_refuse():
    tight = {"ring_degree": 4096, "prime_bits": (40,), "special_bits": 0, "scale_bits": 30, "values": 1}
    ring = _seal.ring(4096, (40,))
    secret = seal.KeyGenerator(ring.context).secret_key()
    encryptor, decryptor = seal.Encryptor(ring.context, secret), seal.Decryptor(ring.context, secret)
    plain, total, one = seal.Plaintext(), seal.Ciphertext(), seal.Ciphertext()
    # SEAL stops a single plaintext at half of what fits, and nothing after that: 400 is added as 200 + 200.
    ring.encoder.encode([200.0 + 0j] * 2048, 2.0**30, plain)
    encryptor.encrypt_symmetric(plain, total)
    for _ in range(2 * 3 - 1):
        encryptor.encrypt_symmetric(plain, one)
        ring.evaluator.add_inplace(total, one)
    decryptor.decrypt(total, plain)

    assert ring.encoder.decode_complex(plain)[5].real == pytest.approx(176, abs=0.01)  # 1200 - 1024
    with pytest.raises(BadInput, match="sum of 3 hospitals x 400 does not fit into 40 bits"):
        Scheme(**tight, clip=400.0, sites=3)
    assert Scheme(**tight, clip=100.0, sites=3).headroom_bits > 0


def test_impossible_jobs_are_refused_in_one_line():
    with pytest.raises(BadInput, match=r"lower clip, or allow larger errors$"):
        choose(100, 1e12, 100)
    with pytest.raises(BadInput, match="clip must be a finite number greater than 0"):
        choose(100, float("nan"), 3)
    with pytest.raises(BadInput, match="at least one value"):
        choose(0, 1.0, 3)
    with pytest.raises(BadInput, match="sites must be from 1"):
        choose(10, 1.0, 0)
    with pytest.raises(BadInput, match="rounds"):
        choose(10, 1.0, 3, rounds=0)
    with pytest.raises(BadInput, match="below 128-bit security"):
        Scheme(4096, (60, 60), 0, 40, 10, 1.0, 3)
    with pytest.raises(BadInput, match="ring degree 5000"):
        Scheme(5000, (40,), 0, 30, 10, 1.0, 3)
    with pytest.raises(BadInput, match="is outside"):
        Scheme(4096, (40,), 0, 39, 10, 1e-3, 3)


def test_the_scheme_survives_json_and_the_context_for_additions(scheme):
    assert Scheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme
    assert Scheme.from_add_context(scheme.add_context()) == scheme
    with pytest.raises(BadInput, match="no context"):
        Scheme.from_add_context(b"something else")
    with pytest.raises(BadInput, match="damaged"):
        Scheme.from_add_context(scheme.add_context()[:-3])


def test_each_parameter_changes_the_digest(scheme):
    other = dataclasses.replace(scheme, clip=scheme.clip / 2)

    assert other.digest != scheme.digest


def test_the_flooding_formula_gives_the_published_examples():
    assert flooding_sd(4096, 48, sites=3, tau=1000, bits=30) == pytest.approx(2e-4, rel=0.05)
    assert flooding_sd(4096, 54, sites=3, tau=1000, bits=30) == pytest.approx(3.2e-6, rel=0.05)


def test_scale_is_as_high_as_headroom_allows(scheme):
    assert 0 < scheme.headroom_bits < 1.1


def test_bytes_are_within_the_goals_with_room_for_flooding():
    scheme = choose(100_009, 1.0, 3)
    key = SecretKey.create(scheme)
    blobs = encrypt(key, np.random.default_rng(0).uniform(-1, 1, 100_009))
    total = add(scheme.add_context(), [blobs, blobs, blobs])

    up, down = sum(map(len, blobs)), sum(map(len, total))

    assert scheme.flooding_sd > 0
    assert up <= 2.1 * 4 * 100_009
    assert down <= 4.2 * 4 * 100_009
    assert scheme.bytes_up == pytest.approx(up, rel=0.02)
    assert scheme.bytes_down == pytest.approx(down, rel=0.02)
