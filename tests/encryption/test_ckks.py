from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tenseal.sealapi as seal

from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.ckks import Adder, add, coarse, decrypt, decrypt_measured, encrypt
from pettoolkit.encryption.errors import (
    ForeignCiphertext,
    OutOfRange,
    TruncatedCiphertext,
    WrongCount,
    WrongKey,
)
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme, choose
from pettoolkit.errors import BadInput


def vectors(sites: int, values: int = 5000) -> list[np.ndarray]:
    return list(np.random.default_rng(sites).uniform(-1, 1, (sites, values)))


def relabelled(blob: bytes, **changes: object) -> bytes:
    """The blob with another header and a fitting checksum, as anyone could write it."""
    header, payload = envelope.unseal(blob)
    return envelope.seal(envelope.Header(**{**header.__dict__, **changes}), payload)


def test_one_vector_comes_back(key):
    vector = vectors(1)[0]

    back = decrypt(key, encrypt(key, vector), expected_sites=1)

    assert np.abs(back - vector).max() < 1e-5


@pytest.mark.parametrize("sites", [2, 3, 7, 20])
def test_the_sum_of_all_hospitals_comes_back(sites):
    scheme = choose(1000, 1.0, sites)
    key = SecretKey.create(scheme)
    parts = vectors(sites, 1000)

    total = decrypt(key, add(scheme.add_context(), (encrypt(key, v) for v in parts)), expected_sites=sites)

    assert np.abs(total - np.sum(parts, axis=0)).max() < 1e-5


def test_encryption_is_never_repeated(key):
    vector = vectors(1)[0]

    assert encrypt(key, vector)[0] != encrypt(key, vector)[0]


def test_adding_in_any_order_or_in_two_steps_gives_the_same_sum(key, scheme):
    a, b, c = (encrypt(key, v) for v in vectors(3))
    context = scheme.add_context()

    one = decrypt(key, add(context, [a, b, c]), 3)
    other = decrypt(key, add(context, [add(context, [c, a]), b]), 3)

    np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_missing_or_doubled_hospital_is_refused(key, scheme):
    a, b, _ = (encrypt(key, v) for v in vectors(3))

    for held, expected in ((add(scheme.add_context(), [a, b]), 3), (add(scheme.add_context(), [a, b, b]), 2)):
        with pytest.raises(WrongCount, match=f"{expected} are expected"):
            decrypt(key, held, expected_sites=expected)


def test_the_count_slot_catches_what_the_header_does_not_say(key, scheme):
    a, b, _ = (encrypt(key, v) for v in vectors(3))
    lying = [relabelled(blob, sites=3) for blob in add(scheme.add_context(), [a, b])]

    with pytest.raises(WrongCount, match=r"the sum holds 2 hospital\(s\), 3 are expected"):
        decrypt(key, lying, expected_sites=3)


def test_a_site_missing_in_one_ciphertext_only_is_caught(key, scheme):
    a, b, c = (encrypt(key, v) for v in vectors(3))
    whole, part = add(scheme.add_context(), [a, b, c]), add(scheme.add_context(), [a, b])
    mixed = [whole[0], relabelled(part[1], sites=3)]

    with pytest.raises(WrongCount, match="ciphertext 1"):
        decrypt(key, mixed, expected_sites=3)


def test_a_hospital_is_added_once_and_no_more_than_there_is_headroom_for(key, scheme):
    adder = Adder(scheme.add_context())
    a, b, c = (encrypt(key, v) for v in vectors(3))
    adder.add(a, site="a")

    with pytest.raises(WrongCount, match="hospital a"):
        adder.add(a, site="a")
    adder.add(b, site="b")
    adder.add(c, site="c")
    with pytest.raises(WrongCount, match="headroom for 3 hospitals"):
        adder.add(encrypt(key, vectors(1)[0]), site="d")
    assert adder.sites == 3


def test_a_wrong_key_is_named_by_its_id(key, scheme):
    other = SecretKey.create(scheme)

    with pytest.raises(WrongKey, match=other.key_id):
        decrypt(key, encrypt(other, vectors(1)[0]), 1)
    adder = Adder(scheme.add_context())
    adder.add(encrypt(key, vectors(1)[0]))
    with pytest.raises(WrongKey, match="same key file"):
        adder.add(encrypt(other, vectors(1)[0]))


