"""`pettoolkit declare`: from files to text and JSON, on anybody's table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pettoolkit import cli
from pettoolkit.arms.released import table_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput
from pettoolkit.evaluation.quality import schema
from pettoolkit.evaluation.quality.figures import Declaration
from pettoolkit.experiment.declare import declare
from pettoolkit.experiment.released import KEY, TABLE, table_files
from pettoolkit.experiment.synthesize import synthesize
from pettoolkit.records import Guarantee, NotMeasured
from tests.evaluation.quality import toy

COLUMNS = """
  - {name: age, low: 18, high: 100, integer: true, missing: never, quasi_identifier: true}
  - {name: sex, kind: binary, missing: never, quasi_identifier: true}
  - {name: ward, kind: category, levels: [medical, surgical, other], quasi_identifier: true}
  - {name: lactate, low: 0.1, high: 50, log: true}
  - {name: pulse, low: 0, high: 250}
  - {name: pressure, low: 0, high: 250}
"""
OUTCOMES = {
    "binary": "  - {name: y, kind: binary, role: outcome}\n",
    "classes": "  - {name: y, kind: category, levels: [home, ward, died], role: outcome}\n",
    "number": "  - {name: y, low: -10, high: 10, role: outcome}\n",
}
PATIENT = "  - {name: patient, role: patient_id}\n"


def contract(folder: Path, task: str = "binary", more: str = "") -> None:
    text = f"name: toy\ncolumns:\n{PATIENT}{more}{COLUMNS.strip(chr(10))}\n{OUTCOMES[task]}"
    (folder / "contract.yaml").write_text(text, encoding="utf-8")


def named(rows: pd.DataFrame, prefix: str = "p") -> pd.DataFrame:
    return rows.assign(patient=[f"{prefix}{i}" for i in range(len(rows))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contract(tmp_path)
    named(toy.patients(150, 0)).to_csv(tmp_path / "real.csv", index=False)
    toy.patients(120, 1).to_parquet(tmp_path / "made.parquet", index=False)
    return tmp_path


def run(folder: Path, *names: str, **asked: object) -> Declaration:
    tables = [folder / name for name in names or ("made.parquet",)]
    return declare(folder / "real.csv", tables, **{"quick": True, **asked})  # type: ignore[arg-type]


def test_the_toy_contract_here_is_the_one_of_the_figures_tests(folder: Path) -> None:
    ours, theirs = parse(Contract, folder / "contract.yaml"), toy.contract()
    assert ours.columns[1:] == theirs.columns


def test_the_command_prints_text_that_says_it_is_internal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["declare", "--real", str(folder / "real.csv"), "--synthetic", str(folder / "made.parquet"), "--quick"]
    assert cli.main(asked) == 0
    out, err = capsys.readouterr()
    assert out.startswith("QUALITY DECLARATION\nInternal: this declaration was made from the rows of real patients")
    assert "made.parquet: where to look first" in out
    assert "columns and pairs" in err  # progress, beside and not among the figures


def test_the_json_keeps_the_schema_on_stdout_and_in_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["declare", "--real", str(folder / "real.csv"), "--synthetic", str(folder / "made.parquet"), "--quick"]
    out = folder / "declaration.json"
    assert cli.main([*asked, "--format", "json", "--out", str(out)]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(printed, schema.schema())
    assert cli.main([*asked, "--out", str(out)]) == 2
    assert capsys.readouterr().err.endswith("is there already (move it away, or choose another name)\n")


def test_csv_and_parquet_of_the_same_rows_give_the_same_figures(folder: Path) -> None:
    toy.patients(120, 1).to_csv(folder / "made.csv", index=False)
    one, two = run(folder, "made.parquet", "made.csv").candidates
    assert one.columns == two.columns
    assert one.utility == two.utility


def test_tables_of_the_same_name_are_told_apart_by_their_folders(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        toy.patients(60, 1).to_csv(folder / name / "made.csv", index=False)
    assert [c.name for c in run(folder, "a/made.csv", "b/made.csv").candidates] == ["a/made.csv", "b/made.csv"]


@pytest.mark.parametrize("task", ["classes", "number"])
def test_the_outcome_may_have_several_classes_or_be_a_number(folder: Path, task: str) -> None:
    contract(folder, task)
    named(toy.patients(150, 0, task)).to_csv(folder / "real.csv", index=False)
    toy.patients(120, 1, task).to_csv(folder / "made.csv", index=False)
    found = run(folder, "made.csv")
    assert found.task == task
    assert found.candidates[0].utility.headline == ("r2" if task == "number" else "auroc")


def test_a_whole_number_between_0_and_1_is_yes_or_no(folder: Path) -> None:
    path = folder / "contract.yaml"
    text = path.read_text(encoding="utf-8")
    asked = "low: 0, high: 1, integer: true, role: outcome"
    path.write_text(text.replace("kind: binary, role: outcome", asked), encoding="utf-8")
    assert run(folder).task == "binary"


def test_one_file_per_hospital_or_a_site_column_names_the_hospitals(folder: Path) -> None:
    rows = named(toy.patients(150, 0))
    (folder / "hospitals").mkdir()
    for i, name in enumerate(("east", "west")):
        rows.iloc[i::2].to_csv(folder / "hospitals" / f"{name}.csv", index=False)
    by_file = declare(folder / "hospitals", [folder / "made.parquet"], contract=folder / "contract.yaml", quick=True)
    assert by_file.hospitals == ("east", "west")

    contract(folder, more="  - {name: place, role: site}\n")
    rows.assign(place=np.where(np.arange(150) % 2, "west", "east")).to_csv(folder / "real.csv", index=False)
    assert run(folder).hospitals == ("east", "west")


def test_the_guarantee_is_read_from_a_file_of_synthesize(folder: Path) -> None:
    text = (folder / "contract.yaml").read_text(encoding="utf-8") + "prevalence: 0.4\n"
    (folder / "contract.yaml").write_text(text, encoding="utf-8")
    real = folder / "real.csv"
    synthesize(real, folder / "private.parquet", generator="marginals", epsilon=5.0, delta=1e-4)
    synthesize(real, folder / "plain.parquet", generator="marginals", seed=1)
    private, plain, foreign = run(folder, "private.parquet", "plain.parquet", "made.parquet").candidates
    assert private.guarantee == "epsilon 5 at delta 0.0001 (stated in the file)"
    assert (plain.guarantee, foreign.guarantee) == ("none", "not stated")


GUARANTEE = Guarantee(3.0, 4.0, 1e-5, "Gaussian", "noise", simulated_noise=False)
SEEDED = (
    "epsilon 3 at delta 1e-05 (stated in the file; its noise comes from a seed, so that this table protects nobody)"
)


@pytest.mark.parametrize(
    ("guarantee", "said"),
    [
        (GUARANTEE, "epsilon 3 at delta 1e-05 (stated in the file)"),
        (replace(GUARANTEE, simulated_noise=True), SEEDED),
        (NotMeasured("no differential privacy"), "none"),
    ],
)
def test_the_guarantee_is_read_from_a_table_of_a_run(
    folder: Path, guarantee: Guarantee | NotMeasured, said: str
) -> None:
    made = table_of([toy.patients(60, 1)], "synthetic_records", guaranteed=True)
    (folder / "run.parquet").write_bytes(table_files(made, guarantee, {})[TABLE])
    assert run(folder, "run.parquet").candidates[0].guarantee == said


@pytest.mark.parametrize("mark", [b"[1]", b"no JSON", b'{"guarantee": 3}', b"{}"])
def test_another_programs_mark_states_nothing(folder: Path, mark: bytes) -> None:
    table = pq.read_table(folder / "made.parquet")
    pq.write_table(table.replace_schema_metadata({KEY: mark}), folder / "other.parquet")
    assert run(folder, "other.parquet").candidates[0].guarantee == "not stated"


def test_values_out_of_bounds_and_unknown_levels_are_counted_and_not_refused(folder: Path) -> None:
    made = toy.patients(60, 1)
    made.loc[0, "pulse"], made.loc[1, "ward"] = 999, "morgue"
    made.to_csv(folder / "made.csv", index=False)
    broken = {rule.rule: rule.synthetic for rule in run(folder, "made.csv").candidates[0].rules}
    assert (broken["values out of bounds"], broken["unknown level"]) == (1, 1)


def test_a_holdout_is_read_and_must_be_other_patients(folder: Path) -> None:
    named(toy.patients(60, 5), "h").to_csv(folder / "held.csv", index=False)
    assert run(folder, holdout=folder / "held.csv").holdout_rows == 60

    named(toy.patients(60, 5)).to_csv(folder / "held.csv", index=False)
    with pytest.raises(BadInput, match="60 patients are in the real table too; a holdout must be other patients"):
        run(folder, holdout=folder / "held.csv")


def refused(folder: Path, **asked: object) -> tuple[str, ...]:
    with pytest.raises(BadInput) as error:
        run(folder, "made.csv", **asked)
    return tuple(line.removeprefix(f"{folder}/") for line in error.value.lines)


def test_other_columns_are_named_with_a_hint(folder: Path) -> None:
    toy.patients(60, 1).rename(columns={"pulse": "puls"}).to_csv(folder / "made.csv", index=False)
    assert refused(folder) == (
        "made.csv:1: puls: the contract has no such column (did you mean pulse?)",
        "made.csv:1: pulse: the column is missing",
    )


def test_text_among_numbers_is_named_with_its_line(folder: Path) -> None:
    made = toy.patients(60, 1).astype({"pulse": object})
    made.loc[3, "pulse"] = "high"
    made.to_csv(folder / "made.csv", index=False)
    assert refused(folder) == ("made.csv:5: pulse: must be a number (got high)",)


def test_an_empty_table_is_refused(folder: Path) -> None:
    toy.patients(60, 1).head(0).to_csv(folder / "made.csv", index=False)
    assert refused(folder) == ("made.csv: there are no rows in it",)


def test_a_real_patient_twice_or_without_outcome_is_refused(folder: Path) -> None:
    toy.patients(60, 1).to_csv(folder / "made.csv", index=False)
    real = named(toy.patients(150, 0)).astype({"y": object})
    real.loc[1, ["patient", "y"]] = ["p0", None]
    real.to_csv(folder / "real.csv", index=False)
    assert refused(folder) == (
        "real.csv:3: y: is missing; a real patient needs an outcome",
        "real.csv: patient: patient p0 is there twice; a declaration needs one row per patient",
    )


def test_what_is_asked_is_checked_first(folder: Path) -> None:
    made = folder / "made.parquet"
    with pytest.raises(BadInput, match="is named twice"):
        declare(folder / "real.csv", [made, made])
    (folder / "contract.yaml").unlink()
    with pytest.raises(BadInput, match="there is no contract; name it with --contract"):
        declare(folder / "real.csv", [made])


@pytest.mark.realdata
@pytest.mark.slow
def test_real_patients_against_others_of_them_are_at_the_floor_and_shuffled_ones_are_not(
    physionet2019: Path, tmp_path: Path
) -> None:
    from pettoolkit.cohort.source import load_cohort
    from pettoolkit.evaluation.quality.declaration import Given
    from pettoolkit.evaluation.quality.declaration import declare as measured
    from pettoolkit.evaluation.quality.mode import QUICK

    cohort = load_cohort("physionet2019", physionet2019, "unit")
    rows = pd.concat([h.rows for h in cohort.hospitals.values()], ignore_index=True).sample(frac=1, random_state=0)
    half, other = rows.iloc[::2], rows.iloc[1::2]
    shuffled = toy.shuffled(half, 0)
    described = cohort.contract.select("compact")
    found = measured(Given(half, {"other": other, "shuffled": shuffled}, described), mode=QUICK)

    fresh, bad = found.candidates
    assert fresh.bivariate.mean == pytest.approx(fresh.bivariate.floor, rel=0.15)
    assert abs(fresh.distinguishability.auroc.value - 0.5) < 0.03
    assert abs(fresh.utility.models["logistic"].loss.value) < 0.03
    assert bad.bivariate.mean > 4 * bad.bivariate.floor
    assert bad.utility.models["logistic"].loss.value > 0.1
    assert bad.distinguishability.auroc.value > 0.9


def test_each_table_is_named_by_the_hash_of_its_file(folder: Path) -> None:
    toy.patients(120, 2).to_csv(folder / "other.csv", index=False)
    found = run(folder, "made.parquet", "other.csv").candidates
    assert {c.name: c.sha256 for c in found} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("made.parquet", "other.csv")
    }
