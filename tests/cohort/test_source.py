from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.source import load_cohort, shared_patients, table_digest
from pettoolkit.errors import BadInput

CONTRACT = Contract(
    name="test",
    columns=(
        Column(name="id", role="patient_id", kind="category"),
        Column(name="age", low=0, high=120),
        Column(name="y", role="outcome", kind="binary"),
    ),
)
YAML = """name: test
columns:
  - {name: id, role: patient_id, kind: category}
  - {name: age, low: 0, high: 120}
  - {name: y, role: outcome, kind: binary}
"""
SITES = Path(__file__).parents[2] / "sites"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "contract.yaml").write_text(YAML)
    for number, name in enumerate(("south", "north", "west")):
        lines = [f"{100 * number + i},{20 + i},{i % 2}" for i in range(10)]
        (tmp_path / f"{name}.csv").write_text("id,age,y\n" + "\n".join(lines) + "\n")
    return tmp_path


def frame() -> pd.DataFrame:
    return pd.DataFrame({"id": ["a", "b"], "age": [1.0, np.nan], "y": np.array([0, 1], dtype=np.int8)})


def test_hospitals_are_sorted_and_carry_the_digest_of_their_rows(tables: Path) -> None:
    cohort = load_cohort("tables", tables)
    assert cohort.origin == "tables"
    assert list(cohort.hospitals) == ["north", "south", "west"]
    for name, hospital in cohort.hospitals.items():
        assert hospital.name == name
        assert hospital.digest == table_digest(hospital.rows)
        assert list(hospital.rows.columns) == [c.name for c in cohort.contract.columns]


def test_include_keeps_the_named_hospitals(tables: Path) -> None:
    assert list(load_cohort("tables", tables, include=["west", "north"]).hospitals) == ["north", "west"]


def test_a_misspelt_hospital_gets_a_suggestion(tables: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no hospital nort; did you mean north\?"):
        load_cohort("tables", tables, include=["nort"])


def test_stays_limits_the_rows_by_a_hash_of_the_id_not_by_their_order(tables: Path) -> None:
    some = load_cohort("tables", tables, stays=4).hospitals["south"].rows
    lines = (tables / "south.csv").read_text().splitlines()
    (tables / "south.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    again = load_cohort("tables", tables, stays=4).hospitals["south"].rows
    assert len(some) == 4
    assert sorted(some["id"]) == sorted(again["id"])
    expected = sorted(map(str, range(10)), key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:4]
    assert sorted(some["id"]) == sorted(expected)


@pytest.mark.parametrize(
    ("source", "partition", "message"),
    [
        ("simulatd", "hospital", "sites.source: must be one of simulated, physionet2019, tables"),
        ("tables", "unit", "sites.partition: must be hospital for source tables"),
        ("physionet2019", "ward", "sites.partition: must be hospital or unit for source physionet2019"),
    ],
)
def test_an_unknown_source_or_partition_is_one_line(tables: Path, source: str, partition: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_cohort(source, tables, partition)


@pytest.mark.parametrize("source", ["simulated", "physionet2019", "tables"])
def test_a_missing_data_folder_is_one_line_for_every_source(source: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load_cohort(source, tmp_path / "nowhere")
    (line,) = caught.value.lines
    assert line.startswith(f"{tmp_path / 'nowhere'}: there is no such ")
    assert "looked for" in line


def test_hospitals_that_share_a_patient_are_both_named() -> None:
    rows_of = {"north": frame(), "south": frame().assign(id=["b", "c"]), "west": frame().assign(id=[1, 2])}
    (line,) = shared_patients(rows_of, CONTRACT)
    assert line.startswith("id: hospitals north and south share 1 patient;")


def test_ids_are_compared_as_text() -> None:
    numbers, texts = frame().assign(id=[1, 2]), frame().assign(id=["2", "3"])
    (line,) = shared_patients({"a": numbers, "b": texts}, CONTRACT)
    assert "a and b share 1 patient" in line


def test_a_patient_with_several_rows_in_one_hospital_is_nobody_elses() -> None:
    assert not shared_patients({"a": frame().assign(id=["x", "x"])}, CONTRACT)
    (line,) = shared_patients({"a": frame().assign(id=["x", "x"]), "b": frame().assign(id=["y", "x"])}, CONTRACT)
    assert "hospitals a and b share 1 patient;" in line


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.rename(columns={"age": "years"}),
        lambda f: f.assign(age=[1.0, 2.0]),
        lambda f: f.assign(age=f["age"].astype(np.float32)),
        lambda f: f.assign(id=["a", None]),
        lambda f: f.assign(id=["ab", ""]),
        lambda f: f[["age", "id", "y"]],
        lambda f: f.iloc[::-1],
    ],
)
def test_the_digest_follows_names_types_values_and_order(change) -> None:  # type: ignore[no-untyped-def]
    assert table_digest(change(frame())) != table_digest(frame())


def test_the_digest_does_not_depend_on_how_pandas_stores_the_table() -> None:
    plain, other = frame(), frame()
    other.index = pd.Index([7, 9])
    other["id"] = other["id"].astype("string").astype(object)
    other["age"] = np.array([1.0, -np.nan])
    blocks = pd.DataFrame({name: other[name] for name in other}).copy()
    assert table_digest(plain) == table_digest(other) == table_digest(blocks)


def test_the_digest_is_the_one_that_was_written_down() -> None:
    assert table_digest(frame()) == "de559b854099a84e3767b9f328eb015cc7e902882e44e01abfdbd555aec40dff"


def test_simulated_hospitals_go_through_the_same_landmark() -> None:
    cohort = load_cohort("simulated", SITES, stays=200)
    assert cohort.origin == "simulated"
    assert cohort.contract.grain == "row"
    assert len(cohort.hospitals) >= 5
    for hospital in cohort.hospitals.values():
        assert 0 < len(hospital.rows) <= 200
        assert list(hospital.rows.columns) == [c.name for c in cohort.contract.columns]
