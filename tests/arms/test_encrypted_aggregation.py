"""Encrypted aggregation: the same model as federated, and a coordinator that can only add."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message

from pettoolkit.arms import vault
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation import inside
from pettoolkit.arms.encrypted_aggregation.gain import gain
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.keyring import key_requests
from pettoolkit.encryption import ckks, envelope
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import PetError, Refused, SiteFailed
from pettoolkit.federation import flower, wire
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.records import DpSpec, Models, RunSpec
from tests import small_cohort as small

DP = DpSpec(epsilon=3.0, delta=1e-3, noise="shared", honest_sites=3)


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

    held: list[flower.Packed]

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
    everything = b"".join(part for packed in recorder.held for part in packed if part) + scheme.add_context()
    ciphertexts = [
        wire.blobs_of(m.content)
        for m in map(_message, recorder.held)
        if m.has_content()
        and any(a.stype == wire.STYPE_CKKS for r in m.content.array_records.values() for a in r.values())
    ]

    assert secret.to_bytes()[-96:-32] not in everything
    assert len(scheme.add_context()) < 200
    assert ciphertexts
    for attempt in (scheme.add_context(), b"".join(part for packed in recorder.held for part in packed if part)):
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


def _message(data: flower.Packed) -> Message:
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


@pytest.mark.parametrize("strategy", ["fedsgd", "fedadam"])
def test_the_noise_on_the_model_counts_the_server_steps_gain(strategy: str) -> None:
    spec = small.spec("encrypted_aggregation", strategy=strategy)
    scheme = key_requests("small", [spec])[0].scheme
    with small.grid(small.hospitals(spec)) as grid:
        stated = coordinate(grid, spec).encryption["encryption/flooding_sd"]

    assert stated == pytest.approx(gain(spec.options) * scheme.flooding_sd)
    assert gain(spec.options) > 1


def test_no_validation_loss_leaves_the_hospitals_and_they_keep_the_round_that_federated_keeps() -> None:
    options = {"rounds": 12, "learning_rate": 6.0}  # so high that the last round is not the best
    with small.grid(small.hospitals(small.spec("federated"))) as grid:
        plain = coordinate(grid, small.spec("federated", **options))
    spec = small.spec("encrypted_aggregation", **options)
    with small.grid(small.hospitals(spec)) as grid:
        encrypted = coordinate(grid, spec)

    kept = plain.notes[0]
    assert kept != "round 12 of 12 kept"
    assert encrypted.notes[0].startswith(kept)
    assert not encrypted.round_metrics
    assert {t.purpose for t in encrypted.exposure.traffic} == {"setup", "training", "release"}


def test_a_rounds_answer_tells_nothing_of_what_was_decrypted() -> None:
    spec = small.spec("encrypted_aggregation")
    with small.grid(small.hospitals(spec)) as grid:
        recorder = Recorder(grid)
        coordinate(recorder, spec)

    told = [wire.metrics_of(m.content) for m in map(_message, recorder.held) if m.has_content()]
    assert {name for metrics in told for name in metrics} == {
        "num-examples",
        "encrypt_seconds",
        "decrypt_seconds",
        *inside.FIGURES,
    }


def sums_of(spec: RunSpec, sites: dict[str, Site], number: int, said: int = 1) -> Request:
    """The first round's sum, and the request that hands it to a hospital as round ``number``.

    The coordinator says that there are ``said`` times as many patients as there are.
    """
    extra = {"patients": said * sum(len(site.index(spec, "train")) for site in sites.values())}
    adder = ckks.Adder(scheme_of(spec, contract_of(spec))[0].add_context())
    for site in sites.values():
        sent = inside.contribute(site, Request("contribute", "training", spec, 1, extra=extra))
        adder.add(sent.payload.blobs)
    return Request("apply", "training", spec, number, blobs=tuple(adder.result()), extra=extra)


def spent(spec: RunSpec, site: Site) -> int:
    return vault.ledger_of(site, spec, carried(site).for_scheme(scheme_of(spec, contract_of(spec))[0])).decrypted


def test_what_is_refused_in_the_clear_is_not_counted_and_the_same_again_counts_once() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    east = sites["east"]
    sum_of_round_1 = sums_of(spec, sites, 1)

    for wrong in (
        sums_of(spec, sites, 2),  # the header says: round 1
        replace(sum_of_round_1, blobs=(sum_of_round_1.blobs[0][:-1],)),
        replace(sum_of_round_1, round=9),
    ):
        with pytest.raises(PetError):
            inside.apply(east, wrong)
    assert spent(spec, east) == 0

    inside.apply(east, sum_of_round_1)
    inside.apply(east, sum_of_round_1)
    assert spent(spec, east) == 1


def test_repeating_what_can_not_be_used_spends_nothing_more() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    request = sums_of(spec, {"east": sites["east"], "north": sites["north"]}, 1)
    header, payload = envelope.unseal(request.blobs[0])
    lying = replace(request, blobs=(envelope.seal(header.with_sites(3), payload),))  # two of three hospitals

    for _ in range(3):
        with pytest.raises(PetError):
            inside.apply(sites["east"], lying)

    assert spent(spec, sites["east"]) == 1


@pytest.mark.parametrize("dp", [None, DP], ids=["without dp", "with dp"])
def test_a_wrong_average_is_refused_for_good(dp: DpSpec | None) -> None:
    """Twice the patients would halve every update; what is decided after decryption is decided once."""
    spec = small.spec("encrypted_aggregation", strategy="fedsgd", dp=dp)
    sites = small.hospitals(spec)
    request = sums_of(spec, sites, 1, said=2)
    again = sums_of(spec, sites, 1, said=2)  # other ciphertexts of the same numbers
    said = []

    for one in (request, again):
        with pytest.raises(Refused, match="shares of the .* patients do not add up to 1") as refused:
            inside.apply(sites["east"], one)
        said.append(str(refused.value))

    assert request.blobs != again.blobs
    assert said[0] == said[1]
    assert spent(spec, sites["east"]) == 1


def test_a_round_that_was_refused_after_decryption_is_not_decided_again() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    right = sums_of(spec, sites, 1)
    adder = ckks.Adder(scheme_of(spec, contract_of(spec))[0].add_context())
    for _ in sites:  # the count is right, and the others are missing
        adder.add(inside.contribute(sites["east"], replace(right, blobs=())).payload.blobs)

    for blobs in (tuple(adder.result()), right.blobs):
        with pytest.raises(Refused):
            inside.apply(sites["east"], replace(right, blobs=blobs))

    assert spent(spec, sites["east"]) == 1
    inside.apply(sites["north"], right)  # who was not asked the wrong thing goes on


def test_the_number_of_patients_stays_that_with_which_the_run_began() -> None:
    spec = small.spec("encrypted_aggregation")
    sites = small.hospitals(spec)
    request = sums_of(spec, sites, 1)
    other = replace(request, extra={"patients": int(request.extra["patients"]) + 1})

    for handler in (inside.contribute, inside.apply, inside.release):
        with pytest.raises(Refused, match="began with .* patients, and now says"):
            handler(sites["east"], other)
    assert spent(spec, sites["east"]) == 0


def test_the_error_is_measured_and_its_bound_named() -> None:
    spec = small.spec("encrypted_aggregation")
    with small.grid(small.hospitals(spec)) as grid:
        told = coordinate(grid, spec).encryption

    assert 0 < told["encryption/max_error"] < 2 * told["encryption/error_bound"]
    assert np.log2(told["encryption/max_error"]) == round(np.log2(told["encryption/max_error"]))
