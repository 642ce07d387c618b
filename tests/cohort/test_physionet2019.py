from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.physionet2019 import load_physionet2019
from pettoolkit.cohort.source import load_cohort, table_digest
from pettoolkit.errors import BadInput

COLUMNS = [c.name for c in builtin_contract().columns if c.role != "patient_id"]
HEADER = "|".join(COLUMNS)


def stay(hours: int = 14, onset: int | None = None, unit: str = "unknown", **values: float) -> pd.DataFrame:
    """Hourly rows of one patient as the challenge has them."""
    frame = pd.DataFrame(np.nan, index=range(hours), columns=COLUMNS)
    frame["ICULOS"] = np.arange(1, hours + 1)
    label = np.zeros(hours, dtype=int) if onset is None else (np.arange(hours) >= onset).astype(int)
    known = {"micu": (1.0, 0.0), "sicu": (0.0, 1.0), "unknown": (np.nan, np.nan)}[unit]
    fixed = {"Age": 61.25, "Gender": 1, "HospAdmTime": -3.5, "Unit1": known[0], "Unit2": known[1], "HR": 80.5}
    return frame.assign(**(fixed | values), SepsisLabel=label)


def write(folder: Path, identifier: int, hours: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hours.to_csv(folder / f"p{identifier:06}.psv", sep="|", na_rep="NaN", index=False)


def write_hospitals(path: Path) -> Path:
    write(path / "training_setA", 1, stay(unit="micu"))
    write(path / "training_setA", 2, stay(unit="sicu", onset=13, Lactate=2.5))
    write(path / "training_setA", 3, stay(hours=12))
    write(path / "training_setA", 4, stay(onset=0))
    write(path / "training_setB", 100001, stay(unit="micu"))
    write(path / "training_setB", 100002, stay())
    return path


def as_parquet(psv: Path, path: Path) -> Path:
    """The same stays in one Parquet file per hospital, typed as the real ones."""
    path.mkdir()
    for hospital in "AB":
        frames = [
            pd.read_csv(f, sep="|").assign(patient_id=int(f.stem[1:]))
            for f in sorted((psv / f"training_set{hospital}").glob("*.psv"))
        ]
        hours = pd.concat(frames, ignore_index=True).astype(np.float32)
        types = {"patient_id": np.int32, "Gender": np.int8, "ICULOS": np.int16, "SepsisLabel": np.int8}
        hours.astype(types).to_parquet(path / f"hospital_{hospital}.parquet")
    return path


@pytest.fixture
def psv(tmp_path: Path) -> Path:
    return write_hospitals(tmp_path / "psv")


def test_psv_folders_give_landmark_rows_of_two_hospitals(psv: Path) -> None:
    rows_of = load_physionet2019(psv, "hospital")
    found = {site: dict(zip(rows["patient_id"], rows["SepsisLabel"], strict=True)) for site, rows in rows_of.items()}
    assert found == {"A": {1: 0, 2: 1}, "B": {100001: 0, 100002: 0}}
    assert rows_of["A"]["Age"].tolist() == [61.25, 61.25]
    assert rows_of["A"]["Lactate"].tolist()[1] == 2.5
    assert rows_of["B"]["Lactate"].isna().all()


def test_units_are_natural_sites_and_empty_ones_are_left_out(psv: Path) -> None:
    rows_of = load_physionet2019(psv, "unit")
    assert {site: rows["patient_id"].tolist() for site, rows in rows_of.items()} == {
        "A-micu": [1], "A-sicu": [2], "B-micu": [100001], "B-unknown": [100002],
    }  # fmt: skip


def test_the_nested_folders_of_the_published_archive_are_found(tmp_path: Path, psv: Path) -> None:
    nested = write_hospitals(tmp_path / "nested" / "training").parent
    for site, rows in load_physionet2019(psv).items():
        pd.testing.assert_frame_equal(rows, load_physionet2019(nested)[site])


def test_parquet_and_psv_give_the_same_bytes(tmp_path: Path, psv: Path) -> None:
    from_parquet = load_physionet2019(as_parquet(psv, tmp_path / "parquet"))
    for site, rows in load_physionet2019(psv).items():
        assert table_digest(rows) == table_digest(from_parquet[site])


def test_a_missing_or_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BadInput) as caught:
            load_physionet2019(path)
        assert str(caught.value).startswith(f"{path}: ")
        for name in ("hospital_A.parquet", "training_setA/"):
            assert name in str(caught.value)


