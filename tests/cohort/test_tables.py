from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.columns import LISTED
from pettoolkit.cohort.draft import draft_contract
from pettoolkit.cohort.landmark import landmark_rows
from pettoolkit.cohort.tables import check_tables, load_tables
from pettoolkit.errors import BadInput

ROW = """name: test
columns:
  - {name: id, role: patient_id, kind: category}
  - {name: age, low: 18, high: 100, unit: years, missing: never}
  - {name: lactate, low: 0.2, high: 30}
  - {name: female, kind: binary}
  - {name: ward, kind: category, levels: [medical, surgical]}
  - {name: note, role: ignored}
  - {name: y, role: outcome, kind: binary}
"""
HOUR = """name: test
grain: hour
landmark_hours: 2
columns:
  - {name: id, role: patient_id, kind: category}
  - {name: hour, role: time}
  - {name: age, low: 18, high: 100, missing: never}
  - {name: hr, low: 30, high: 200, summaries: [mean]}
  - {name: y, role: outcome, kind: binary}
"""
HEADER = "id,age,lactate,female,ward,note,y\n"
NORTH = f"{HEADER}1,50,1.5,0,medical,x,0\n2,60,,1,surgical,,1\n"
SOUTH = f"{HEADER}3,70,2.5,,medical,y,0\n"


