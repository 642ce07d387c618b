"""Encrypted aggregation: the same model as federated, and a coordinator that can only add."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.encryption import ckks
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import PetError, SiteFailed
from pettoolkit.federation import flower, wire
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.site import Site
from pettoolkit.records import Models, RunSpec
from tests import small_cohort as small


def model(spec: RunSpec) -> dict[str, np.ndarray]:
    with small.grid(small.hospitals(spec)) as grid:
        return coordinate(grid, spec).models.by_site[Models.SHARED].unpack()


@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedadam"])
@pytest.mark.parametrize("rounds", [1, 8])
def test_it_equals_federated(strategy: str, rounds: int) -> None:
    options = {"strategy": strategy, "rounds": rounds}

    plain, encrypted = model(small.spec("federated", **options)), model(small.spec("encrypted_aggregation", **options))

    tolerance = 1e-5 if rounds == 1 else 1e-4
    for name, value in plain.items():
        np.testing.assert_allclose(encrypted[name], value, atol=tolerance)


class Recorder(MeteredGrid):
    """A coordinator that keeps everything it sent and got."""

    held: list[bytes]

    def _exchange(self, messages, *rest):  # type: ignore[no-untyped-def]
        messages = list(messages)
        replies = super()._exchange(messages, *rest)
        self.held = getattr(self, "held", [])
        self.held += [flower.pack(m) for m in (*messages, *replies.values())]
        return replies


def test_from_everything_the_coordinator_held_it_can_neither_decrypt_nor_encrypt() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    secret = carried(sites["east"])
    with small.grid(sites) as grid:
        recorder = Recorder(grid)
        coordinate(recorder, spec)
    scheme, _ = scheme_of(spec, contract_of(spec))
    everything = b"".join(recorder.held) + scheme.add_context()
    ciphertexts = [
        wire.blobs_of(m.content)
        for m in map(_message, recorder.held)
        if m.has_content()
        and any(a.stype == wire.STYPE_CKKS for r in m.content.array_records.values() for a in r.values())
    ]

    assert secret.to_bytes()[-96:-32] not in everything
    assert len(scheme.add_context()) < 200
    assert ciphertexts
    for attempt in (scheme.add_context(), b"".join(recorder.held)):
        with pytest.raises(PetError):
            SecretKey.from_bytes(attempt)
    own = SecretKey.create(scheme)  # the best it can do: a key of its own
    for blobs in ciphertexts[:4]:
        with pytest.raises(PetError):
            ckks.decrypt(own, blobs, 1)
    forged = ckks.encrypt(own, np.zeros(scheme.values), f"{spec.run_id}/1")
    real = carried(sites["east"]).for_scheme(scheme)
    with pytest.raises(PetError):
        ckks.decrypt(real, forged, 1, f"{spec.run_id}/1")


def carried(site: Site) -> SecretKey:
    """The key whose file lies in a hospital's folder."""
    assert site.keys is not None
    (path,) = site.keys.glob("*.key")
    return SecretKey.load(path)


def _message(data: bytes) -> Message:
    return flower.unpack(data)


def test_plaintexts_of_rounds_never_leave_a_hospital() -> None:
    spec = small.spec("encrypted_aggregation")
    with small.grid(small.hospitals(spec)) as grid:
        exposure = coordinate(grid, spec).exposure

    out = {(t.kind, t.purpose): t.messages for t in exposure.traffic if t.direction == "out"}
    assert out[("model", "release")] == 1
    assert ("update", "training") not in out
    assert exposure.out_of_band == ("keys",)


def test_what_is_released_carries_noise_and_is_released_once() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    with small.grid(sites) as grid:
        first = coordinate(grid, spec).models.by_site[Models.SHARED].unpack()
        again = coordinate(grid, spec).models.by_site[Models.SHARED].unpack()

    assert all(np.array_equal(first[k], again[k]) for k in first), "two draws of noise would average out"


def test_a_hospital_without_the_key_is_named() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    sites["west"].keys = None

    with small.grid(sites) as grid, pytest.raises(SiteFailed, match="west.*no encryption key"):
        coordinate(grid, spec)


def test_a_hospital_with_another_key_never_gives_a_wrong_sum() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    sites["west"].keys = small.hospitals(spec)["west"].keys

    with small.grid(sites) as grid, pytest.raises(PetError, match="key"):
        coordinate(grid, spec)
