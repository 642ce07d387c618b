"""Published exact sums give the key away; flooded ones, which are all that is ever released, do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal

from pettoolkit.attacks.key_recovery import PublishedSum, intt, ntt, polynomials, real_slots_of, recover_key
from pettoolkit.encryption import _seal, ckks, envelope
from pettoolkit.encryption.errors import Refused
from pettoolkit.encryption.flooding import FloodingLedger
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme, choose

SITES = 3
VALUES = 4094  # one full ciphertext
WITHOUT = choose(VALUES, clip=1.0, sites=SITES, flooding=False)
DEFAULT = choose(VALUES, clip=1.0, sites=SITES)


def summed(key: SecretKey, label: str, seed: int) -> list[bytes]:
    """The coordinator's sum of three hospitals' updates."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.1, (SITES, VALUES)).clip(-1, 1)
    return ckks.add(key.scheme.add_context(), [ckks.encrypt(key, v, label) for v in vectors])


def view(scheme: Scheme, blobs: list[bytes], published: np.ndarray) -> PublishedSum:
    """What the coordinator holds of one sum, and what it reads in the papers."""
    _, payload = envelope.unseal(blobs[0])
    ring = _seal.ring(*scheme.ring)
    with _seal.scratch() as scratch:
        ciphertext = scratch.load(seal.Ciphertext(), ring, payload, "sum")
    c0, c1 = polynomials(ciphertext, scheme.ring_degree)
    real = real_slots_of(published, scheme.slots, SITES)
    return PublishedSum(c0, c1, real, scheme.scale, prime(ring))


def prime(ring: Any) -> int:
    return int(ring.context.first_context_data().parms().coeff_modulus()[0].value())


def matches(found: np.ndarray | None, key: SecretKey) -> bool:
    """Whether these are the key's coefficients, at all roots of unity where SEAL keeps it."""
    if found is None:
        return False
    p = prime(_seal.ring(*key.scheme.ring))
    data = key.native().data()
    return list(ntt(found.astype(object) % p, p)) == [data[i] for i in range(len(found))]


def attack(scheme: Scheme, published: Any) -> tuple[np.ndarray | None, SecretKey]:
    """Two rounds whose sums are published by ``published(exact sum, name)``."""
    key = SecretKey.create(scheme)
    views = []
    for number in (1, 2):
        blobs = summed(key, f"run/{number}", number)
        exact = ckks.decrypt(key, blobs, SITES, f"run/{number}")
        views.append(view(scheme, blobs, published(exact, f"run/{number}")))
    return recover_key(*views), key


def test_exact_sums_give_the_key_away() -> None:
    found, key = attack(WITHOUT, lambda exact, _: exact)

    assert matches(found, key)