def test_a_wrong_key_under_a_forged_id_is_caught_after_decryption(key, scheme):
    other = SecretKey.create(scheme)
    forged = [relabelled(blob, key_id=bytes.fromhex(key.key_id)) for blob in encrypt(other, vectors(1)[0])]

    with pytest.raises(WrongKey, match="decrypts to garbage"):
        decrypt(key, forged, 1)


def test_another_round_is_refused_by_header_and_by_check_value(key):
    old = encrypt(key, vectors(1)[0], label="run/1")
    forged = [relabelled(blob, label=envelope.label_digest("run/2")) for blob in old]

    assert decrypt(key, old, 1, label="run/1").shape == (5000,)
    with pytest.raises(ForeignCiphertext, match="run/2"):
        decrypt(key, old, 1, label="run/2")
    with pytest.raises(WrongKey, match="for another round"):
        decrypt(key, forged, 1, label="run/2")


def test_swapped_ciphertexts_are_refused_by_header_and_by_check_value(key):
    first, second = encrypt(key, vectors(1)[0])

    with pytest.raises(TruncatedCiphertext, match="in its place"):
        decrypt(key, [second, first], 1)
    with pytest.raises(WrongKey):
        decrypt(key, [relabelled(second, index=0), relabelled(first, index=1)], 1)


def test_a_check_value_that_is_almost_right_is_refused(key, monkeypatch):
    blobs = encrypt(key, vectors(1)[0])
    right = SecretKey.check_value
    monkeypatch.setattr(SecretKey, "check_value", lambda *a: right(*a) + 3 * key.scheme.error)

    with pytest.raises(WrongKey):
        decrypt(key, blobs, 1)


@pytest.mark.parametrize("keep", [0, 10, 54, 55, 1000, -1])
def test_truncated_bytes_are_named(key, scheme, keep):
    first, second = encrypt(key, vectors(1)[0])

    for use in (lambda b: decrypt(key, b, 1), Adder(scheme.add_context()).add):
        with pytest.raises(TruncatedCiphertext):
            use([first[:keep], second])


def test_changed_missing_and_alien_bytes_are_named(key):
    first, second = encrypt(key, vectors(1)[0])
    changed = bytearray(first)
    changed[500] ^= 1

    for blobs in ([bytes(changed), second], [first], [first, second, second], [b"x" * 40_000, second], []):
        with pytest.raises(TruncatedCiphertext):
            decrypt(key, blobs, 1)


def test_a_payload_that_seal_cannot_read_is_named(key):
    first, second = encrypt(key, vectors(1)[0])
    header, payload = envelope.unseal(first)

    for broken in (payload[:100], b"", os.urandom(len(payload))):
        with pytest.raises(TruncatedCiphertext, match="are not what its header says"):
            decrypt(key, [envelope.seal(header, broken), second], 1)


def test_ciphertexts_of_other_parameters_are_refused(key, scheme):
    other = SecretKey.create(choose(5000, 2.0, 3))
    foreign = encrypt(other, vectors(1)[0])

    with pytest.raises(ForeignCiphertext, match="other parameters"):
        decrypt(key, foreign, 1)
    with pytest.raises(ForeignCiphertext, match="other parameters"):
        Adder(scheme.add_context()).add(foreign)
    forged = [relabelled(blob, scheme=scheme.digest) for blob in foreign]
    with pytest.raises(ForeignCiphertext, match="scale"):
        Adder(scheme.add_context()).add(forged)


def test_a_bad_hospital_leaves_the_sum_as_it_was(key, scheme):
    adder = Adder(scheme.add_context())
    a, b, c = (encrypt(key, v) for v in vectors(3))
    adder.add(a)
    header, payload = envelope.unseal(b[1])

    with pytest.raises(TruncatedCiphertext):
        adder.add([b[0], envelope.seal(header, payload[:99])])
    adder.add(b)
    adder.add(c)

    np.testing.assert_allclose(decrypt(key, adder.result(), 3), np.sum(vectors(3), axis=0), atol=1e-9)


def test_nothing_added_is_no_sum(scheme):
    with pytest.raises(WrongCount, match="no hospital"):
        Adder(scheme.add_context()).result()