def test_a_missing_hospital_is_named(tmp_path: Path) -> None:
    write(tmp_path / "training_setA", 1, stay())
    with pytest.raises(BadInput, match="has hospital A, no B"):
        load_physionet2019(tmp_path)


def test_an_empty_hospital_is_named(psv: Path) -> None:
    for file in (psv / "training_setB").iterdir():
        file.unlink()
    with pytest.raises(BadInput, match=r"training_setB: an empty hospital"):
        load_physionet2019(psv)


def test_a_hospital_in_which_nobody_qualifies_is_named(psv: Path) -> None:
    for file in (psv / "training_setB").iterdir():
        file.unlink()
    write(psv / "training_setB", 100001, stay(hours=5))
    with pytest.raises(BadInput, match="hospital B: is empty: no patient qualifies"):
        load_cohort("physionet2019", psv)


def test_files_that_are_not_as_published_are_named(psv: Path) -> None:
    (psv / "training_setA" / "p000002.psv").write_text(f"{HEADER}\n{'|'.join(['abc'] * len(COLUMNS))}\n")
    with pytest.raises(BadInput, match=r"p000002\.psv: .*abc"):
        load_physionet2019(psv)
    (psv / "training_setA" / "p000002.psv").write_text("HR|O2Sat\n1|2\n")
    with pytest.raises(BadInput, match=r"p000002\.psv:1: the columns are not those of p000001\.psv"):
        load_physionet2019(psv)


def test_ids_of_the_other_hospital_are_refused(psv: Path) -> None:
    write(psv / "training_setA", 100009, stay())
    with pytest.raises(BadInput, match="1 patients whose ids are not of hospital A"):
        load_physionet2019(psv)


def test_a_parquet_file_without_a_column_is_named(tmp_path: Path, psv: Path) -> None:
    path = as_parquet(psv, tmp_path / "parquet")
    file = path / "hospital_B.parquet"
    pd.read_parquet(file).drop(columns=["HR", "Temp"]).to_parquet(file)
    with pytest.raises(BadInput, match=r"hospital_B\.parquet: lacks the columns HR, Temp"):
        load_physionet2019(path)


def test_a_label_that_is_not_binary_is_refused(psv: Path) -> None:
    write(psv / "training_setA", 9, stay().assign(SepsisLabel=2))
    with pytest.raises(BadInput, match="SepsisLabel: must be 0 or 1"):
        load_physionet2019(psv)


@pytest.mark.realdata
def test_the_real_data_give_six_natural_sites(physionet2019: Path) -> None:
    cohort = load_cohort("physionet2019", physionet2019, "unit")
    assert list(cohort.hospitals) == ["A-micu", "A-sicu", "A-unknown", "B-micu", "B-sicu", "B-unknown"]
    for hospital in cohort.hospitals.values():
        assert 0.02 < hospital.rows["SepsisLabel"].mean() < 0.10
        assert hospital.rows["patient_id"].is_unique


_MEASURED = """
import pathlib, resource, sys, time
from pettoolkit.cohort.source import load_cohort
start = time.process_time()
load_cohort("physionet2019", pathlib.Path(sys.argv[1]), "unit")
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.realdata
def test_the_real_data_are_read_in_twenty_cpu_seconds_and_two_gigabytes(physionet2019: Path) -> None:
    command = [sys.executable, "-c", _MEASURED, str(physionet2019)]
    root = Path(__file__).parents[2]
    seconds, kilobytes = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.split()
    assert float(seconds) < 20
    assert int(kilobytes) < 2_000_000


@pytest.mark.realdata
def test_real_stays_written_as_psv_read_the_same(physionet2019: Path, tmp_path: Path) -> None:
    if not (physionet2019 / "hospital_A.parquet").exists():
        pytest.skip("the real data are not in Parquet files")
    (tmp_path / "parquet").mkdir()
    for hospital in "AB":
        hours = pd.read_parquet(physionet2019 / f"hospital_{hospital}.parquet")
        hours = hours[hours["patient_id"].isin(hours["patient_id"].unique()[:50])]
        hours.to_parquet(tmp_path / "parquet" / f"hospital_{hospital}.parquet")
        for identifier, rows in hours.groupby("patient_id"):
            write(tmp_path / f"training_set{hospital}", int(str(identifier)), rows.drop(columns="patient_id"))
    from_psv, from_parquet = load_physionet2019(tmp_path), load_physionet2019(tmp_path / "parquet")
    for site in "AB":
        assert table_digest(from_psv[site]) == table_digest(from_parquet[site])
