"""Encrypted records: trained on ciphertexts, equal to the same training in the clear, on stated rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.arms import vault
from pettoolkit.arms.app import coordinate
from pettoolkit.arms.encrypted_records import inside
from pettoolkit.arms.encrypted_records.descent import ahead, gain, shares, train_plain
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.encryption import _seal, envelope
from pettoolkit.encryption.records import RecordsPlan
from pettoolkit.encryption.records_trainer import RecordsTrainer
from pettoolkit.errors import PetError, Refused, SiteFailed
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.records import Models, Outcome, RunSpec
from tests import small_cohort as small

SPEC = small.spec("encrypted_records", iterations=3, rows=200)


@lru_cache(maxsize=1)
def outcome() -> Outcome:
    with small.grid(small.hospitals(SPEC)) as grid:
        return coordinate(grid, SPEC)


def fitted(found: Outcome) -> np.ndarray:
    arrays = found.models.by_site[Models.SHARED].unpack()
    return np.concatenate([arrays["layer0.bias"], arrays["layer0.weight"][0]])


def in_the_clear(spec: RunSpec) -> np.ndarray:
    sites = small.hospitals()
    share = shares({name: len(site.index(spec, "train")) for name, site in sites.items()}, spec.options["rows"])
    parts = [inside.design(sites[name], spec, n) for name, n in share.items()]
    x, y = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    start = inside.initial(sites["east"], spec)
    return train_plain(plan_of(spec, small.CONTRACT, len(x)), x, y, start, spec.options["iterations"])


def test_it_equals_the_same_training_in_the_clear() -> None:
    plain = in_the_clear(SPEC)

    assert np.abs(plain - inside.initial(small.hospitals()["east"], SPEC)).max() > 0.1  # it moved
    np.testing.assert_allclose(fitted(outcome()), plain, atol=1e-3)


def test_rows_leave_once_and_one_ciphertext_of_weights_a_step_after_that() -> None:
    traffic = outcome().exposure.traffic
    out = {(t.site, t.kind, t.purpose): t.messages for t in traffic if t.direction == "out"}

    assert {site: out[(site, "ciphertext", "training")] for site in small.SITES} == {
        "east": 1 + 3,  # rows, the first weights, and two refreshes; the last step is released
        "north": 1,
        "west": 1,
    }
    assert {key for key in out if key[1] == "model"} == {("east", "model", "release")}
    assert not any(kind in ("raw_records", "update", "predictions") for _, kind, _ in out)


def test_evaluation_keys_are_metered_as_set_up() -> None:
    rows = [t for t in outcome().exposure.traffic if (t.kind, t.purpose) == ("ciphertext", "setup")]

    assert [t.site for t in rows if t.direction == "out"] == ["east"]
    assert sum(t.bytes for t in rows if t.direction == "out") == pytest.approx(
        outcome().cost.extra["cost/evaluation_keys_mb"] * 1e6, rel=0.01
    )


def test_which_rows_were_trained_on_is_stated() -> None:
    assert "trained on 200 of 413 training rows, drawn by the seed" in outcome().notes[0]


def test_what_is_released_is_flooded() -> None:
    sd = outcome().encryption["encryption/flooding_sd"]
    difference = np.abs(fitted(outcome()) - in_the_clear(SPEC))

    assert 1e-6 < sd < 1e-3
    assert sd / 10 < difference.max() < 6 * sd


def test_another_hospitals_key_is_refused_and_named() -> None:
    sites = small.hospitals(SPEC)
    sites["west"].keys = small.hospitals(SPEC)["west"].keys

    with small.grid(sites) as grid, pytest.raises(PetError, match="use one key file"):
        coordinate(grid, SPEC)


def test_a_key_is_not_used_for_more_decryptions_than_its_noise_is_sized_for() -> None:
    sites = small.hospitals(SPEC)  # for twice the three steps of this run
    other = small.spec("encrypted_records", iterations=4, rows=200)

    with small.grid(sites) as grid:
        coordinate(grid, SPEC)
        with pytest.raises(SiteFailed, match="rotate the key"):
            coordinate(grid, other)


def played(
    spec: RunSpec, wrong: Callable[[list[bytes], bytes], bytes] | None = None
) -> tuple[list[Any], str, dict[str, Site]]:
    """The protocol by hand: what the refreshing hospital answered, why nothing was released ('' if it was), and all.

    ``wrong`` makes what is refreshed after the second step, from the uploaded rows and that step.
    """
    sites = small.hospitals(spec)
    share = json.dumps(shares({name: len(site.index(spec, "train")) for name, site in sites.items()}, 200))
    extra = {"rows": 200, "shares": share}

    def ask(site: str, action: str, number: int = 0, *blobs: bytes) -> Any:
        return inside.HANDLERS[action](sites[site], Request(action, "training", spec, number, {}, blobs, None, extra))

    plan = plan_of(spec, small.CONTRACT, 200)
    public = ask("east", "keys").payload.blobs
    trainer = RecordsTrainer(plan.to_bytes(), (public[0], public[1]))
    uploads = {site: ask(site, "upload").payload.blobs for site in small.SITES}
    for site, blobs in uploads.items():
        trainer.add_rows({envelope.unseal(blob)[0].index: blob for blob in blobs}, site)
    answers, weights = [], ask("east", "begin").payload.blobs[0]
    for number in (1, 2):
        step = trainer.step(weights)
        if number == 2 and wrong is not None:
            step = wrong(list(uploads["north"]), step)
        answers.append(ask("east", "again", number, step))
        weights = answers[-1].payload.blobs[0]
    try:
        answers.append(ask("east", "release", 3, trainer.step(weights)))
    except Refused as error:
        return answers, str(error), sites
    return answers, "", sites


def a_row(rows: list[bytes], step: bytes) -> bytes:
    """Someone's encrypted row in the place of the weights, brought to the level of a step: needs no key."""
    header, _ = envelope.unseal(step)
    _, payload = envelope.unseal(rows[0])
    ring = _seal.ring(*RecordsPlan(1, 1, 1.0, 1).scheme().ring)
    with _seal.scratch() as scratch:
        fresh, low = scratch.load(seal.Ciphertext(), ring, payload, "row"), seal.Ciphertext()
        ring.evaluator.mod_switch_to(fresh, ring.context.last_parms_id(), low)
        return envelope.seal(header, scratch.dump(low))