@pytest.mark.parametrize(
    ("value", "error"), [(1.01, "exceeds the clip 1"), (float("nan"), "not finite"), (-float("inf"), "not finite")]
)
def test_values_beyond_the_clip_are_named(key, value, error):
    vector = np.zeros(5000)
    vector[7] = value

    with pytest.raises(OutOfRange, match=f"value 7 {error}|value 7 is {error}"):
        encrypt(key, vector)


def test_a_vector_of_another_length_is_refused(key):
    with pytest.raises(BadInput, match="5000 values"):
        encrypt(key, np.zeros(4999))


def test_what_the_coordinator_holds_adds_but_neither_encrypts_nor_decrypts(key, scheme):
    context = scheme.add_context()
    blobs = encrypt(key, vectors(1)[0])
    held = Scheme.from_add_context(context)
    ring = _seal.ring(*held.ring)

    assert len(context) < 200
    assert json.loads(context[7:])  # parameters in the clear, nothing else
    with pytest.raises(ValueError, match="secret key is not valid"):
        seal.Encryptor(ring.context, seal.SecretKey())
    with pytest.raises(ValueError, match="public key is not valid"):
        seal.Encryptor(ring.context, seal.PublicKey())
    with pytest.raises(ValueError, match="secret key is not valid"):
        seal.Decryptor(ring.context, seal.SecretKey())
    for material in (context, *blobs, *(envelope.unseal(blob)[1] for blob in blobs)):
        with pytest.raises(BadInput):
            SecretKey.from_bytes(material)
        with pytest.raises(BadInput):
            SecretKey(held, material).native()
    with pytest.raises(WrongKey):
        decrypt(SecretKey.create(held), blobs, 1)


def test_the_adder_holds_no_more_than_one_sum(key, scheme):
    adder = Adder(scheme.add_context())

    for vector in vectors(3):
        adder.add(encrypt(key, vector))

    assert len(adder._sums) == scheme.ciphertexts


def test_a_hospital_twice_in_anothers_place_is_refused_by_their_marks(key):
    sites = ("east", "north", "west")
    blobs = {site: encrypt(key, np.zeros(key.scheme.values), "run/1", site) for site in sites}

    def total(*names):
        adder = Adder(key.scheme.add_context())
        for name in names:
            adder.add(blobs[name])
        return adder.result()

    assert np.allclose(decrypt(key, total(*sites), 3, "run/1", sites), 0, atol=1e-6)
    with pytest.raises(WrongCount, match="exactly once"):
        decrypt(key, total("east", "east", "west"), 3, "run/1", sites)
    with pytest.raises(WrongCount, match="exactly once"):
        decrypt(key, total("east", "east", "east"), 3, "run/1", ("east", "ghost", "other"))


def test_a_sum_at_another_level_is_refused_before_it_is_decrypted():
    scheme = choose(50, 1.0, 3, flooding_tolerance=1e-9)
    assert len(scheme.prime_bits) == 2
    key = SecretKey.create(scheme)
    header, _ = envelope.unseal(encrypt(key, np.zeros(50))[0])
    ring, plain = _seal.ring(*scheme.ring), seal.Plaintext()
    ring.encoder.encode(1.0, ring.context.last_parms_id(), 2.0**20, plain)
    with _seal.scratch() as scratch:
        payload = scratch.dump(seal.Encryptor(ring.context, key.native()).encrypt_symmetric(plain))
        lower = envelope.seal(header, payload)
    counted = []

    with pytest.raises(ForeignCiphertext, match="another level"):
        decrypt_measured(key, [lower], 1, before=lambda: counted.append(1))
    assert counted == []


def test_the_error_is_measured_where_the_plaintext_is_known(key, scheme):
    parts = vectors(3)
    total = add(scheme.add_context(), [encrypt(key, v) for v in parts])

    found = decrypt_measured(key, total, 3)

    true = np.abs(found.values - np.sum(parts, axis=0)).max()
    assert found.error == pytest.approx(true, rel=0.6)  # the same noise, in other slots
    assert found.error < 2 * scheme.error


@pytest.mark.parametrize("error", [1e-12, 2.0**-40, 3.1e-9])
def test_a_measured_error_is_told_as_a_power_of_two_only(error):
    assert error <= coarse(error) < 2 * error
    assert np.log2(coarse(error)) == round(np.log2(coarse(error)))
    assert coarse(0.0) == 0.0
