"""Splits: sizes within each outcome, nobody in two parts, decided by the patient alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.hospital.splits import first_patients, split_patients

PARTS = ("train", "validation", "test", "control", "attacker")


def patients(n: int) -> np.ndarray:
    return np.array([f"p{i}" for i in range(n)], dtype=object)


@given(n=st.integers(0, 300), positives=st.integers(0, 40), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_row_is_in_exactly_one_part(n: int, positives: int, seed: int) -> None:
    y = (np.arange(n) < positives).astype(int)

    split = split_patients(patients(n), y, seed)

    assert sorted(np.concatenate([getattr(split, p) for p in PARTS]).tolist()) == list(range(n))


def test_shares_hold_within_each_outcome() -> None:
    y = (np.arange(2000) < 200).astype(int)

    split = split_patients(patients(2000), y, 0)

    for value, size in ((0, 1800), (1, 200)):
        shares = [np.sum(y[getattr(split, p)] == value) / size for p in PARTS]
        assert shares == pytest.approx([0.55, 0.10, 0.20, 0.075, 0.075], abs=1 / size)


def test_the_order_of_the_rows_does_not_matter() -> None:
    ids, y = patients(200), (np.arange(200) % 7 == 0).astype(int)
    shuffle = np.random.default_rng(0).permutation(200)

    a, b = split_patients(ids, y, 1), split_patients(ids[shuffle], y[shuffle], 1)

    assert set(ids[a.test]) == set(ids[shuffle][b.test])


def test_seed_and_salt_change_who_is_tested() -> None:
    ids, y = patients(300), np.zeros(300, dtype=int)

    tests = [set(split_patients(ids, y, s, salt).test) for s, salt in ((0, b""), (1, b""), (0, b"secret"))]

    assert tests[0] != tests[1]
    assert tests[0] != tests[2]


def test_a_patients_rows_stay_together() -> None:
    ids = np.repeat(patients(50), 4)
    y = np.zeros(200, dtype=int)
    y[::9] = 1

    split = split_patients(ids, y, 0)

    for part in PARTS:
        inside = set(ids[getattr(split, part)])
        assert sum(i in inside for i in ids) == len(getattr(split, part))


def test_a_date_split_tests_exactly_the_marked_rows() -> None:
    tested = np.arange(100) >= 80

    split = split_patients(patients(100), np.zeros(100, dtype=int), 0, tested=tested)

    assert split.test.tolist() == list(range(80, 100))
    assert len(split.train) == round(80 * 0.55 / 0.80)


def test_the_first_patients_are_the_same_whoever_else_is_there() -> None:
    ids = patients(300)
    few = set(ids[first_patients(ids, 40, 0)])

    for number in range(100):
        more = np.append(ids, f"new-{number}")
        now = set(more[first_patients(more, 40, 0)])
        assert len(few - now) == len(now - few) == (f"new-{number}" in now)
    assert few < set(ids[first_patients(ids, 80, 0)])
