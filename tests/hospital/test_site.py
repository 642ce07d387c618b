"""Whose rows are whose: a patient's rows stay together wherever patients are counted, drawn or split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pettoolkit.hospital.site import Site
from pettoolkit.hospital.splits import first_of_each, first_patients
from tests import small_cohort as small

PARTS = ("train", "validation", "test", "control", "attacker")


def several() -> pd.DataFrame:
    """250 rows of 100 patients, not in order."""
    rows = small.rows("east")
    rows["patient"] = [f"p{i * 7 % 100}" for i in range(len(rows))]
    return rows


def site(rows: pd.DataFrame) -> Site:
    return Site("east", rows, small.CONTRACT)


def test_patients_are_numbered_by_their_first_row() -> None:
    assert first_of_each(np.array(["b", "a", "b", "c", "a"], dtype=object)).tolist() == [0, 1, 0, 3, 1]
    assert first_of_each(np.array([], dtype=object)).tolist() == []


def test_one_row_each_is_numbered_by_row() -> None:
    east = site(small.rows("east"))
    index = east.index(small.spec("local"), "test")
    assert np.array_equal(east.numbers(index), index)
    assert east.training_patients(small.spec("local"))[0] is None


def test_every_patient_is_in_one_part_with_all_rows() -> None:
    east, spec = site(several()), small.spec("local")
    parts = [set(east.numbers(east.index(spec, part))) for part in PARTS]  # type: ignore[arg-type]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100


@pytest.mark.parametrize("asked", [1, 10, 40, 10_000])
def test_a_sub_sample_has_so_many_patients_with_all_their_rows(asked: int) -> None:
    east, whole = site(several()), small.spec("local")
    of = replace(whole, patients_per_site=asked)
    everybody, chosen = east.index(whole, "train"), east.index(of, "train")

    numbers = east.numbers(chosen)
    there = min(asked, len(set(east.numbers(everybody))))
    assert len(set(numbers)) == there == east.training_patients(of)[1]
    assert np.array_equal(chosen, everybody[np.isin(east.numbers(everybody), numbers)])


def test_more_patients_include_fewer() -> None:
    east, whole = site(several()), small.spec("local")
    few, more = (set(east.index(replace(whole, patients_per_site=n), "train")) for n in (10, 20))
    assert few < more


@pytest.mark.parametrize("asked", [20, 60])
def test_one_patient_more_changes_a_sub_sample_by_two_patients_at_most(asked: int) -> None:
    """One that the split lets in or puts out, and one that moves up or back; not a whole new sample."""
    rows, of = small.rows("east"), replace(small.spec("local"), patients_per_site=asked)
    before = site(rows)
    chosen = set(before.rows["patient"].iloc[before.index(of, "train")])
    for number in range(30):
        more = rows.iloc[[0]].assign(patient=f"new-{number}", y=number % 2)
        after = site(pd.concat([rows, more], ignore_index=True))
        now = set(after.rows["patient"].iloc[after.index(of, "train")])
        assert len(now) == asked
        assert len(chosen - now) <= 2


def test_the_hospitals_secret_decides_who_is_in_a_sub_sample() -> None:
    rows, of = small.rows("east"), replace(small.spec("local"), patients_per_site=20)
    ids = rows["patient"].to_numpy()
    here, there = (first_patients(ids, 20, of.seed, salt) for salt in (b"", b"secret"))
    assert here.sum() == there.sum() == 20
    assert (here & there).sum() < 15


def test_training_patients_tell_whose_each_row_is() -> None:
    east, spec = site(several()), small.spec("local")
    patient, count = east.training_patients(spec)
    assert patient is not None
    names = east.rows["patient"].iloc[east.index(spec, "train")]
    assert count == names.nunique() == len(set(zip(patient.tolist(), names, strict=True)))


def test_without_a_patient_id_nobody_is_known() -> None:
    bare = small.CONTRACT.model_copy(update={"columns": small.CONTRACT.columns[1:]})
    assert site(small.rows("east")).patients_known
    assert not Site("east", small.rows("east").drop(columns="patient"), bare).patients_known
