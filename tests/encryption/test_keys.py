from __future__ import annotations

import dataclasses
import os
import pickle
import stat

import numpy as np
import pytest

from pettoolkit.encryption import keys
from pettoolkit.encryption.ckks import decrypt, encrypt
from pettoolkit.encryption.errors import WrongKey
from pettoolkit.encryption.keys import AGGREGATION, STATISTICS, KeyRequest, KeyUse, SecretKey
from pettoolkit.encryption.parameters import choose
from pettoolkit.errors import BadInput, Refused

USE = KeyUse(AGGREGATION, "small", ("run-1", "run-2"))


def request_for(scheme, **use):
    return KeyRequest(scheme, dataclasses.replace(USE, **use))


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
    made = keys.create(tmp_path / "deep" / "a.key", request_for(scheme))

    with pytest.raises(Refused, match="keys rotate"):
        keys.create(tmp_path / "deep" / "a.key", request_for(scheme))
    assert keys.inspect(tmp_path / "deep" / "a.key") == made


def test_inspect_tells_nothing_secret(scheme, tmp_path):
    info = keys.create(tmp_path / "a.key", request_for(scheme))
    secret = SecretKey.load(tmp_path / "a.key").to_bytes()

    assert len(info.key_id) == 16
    assert set(vars(info)) == {"key_id", "scheme", "path", "use"}
    assert repr(SecretKey.from_bytes(secret)) == f"SecretKey({info.key_id})"


def test_rotate_replaces_the_key_and_keeps_the_old_one_aside(scheme, tmp_path):
    old = keys.create(tmp_path / "a.key", request_for(scheme))
    blobs = encrypt(SecretKey.load(tmp_path / "a.key"), np.zeros(5000))

    new = keys.rotate(tmp_path / "a.key")

    retired = tmp_path / f"a.key.{old.key_id}.retired"
    assert new.key_id != old.key_id
    assert (new.use, new.scheme) == (old.use, old.scheme)
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


def test_a_key_file_says_for_what_it_was_made(scheme, tmp_path):
    made = keys.create(tmp_path / "a.key", request_for(scheme))

    assert made.use == SecretKey.load(tmp_path / "a.key").use == keys.inspect(tmp_path / "a.key").use == USE
    assert request_for(scheme).file_name == f"small-aggregation-{scheme.ring_degree}-{scheme.modulus_bits}.key"
    with pytest.raises(BadInput, match="purpose must be one of"):
        KeyUse("anything")


def test_what_a_key_is_for_is_read_without_the_secret(scheme, tmp_path):
    made = keys.create(tmp_path / "a.key", request_for(scheme))
    head = (tmp_path / "a.key").read_bytes().split(b"\n", 2)
    (tmp_path / "head.key").write_bytes(b"\n".join(head[:2]) + b"\n")  # nothing of the secret is left
    (tmp_path / "head.key").chmod(0o600)

    assert dataclasses.replace(keys.read_head(tmp_path / "head.key"), path=made.path) == made
    with pytest.raises(BadInput, match="damaged"):
        SecretKey.load(tmp_path / "head.key")


def test_a_key_serves_its_purpose_runs_and_parameters_only_and_the_rest_is_named(scheme, tmp_path):
    made = keys.create(tmp_path / "a.key", request_for(scheme))
    larger = choose(5000, 1.0, scheme.sites + 1)
    elsewhere = choose(5000, 1.0, 3, flooding=False)

    assert keys.find(tmp_path, AGGREGATION, scheme, "run-2") == made
    for purpose, job, run, problem in (
        (STATISTICS, scheme, "run-1", "a.key is for aggregation of experiment small"),
        (AGGREGATION, scheme, "run-3", "experiment small, which does not have this run"),
        (AGGREGATION, larger, "run-1", "a.key was made for 3 hospitals, this job has 4"),
        (AGGREGATION, elsewhere, "run-1", "a.key was made for ring"),
    ):
        with pytest.raises(Refused, match=problem):
            keys.find(tmp_path, purpose, job, run)
    with pytest.raises(Refused, match="carry the key file there"):
        keys.find(tmp_path / "none", AGGREGATION, scheme, "run-1")


def test_a_key_made_for_no_flooding_does_no_job_that_needs_it(scheme):
    made = SecretKey.create(dataclasses.replace(scheme, flooding_bits=0, tau=0))

    with pytest.raises(BadInput, match="this job needs 30"):
        made.for_scheme(scheme)


def test_the_right_one_of_several_keys_is_taken_and_one_that_others_can_read_is_refused(scheme, tmp_path):
    keys.create(tmp_path / "a.key", request_for(scheme, runs=("other",)))
    made = keys.create(tmp_path / "b.key", request_for(scheme))

    assert keys.find(tmp_path, AGGREGATION, scheme, "run-1") == made
    (tmp_path / "b.key").chmod(0o644)
    with pytest.raises(Refused, match="chmod 600"):
        keys.find(tmp_path, AGGREGATION, scheme, "run-1")


def test_a_key_that_was_rotated_is_read_again(scheme, tmp_path):
    keys.create(tmp_path / "a.key", request_for(scheme))
    first = keys.load_once(tmp_path / "a.key")

    new = keys.rotate(tmp_path / "a.key")

    assert keys.load_once(tmp_path / "a.key").key_id == new.key_id != first.key_id
    assert keys.find(tmp_path, AGGREGATION, scheme, "run-1").key_id == new.key_id
