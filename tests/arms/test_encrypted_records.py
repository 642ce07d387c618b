"""Encrypted records: trained on ciphertexts, equal to the same training in the clear, on stated rows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.encrypted_records import inside
from pettoolkit.arms.encrypted_records.descent import shares, train_plain
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.errors import PetError, SiteFailed
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
