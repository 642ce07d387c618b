from __future__ import annotations

import os
import pickle
import stat

import numpy as np
import pytest

from pettoolkit.encryption import keys
from pettoolkit.encryption.ckks import decrypt, encrypt
from pettoolkit.encryption.errors import WrongKey
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import choose
from pettoolkit.errors import BadInput, Refused


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_saved_key_decrypts_what_was_encrypted_before(key, tmp_path):
    vector = np.linspace(-1, 1, 5000)
    blobs = encrypt(key, vector)
    key.save(tmp_path / "a.key")

    loaded = SecretKey.load(tmp_path / "a.key")

    assert (loaded.key_id, loaded.scheme) == (key.key_id, key.scheme)
    np.testing.assert_allclose(decrypt(loaded, blobs, 1), vector, atol=1e-9)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_key_files_are_readable_by_their_owner_only(key, tmp_path, umask):
    before = os.umask(umask)
    try:
        key.save(tmp_path / "a.key")
    finally:
        os.umask(before)

    assert mode(tmp_path / "a.key") == 0o600


def test_a_key_that_others_can_read_is_refused(key, tmp_path):
    key.save(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o640)

    with pytest.raises(Refused, match="chmod 600"):
        SecretKey.load(tmp_path / "a.key")


def test_create_never_overwrites(scheme, tmp_path):
    made = keys.create(tmp_path / "deep" / "a.key", scheme)

    with pytest.raises(Refused, match="keys rotate"):
        keys.create(tmp_path / "deep" / "a.key", scheme)
    assert keys.inspect(tmp_path / "deep" / "a.key") == made


def test_inspect_tells_nothing_secret(scheme, tmp_path):
    info = keys.create(tmp_path / "a.key", scheme)
    secret = SecretKey.load(tmp_path / "a.key").to_bytes()

    assert len(info.key_id) == 16
    assert set(vars(info)) == {"key_id", "scheme", "path"}
    assert repr(SecretKey.from_bytes(secret)) == f"SecretKey({info.key_id})"


def test_rotate_replaces_the_key_and_keeps_the_old_one_aside(scheme, tmp_path):
    old = keys.create(tmp_path / "a.key", scheme)
    blobs = encrypt(SecretKey.load(tmp_path / "a.key"), np.zeros(5000))

    new = keys.rotate(tmp_path / "a.key")

    retired = tmp_path / f"a.key.{old.key_id}.retired"
    assert new.key_id != old.key_id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.key", retired.name]
    assert mode(tmp_path / "a.key") == mode(retired) == 0o600
    assert decrypt(SecretKey.load(retired), blobs, 1).shape == (5000,)
    with pytest.raises(WrongKey):
        decrypt(SecretKey.load(tmp_path / "a.key"), blobs, 1)


def test_damaged_missing_and_alien_files_are_named(key, tmp_path):
    data = bytearray(key.to_bytes())
    data[len(data) // 2] ^= 1
    for name, content, message in (
        ("changed", bytes(data), "damaged"),
        ("short", key.to_bytes()[:-5], "damaged"),
        ("alien", b"ssh-rsa AAAA", "no key file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(BadInput, match=message):
            SecretKey.load(path)
    with pytest.raises(BadInput, match="can't be read"):
        SecretKey.load(tmp_path / "none")


def test_a_key_is_never_pickled(key):
    with pytest.raises(Refused, match="never pickled"):
        pickle.dumps(key)


def test_one_key_serves_other_jobs_on_its_ring_only(key):
    small = key.for_scheme(choose(42, 5.0, 3))

    assert small.key_id == key.key_id
    np.testing.assert_allclose(decrypt(small, encrypt(small, np.full(42, 4.5)), 1), 4.5, atol=1e-9)
    with pytest.raises(BadInput, match="create another"):
        key.for_scheme(choose(42, 5.0, 3, flooding=False))


def test_check_values_differ_by_key_label_and_position(key, scheme):
    other = SecretKey.create(scheme)
    found = {k.check_value(label, i) for k in (key, other) for label in ("a", "b") for i in range(10)}

    assert len(found) == 40
    assert all(0 <= value < 0.5 for value in found)