class Folder:
    """A folder with a contract and tables, and what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, contract: str = ROW, **tables: str) -> Path:
        (self.path / "contract.yaml").write_text(contract)
        for name, text in tables.items():
            (self.path / f"{name}.csv").write_text(text)
        return self.path

    def wrong(self, contract: str = ROW, **tables: str) -> list[str]:
        data = self.write(contract, **tables)
        return [line.replace(f"{data}/", "") for line in check_tables(data / "contract.yaml", data)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_one_file_per_hospital_gives_rows_in_natural_units(folder: Folder) -> None:
    rows_of, contract = load_tables(folder.write(north=NORTH, south=SOUTH))
    assert list(rows_of) == ["north", "south"]
    north = rows_of["north"]
    assert list(north.columns) == [c.name for c in contract.columns] == ["id", "age", "lactate", "female", "ward", "y"]
    assert north["id"].tolist() == ["1", "2"]
    assert north["age"].tolist() == [50.0, 60.0]
    assert np.isnan(north["lactate"].iloc[1])
    assert north["ward"].tolist() == ["medical", "surgical"]
    assert north["y"].dtype == np.int8
    assert np.isnan(rows_of["south"]["female"].iloc[0])


def test_parquet_gives_the_same_rows_as_csv(tmp_path: Path, folder: Folder) -> None:
    data = folder.write(north=NORTH, south=SOUTH)
    from_csv, _ = load_tables(data)
    other = tmp_path / "parquet"
    other.mkdir()
    (other / "contract.yaml").write_text(ROW)
    for name in ("north", "south"):
        pd.read_csv(data / f"{name}.csv").to_parquet(other / f"{name}.parquet")
    from_parquet, _ = load_tables(other)
    for name, rows in from_csv.items():
        pd.testing.assert_frame_equal(rows, from_parquet[name])


def test_a_site_column_names_the_hospitals(folder: Folder) -> None:
    contract = ROW.replace("columns:\n", "columns:\n  - {name: hospital, role: site}\n")
    text = NORTH.replace("id,", "hospital,id,").replace("1,50", "b,1,50").replace("2,60", "a,2,60")
    data = folder.write(contract, all=text)
    rows_of, _ = load_tables(data / "all.csv")
    assert {name: rows["id"].tolist() for name, rows in rows_of.items()} == {"a": ["2"], "b": ["1"]}


def test_several_files_may_be_listed(folder: Folder) -> None:
    data = folder.write(north=NORTH, south=SOUTH, west=SOUTH.replace("3,", "4,"))
    rows_of, _ = load_tables([data / "north.csv", data / "west.csv"])
    assert list(rows_of) == ["north", "west"]


def test_a_table_without_ids_gets_none(folder: Folder) -> None:
    """Numbered rows would look like patients, and differential privacy would then protect rows."""
    contract = ROW.replace("  - {name: id, role: patient_id, kind: category}\n", "  - {name: id, role: ignored}\n")
    rows_of, row = load_tables(folder.write(contract, north=NORTH, south=SOUTH))
    assert row.named("patient_id") is None
    assert list(rows_of["north"].columns) == ["age", "lactate", "female", "ward", "y"]


def test_a_patient_may_have_several_rows_of_grain_row(folder: Folder) -> None:
    rows_of, _ = load_tables(folder.write(north=f"{NORTH}1,51,2.5,0,surgical,,1\n", south=SOUTH))
    assert rows_of["north"]["id"].tolist() == ["1", "2", "1"]
    assert rows_of["north"]["y"].tolist() == [0, 1, 1]


def test_hourly_tables_become_landmark_rows_whatever_the_order_of_lines(folder: Folder) -> None:
    lines = ["1,0,50,80,0", "2,0,60,90,0", "2,1,60,92,0", "1,1,50,82,0", "2,2,60,94,1", "1,2,50,199,0", "3,0,40,70,0"]
    rows_of, row = load_tables(folder.write(HOUR, north="id,hour,age,hr,y\n" + "\n".join(lines)))
    assert row.grain == "row"
    north = rows_of["north"]
    assert list(north.columns) == ["id", "age", "hr", "hr_mean", "y"]
    assert north.to_dict("list") == {
        "id": ["1", "2"], "age": [50.0, 60.0], "hr": [82.0, 92.0], "hr_mean": [81.0, 91.0], "y": [0, 1],
    }  # fmt: skip


def test_hourly_tables_use_the_landmark_that_real_data_use(folder: Folder) -> None:
    generator = np.random.default_rng(0)
    hours = pd.DataFrame({"id": np.repeat(np.arange(40), 5).astype(str), "hour": np.tile(np.arange(5), 40)})
    hours = hours.assign(age=50.0, hr=generator.integers(30, 200, 200).astype(float), y=generator.random(200) < 0.1)
    hours["y"] = hours["y"].astype(int)
    from pettoolkit.cohort.contract import Contract
    from pettoolkit.cohort.yamlfile import parse

    data = folder.write(HOUR, north=hours.to_csv(index=False))
    rows_of, _ = load_tables(data)
    expected = landmark_rows(hours, parse(Contract, data / "contract.yaml"))
    pd.testing.assert_frame_equal(rows_of["north"], expected)


def test_a_date_splits_into_periods(folder: Folder) -> None:
    contract = ROW.replace("note, role: ignored", "day, role: date").replace(
        "columns:\n", "split: {by: day, cut: 2015-01-01}\ncolumns:\n"
    )
    text = "id,age,lactate,female,ward,day,y\n1,50,,,,2014-12-31,0\n2,50,,,,2015-01-01,0\n3,50,,,,2016,1\n"
    rows_of, row = load_tables(folder.write(contract, north=text))
    assert rows_of["north"]["period"].tolist() == ["train", "test", "test"]
    assert "period" not in [c.name for c in row.columns]


def test_dates_that_cannot_be_read_or_are_missing_are_named(folder: Folder) -> None:
    contract = ROW.replace("note, role: ignored", "day, role: date").replace(
        "columns:\n", "split: {by: day, cut: 2015-01-01}\ncolumns:\n"
    )
    text = "id,age,lactate,female,ward,day,y\n1,50,,,,31.12.2014,0\n2,50,,,,,0\n"
    assert folder.wrong(contract, north=text) == [
        "north.csv:2: day: must be a date like 2015-12-31 (got 31.12.2014)",
        "north.csv:3: day: is missing; the split by date needs it",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("split:", "{by: age, cut: 2015-01-01}", "contract.yaml:2: split.by: column age must have role date"),
        ("split:", "{by: day, cut: soon}", "contract.yaml:2: split.cut: must be a date like 2015-12-31 (got soon)"),
    ],
)
def test_a_split_that_cannot_be_is_named_in_the_contract(folder: Folder, old: str, new: str, expected: str) -> None:
    contract = ROW.replace("note, role: ignored", "day, role: date").replace("columns:\n", f"{old} {new}\ncolumns:\n")
    assert expected in folder.wrong(contract, north=NORTH.replace("note", "day"))


def test_everything_wrong_is_named_with_file_column_and_row_at_once(folder: Folder) -> None:
    north = (
        f"{HEADER}1,101,abc,0,medical,x,0\n2,,1,2,surgicl,,1\n3,50,inf,0,,,2\n2,50,1,0,medical,,\n,50,1,0,medical,,0\n"
    )
    assert sorted(folder.wrong(north=north, south=SOUTH, west=HEADER)) == sorted(
        [
            "north.csv:2: age: must be between 18 and 100 years (got 101)",
            "north.csv:2: lactate: must be a number (got abc)",
            "north.csv:3: age: is missing; the contract says missing: never",
            "north.csv:3: female: must be 0 or 1 (got 2)",
            "north.csv:3: ward: must be one of medical, surgical (got surgicl; did you mean surgical?)",
            "north.csv:4: lactate: must be a finite number (got inf)",
            "north.csv:4: y: must be 0 or 1 (got 2)",
            "north.csv:5: y: is missing; the label must be 0 or 1",
            "north.csv:6: id: is missing; each row needs its patient_id",
            "south.csv:2: id: hospitals north and south have the same patient (also north.csv:4); "
            "a patient must be in one hospital",
            "west.csv: an empty hospital: there are no rows in it",
        ]
    )


def test_in_parquet_rows_are_named_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(ROW)
    frame = pd.DataFrame({"id": [1, 2], "age": [50, 101], "lactate": 1.0, "female": True, "ward": "medical", "y": 0})
    frame.to_parquet(tmp_path / "north.parquet")
    where = tmp_path / "north.parquet"
    assert check_tables(tmp_path / "contract.yaml", tmp_path) == [
        f"{where}: row 2: age: must be between 18 and 100 years (got 101)"
    ]


def test_ids_are_compared_as_text_whatever_their_type(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(ROW)
    frame = pd.DataFrame({"id": [1], "age": [50], "lactate": [1.0], "female": [1], "ward": ["medical"], "y": [0]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.assign(id="1").to_parquet(tmp_path / "b.parquet")
    (line,) = check_tables(tmp_path / "contract.yaml", tmp_path)
    assert "hospitals a and b have the same patient" in line


def test_unknown_and_missing_columns_are_named(folder: Folder) -> None:
    assert folder.wrong(north=NORTH.replace("lactate", "lactat").replace("note", "remark")) == [
        "north.csv:1: lactat: the contract has no such column (did you mean lactate?)",
        "north.csv:1: remark: the contract has no such column "
        "(list it in the contract, with role ignored if it is not to be used)",
        "north.csv:1: lactate: the column is missing",
    ]


def test_findings_of_one_kind_are_listed_up_to_a_limit_and_counted_by_column(folder: Folder) -> None:
    text = HEADER + "".join(f"{i},200,99,0,medical,,0\n" for i in range(50))
    found = folder.wrong(north=text)
    assert len(found) == LISTED + 1
    assert found[-1] == f"... and {100 - LISTED} more values out of bounds (in all: age 50, lactate 50)"


def test_hours_that_are_missing_or_twice_are_named(folder: Folder) -> None:
    text = "id,hour,age,hr,y\n1,0,50,80,0\n1,2,50,80,0\n2,0,50,80,0\n2,0,50,80,0\n"
    assert folder.wrong(HOUR, north=text) == [
        "north.csv:3: hour: the patient's hour before is 0 (got 2); grain hour has one row for each hour",
        "north.csv:5: hour: the patient's hour before is 0 (got 0); grain hour has one row for each hour",
    ]


def test_without_a_time_column_a_patients_rows_must_stand_together(folder: Folder) -> None:
    contract = HOUR.replace("  - {name: hour, role: time}\n", "")
    found = folder.wrong(contract, north="id,age,hr,y\n1,50,80,0\n2,50,80,0\n1,50,80,0\n")
    assert [line.partition(";")[0] for line in found] == ["north.csv:4: id: the patient's rows do not stand together"]


def test_hourly_columns_that_must_not_be_missing_need_one_value_before_the_landmark(folder: Folder) -> None:
    text = "id,hour,age,hr,y\n1,0,,80,0\n1,1,50,80,0\n1,2,,80,0\n2,0,,80,0\n2,1,,80,0\n2,2,50,80,0\n"
    assert folder.wrong(HOUR, north=text) == ["north.csv:5: age: is missing; the contract says missing: never"]


def test_a_hospital_without_a_stay_that_qualifies_is_empty(folder: Folder) -> None:
    found = folder.wrong(HOUR, north="id,hour,age,hr,y\n1,0,50,80,0\n")
    assert len(found) == 1
    assert "an empty hospital: north: no stay is longer than 2 h" in found[0]


def test_one_class_and_an_all_missing_column_are_allowed(folder: Folder) -> None:
    rows_of, _ = load_tables(folder.write(south=SOUTH.replace("2.5", "")))
    assert rows_of["south"]["lactate"].isna().all()
    assert rows_of["south"]["y"].tolist() == [0]


def test_lines_with_too_few_or_too_many_values_are_named(folder: Folder) -> None:
    assert folder.wrong(north=f"{NORTH}5,50\n6,50,,,,,,,,\n") == [
        "north.csv:4: 2 values for 7 columns",
        "north.csv:5: 10 values for 7 columns",
    ]


def test_a_table_with_semicolons_or_no_text_is_named(folder: Folder) -> None:
    found = folder.wrong(north=NORTH.replace(",", ";"), south="")
    assert found[0].startswith("north.csv:1: the columns must be separated by commas")
    assert found[1] == "south.csv: an empty hospital: the file is empty"


def test_a_bad_name_of_a_hospital_is_named(folder: Folder) -> None:
    contract = ROW.replace("note, role: ignored", "note, role: site")
    (line,) = folder.wrong(contract, all=f"{HEADER}1,50,,,,a/b,0\n2,50,,,,ok,0\n")
    assert line.startswith("all.csv:2: hospital 'a/b': must be")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "there is no such file or folder"),
        ("empty", "has no tables"),
        ("x.txt", "must be a .csv or .parquet"),
    ],
)
def test_where_there_are_no_tables_one_line_says_what_was_looked_for(folder: Folder, path: str, message: str) -> None:
    data = folder.write()
    (data / "empty").mkdir()
    (data / "x.txt").write_text("")
    (line,) = check_tables(data / "contract.yaml", data / path)
    assert line.startswith(f"{data / path}: ")
    assert message in line


def test_without_a_contract_one_line_says_how_to_draft_one(tmp_path: Path) -> None:
    (tmp_path / "north.csv").write_text(NORTH)
    with pytest.raises(BadInput, match="sites init"):
        load_tables(tmp_path)


def test_a_draft_has_no_figure_from_the_data_and_blank_bounds(folder: Folder) -> None:
    data = folder.write(
        north="patient_id,hospital,age,ward,seen,y\n1,a,4711,medical,2015-01-01,0\n2,a,31,surgical,2016-01-01,1\n"
    )
    text = draft_contract(data / "north.csv")
    assert not any(value in text for value in ("4711", "31", "medical", "surgical", "2015"))
    assert "low:  # public bound, fill in" in text
    (data / "contract.yaml").write_text(text)
    found = check_tables(data / "contract.yaml", data)
    assert [line.partition(" ")[2].split(":")[1].strip() for line in found] == ["column age", "column ward"]


def test_a_draft_that_is_filled_in_reads_its_table(folder: Folder) -> None:
    data = folder.write(north="patient_id,hospital,age,ward,seen,y\n1,a,47,medical,2015-01-01,0\n")
    text = draft_contract(data / "north.csv").replace("low:  #", "low: 18  #").replace("high:  #", "high: 100  #")
    (data / "contract.yaml").write_text(text.replace("levels: []", "levels: [medical, surgical]"))
    rows_of, row = load_tables(data)
    assert list(rows_of) == ["a"]
    roles = [(c.name, c.role) for c in row.columns if c.role != "feature"]
    assert roles == [("patient_id", "patient_id"), ("hospital", "site"), ("seen", "date"), ("y", "outcome")]


def test_a_draft_of_an_hourly_table_says_so(folder: Folder) -> None:
    data = folder.write(north="patient_id,hour,hr,SepsisLabel\n1,0,80,0\n")
    assert "grain: hour" in draft_contract(data / "north.csv")