def test_a_refused_refresh_looks_like_any_other_and_every_cause_ends_in_the_same_words() -> None:
    honest, released, _ = played(SPEC)
    stolen, why, _ = played(SPEC, a_row)
    _, diverged, _ = played(small.spec("encrypted_records", iterations=3, rows=200, learning_rate=400.0))

    assert released == ""
    assert len(honest) == 3
    assert len(stolen) == 2  # both refreshes were answered
    for ours, theirs in zip(honest, stolen, strict=False):
        assert (ours.kind, ours.purpose, set(ours.figures)) == (theirs.kind, theirs.purpose, set(theirs.figures))
        assert len(ours.payload.blobs[0]) == pytest.approx(len(theirs.payload.blobs[0]), rel=0.01)
    assert why == diverged == f"hospital east: {inside.NOT_RELEASED}"


def test_nothing_that_was_no_step_goes_on() -> None:
    """After a stolen row the hospital goes on with the weights that it had before."""
    _, _, sites = played(SPEC, a_row)

    before, after = (vault.stored(sites["east"], f"{SPEC.run_id}/records/{number}", number) for number in (1, 2))

    assert before["sound"]
    assert not after["sound"]
    np.testing.assert_array_equal(after["weights"], before["weights"])
    np.testing.assert_array_equal(after["point"], before["weights"])


def test_refreshes_are_counted_and_end_with_the_iterations() -> None:
    sites = small.hospitals(SPEC)
    request = Request("again", "training", SPEC, 3, {}, (b"x",), None, {"rows": 200})

    for action, number in (("again", 3), ("again", 0), ("release", 2)):
        with pytest.raises(Refused, match="this run"):
            inside.HANDLERS[action](sites["east"], replace(request, round=number))


@pytest.mark.parametrize("iterations", [2, 3, 10, 30, 100])
def test_the_gain_of_the_descent_is_what_an_error_grows_to_at_worst(iterations: int) -> None:
    def root_mean_square(curvature: float) -> float:
        reached = []
        for step in range(1, iterations + 1):
            before, now = 0.0, 1.0  # an error of 1 in the weights after this step
            for number in range(step, iterations):
                point = ahead(np.array([now]), np.array([before]), number)[0]
                before, now = now, (1 - curvature) * point
            reached.append(now)
        return float(np.sqrt(np.mean(np.square(reached))))

    worst = max(root_mean_square(curvature) for curvature in np.linspace(0, 4 / 3, 81))

    assert gain(iterations) == pytest.approx(root_mean_square(0.0))
    assert gain(iterations) >= worst - 1e-12


def test_what_it_cost_and_the_errors_that_were_measured_are_told() -> None:
    found = outcome()

    assert {"cost/encrypt_seconds", "cost/add_seconds", "cost/decrypt_seconds"} <= set(found.cost.extra)
    assert all(value > 0 for value in found.cost.extra.values())
    measured = found.encryption["encryption/max_error"]
    assert 0 < measured < 1e-10
    assert np.log2(measured) == round(np.log2(measured))  # coarse: the exact one is a function of decryptions
    assert found.encryption["encryption/error_bound"] > 0


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 5000), min_size=1), st.integers(1, 2048)
)
def test_shares_add_up_and_never_exceed_what_a_hospital_has(patients: dict[str, int], rows: int) -> None:
    share = shares(patients, rows)
    total = sum(patients.values())

    assert sum(share.values()) == min(rows, total)
    assert all(0 <= share[site] <= n for site, n in patients.items())
    assert all(abs(share[site] - min(rows, total) * n / total) < 1 for site, n in patients.items())


def test_the_rows_of_a_smaller_share_are_among_those_of_a_larger() -> None:
    site = small.hospitals()["north"]
    (few, _), (more, _) = (inside.design(site, SPEC, n) for n in (10, 30))

    assert {row.tobytes() for row in few} <= {row.tobytes() for row in more}
