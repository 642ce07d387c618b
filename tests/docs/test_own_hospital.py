"""The worked example of "bring your own hospital" does what its page says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from pettoolkit import cli
from tests.docs.pages import ROOT, blocks

PAGE = "docs/own_hospital.md"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the page's program was run, with the experiments that it names."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(PAGE, "python")
    exec(compile(program, PAGE, "exec"), {})
    return tmp_path / "data" / "breast_cancer"


def test_contract_and_experiment_of_the_page_are_those_that_come_with_it() -> None:
    contract, experiment = (yaml.safe_load(block) for block in blocks(PAGE, "yaml"))
    shipped = yaml.safe_load((ROOT / "experiments/contracts/breast_cancer.yaml").read_text(encoding="utf-8"))
    assert contract == {key: shipped[key] for key in contract}
    assert experiment == yaml.safe_load((ROOT / "experiments/breast_cancer.yaml").read_text(encoding="utf-8"))


def test_tables_are_made_drafted_and_pass_the_check(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [block for block in blocks(PAGE, "console") if "sites init" in block]
    init, check = [line.split()[2:] for line in said[0].splitlines()]
    assert cli.main(init) == 0
    assert "malignant" in (data / "contract.yaml").read_text(encoding="utf-8")
    assert cli.main(check) == 0
    out = capsys.readouterr().out
    assert "north: 280 patients" in out
    assert "ok, 3 hospitals" in out


def test_the_experiment_runs_and_the_quoted_table_has_its_rows(
    data: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = data.parents[1] / "mlruns"
    runs.mkdir()
    shutil.copy(empty_database, runs)
    changes = ["--set", "seeds=[0]", "--set", f"tracking.dir={runs}"]
    assert cli.main(["run", "experiments/breast_cancer.yaml", "--format", "json", *changes]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    aurocs = {cell["arm"]: cell["metrics"]["utility/auroc"] for cell in cells}
    assert min(aurocs.values()) > 0.85
    quoted = "\n".join(blocks(PAGE, "text"))
    assert set(re.findall(r"^(\w+) .*logistic", quoted, flags=re.MULTILINE)) - {"mean", "Alone"} == set(aurocs)