def test_the_recovered_key_decrypts_another_hospitals_update() -> None:
    found, key = attack(WITHOUT, lambda exact, _: exact)
    assert found is not None
    secret = np.random.default_rng(9).uniform(-1, 1, VALUES)
    stolen = view(WITHOUT, ckks.encrypt(key, secret, "run/3"), secret)

    p = stolen.prime
    message = intt((stolen.c0 + stolen.c1 * ntt(found.astype(object) % p, p)) % p, p)
    centred = np.where(message > p // 2, message - p, message).astype(float) / WITHOUT.scale
    roots = np.exp(1j * np.pi / len(centred) * np.array([pow(3, j, 2 * len(centred)) for j in range(4)]))
    read = np.polynomial.polynomial.polyval(roots, centred)

    np.testing.assert_allclose(read[1:].real, secret[:6:2], atol=1e-5)


def test_without_room_for_flooding_nothing_is_released_at_all() -> None:
    ledger = FloodingLedger(WITHOUT, "key")

    with pytest.raises(Refused, match="no room"):
        ledger.release("run/1", np.zeros(3))


def test_it_is_the_flooding_that_keeps_it_and_not_the_parameters() -> None:
    """The same parameters as those that give the key away, with noise of the size that the formula asks for."""
    ledger = FloodingLedger(replace(WITHOUT, flooding_bits=30, tau=2), "key")

    found, _ = attack(WITHOUT, lambda exact, name: ledger.release(name, exact))

    assert found is None


def extended(key: SecretKey, blobs: list[bytes]) -> np.ndarray:
    """The same sum in extended precision, real parts where they belong: what a careful library could publish."""
    from scipy.fft import ifft

    seen = view(key.scheme, blobs, np.zeros(VALUES))
    n, p, secret = len(seen.c0), seen.prime, key.native().data()
    s = np.array([int(secret[i]) for i in range(n)], dtype=object)
    message = intt((seen.c0 + seen.c1 * s) % p, p)
    centred = np.where(message > p // 2, message - p, message).astype(np.longdouble)
    values = ifft(np.concatenate([centred, np.zeros_like(centred)])) * (2 * n)
    slots = values[[pow(3, j, 2 * n) for j in range(n // 2)]].real / np.longdouble(key.scheme.scale)
    published = np.zeros(VALUES, dtype=np.longdouble)
    published[::2] = slots[1:]
    return published


def attack_extended(scheme: Scheme, noise: Callable[[str], np.ndarray]) -> bool:
    """Whether two sums published with this noise on the same slots, and nothing else different, give the key away."""
    key = SecretKey.create(scheme)
    views = []
    for label in ("run/1", "run/2"):
        blobs = summed(key, label, len(views))
        views.append(view(scheme, blobs, extended(key, blobs) + noise(label)))
    return matches(recover_key(*views), key)


def test_the_default_parameters_fall_as_well_if_they_are_not_flooded_and_hold_by_default() -> None:
    """One path, the same slots and precision: flooding off, then as the hospitals' ledger draws it."""
    ledger = FloodingLedger(DEFAULT, "key")

    assert attack_extended(DEFAULT, lambda _: np.zeros(VALUES))
    assert not attack_extended(DEFAULT, lambda label: ledger.release(label, np.zeros(VALUES)))


@pytest.mark.parametrize("scheme", [WITHOUT, DEFAULT], ids=["scale 2^36", "scale 2^56"])
def test_where_the_attack_begins_to_succeed(scheme: Scheme) -> None:
    """Flooding turned down by factors of eight: it begins at about one unit of the rounded plaintext."""
    sized = replace(scheme, flooding_bits=30, tau=2).flooding_sd
    rng = np.random.default_rng(0)

    succeeded = {
        bits: attack_extended(scheme, lambda _, bits=bits: sized * 2.0**-bits * rng.normal(size=VALUES))  # type: ignore[misc]
        for bits in range(0, 40, 3)
    }

    begins = min(bits for bits, success in succeeded.items() if success)
    assert all(success == (bits >= begins) for bits, success in succeeded.items())
    assert 25 <= begins <= 36  # so many bits of noise too little
    assert 0.01 < sized * 2.0**-begins * scheme.scale < 4


def test_coarser_numbers_block_the_exact_attack_which_is_no_protection() -> None:
    """Float32 always; at the default scale even double precision, whose last bits are below one unit no more."""
    in_float32, _ = attack(WITHOUT, lambda exact, _: exact.astype(np.float32))
    in_double, _ = attack(DEFAULT, lambda exact, _: exact)

    assert in_float32 is None
    assert in_double is None


def test_the_usual_parameters_of_other_libraries_fall_too() -> None:
    """Real values only, public-key encryption, 8192 and [60, 40, 40] at 2^40: two published sums suffice."""
    degree, primes, scale = 8192, (60, 40, 40), 2.0**40
    ring = _seal.ring(degree, primes)
    generator = seal.KeyGenerator(ring.context)
    secret, public = generator.secret_key(), seal.PublicKey()
    generator.create_public_key(public)
    encryptor, decryptor = seal.Encryptor(ring.context, public), seal.Decryptor(ring.context, secret)
    views = []
    for seed in (1, 2):
        total = seal.Ciphertext()
        for site in range(SITES):
            plain, one = seal.Plaintext(), seal.Ciphertext()
            values = np.random.default_rng([seed, site]).normal(0, 0.1, degree // 2)
            ring.encoder.encode(values.tolist(), scale, plain)
            encryptor.encrypt(plain, one)
            total = one if site == 0 else total
            if site:
                ring.evaluator.add_inplace(total, one)
        plain = seal.Plaintext()
        decryptor.decrypt(total, plain)
        c0, c1 = polynomials(total, degree)
        views.append(PublishedSum(c0, c1, np.array(ring.encoder.decode_double(plain)), scale, prime(ring)))

    found = recover_key(*views)

    assert found is not None
    data = secret.data()
    assert list(ntt(found.astype(object) % views[0].prime, views[0].prime)) == [data[i] for i in range(degree)]


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_transform_agrees_with_evaluating_the_polynomial(n: int) -> None:
    p = prime(_seal.ring(*WITHOUT.ring))
    coefficients = np.array([int(x) for x in np.random.default_rng(n).integers(0, 2**35, n)], dtype=object)

    values = ntt(coefficients, p)

    direct = set()
    root = next(r for b in range(2, 99) if pow(r := pow(b, (p - 1) // (2 * n), p), n, p) == p - 1)
    for odd in range(1, 2 * n, 2):
        direct.add(sum(int(c) * pow(root, odd * k, p) for k, c in enumerate(coefficients)) % p)
    assert set(values) == direct
    assert list(intt(values, p)) == list(coefficients)
