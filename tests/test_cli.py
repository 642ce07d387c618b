"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import pettoolkit.experiment
from pettoolkit import __version__, cli
from pettoolkit.errors import BadInput, EngineFailed
from pettoolkit.experiment.cells import CellReport, Comparison, PlannedCell
from pettoolkit.experiment.matrix import expand

GOOD = "name: example\narms: [{arm: local}, {arm: pooled}]\n"


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return str(path)


class Runner(types.ModuleType):
    """Stands in for the runner: cells without results, and whatever error a test wants."""

    def __init__(self) -> None:
        super().__init__("pettoolkit.experiment.runner")
        self.status = "done"
        self.error: BaseException | None = None
        self.asked: dict[str, Any] = {}

    def plan(self, config: Any) -> list[PlannedCell]:
        return [PlannedCell(cell.spec, "to run") for cell in expand(config, ("a", "b"))]

    def run(self, config: Any, **asked: Any) -> Comparison:
        self.asked = asked
        if self.error:
            raise self.error
        asked["progress"]("pooled logistic seed 0", 0, 2)
        cells = [CellReport(cell.spec, self.status, reason="why") for cell in expand(config, ("a", "b"))]
        return Comparison(tuple(cells), ())

    def show(self, config: Any) -> Comparison:
        return self.run(config, progress=lambda *_: None)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    stand_in = Runner()
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(pettoolkit.experiment, "runner", stand_in, raising=False)
    return stand_in


def attached(monkeypatch: pytest.MonkeyPatch, what: Path | Exception) -> None:
    """Let the report be attached there, or fail."""

    def attach(*_: Any) -> Path:
        if isinstance(what, Exception):
            raise what
        return what

    monkeypatch.setattr("pettoolkit.experiment.report.attach", attach)


def test_a_run_ends_with_the_page_that_compares(
    experiment: str, runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attached(monkeypatch, Path("mlruns/comparison.html"))
    assert cli.main(["run", experiment]) == cli.DONE
    assert "The comparison as one page: mlruns/comparison.html" in capsys.readouterr().out


@pytest.mark.parametrize("error", [BadInput("the disk is full"), RuntimeError("the disk is full")])
def test_a_page_that_could_not_be_attached_does_not_fail_the_run(
    experiment: str,
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    attached(monkeypatch, error)
    assert cli.main(["run", experiment, "--set", "tracking.dir=a b"]) == cli.DONE
    said = capsys.readouterr()
    assert "the disk is full" in said.err
    assert f"report {experiment} --set 'tracking.dir=a b'" in said.err
    assert "as one page" not in said.out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pettoolkit import cli; assert cli.main(['--help']) == 0; "
        "print(sorted(sys.modules.keys() & {'numpy', 'torch', 'pandas', 'flwr', 'ray', 'mlflow', 'pydantic', 'sdv'}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"
    commands = ("check", "plan", "run", "show", "schema", "ui", "sites", "keys", "score", "version")
    assert all(name in said for name in commands)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"pettoolkit {__version__}\n"


def test_check_says_ok_and_counts_cells(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", experiment, "--set", "seeds=[0, 1]"]) == 0
    assert capsys.readouterr().out == f"{experiment}: ok, 4 cells\n"


def test_check_counts_what_is_excluded_and_what_is_left_out(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set", "exclude=[{arm: local}]", "--set", "evaluation.unseen=each"]
    assert cli.main(["check", experiment, *sets]) == 0
    assert capsys.readouterr().out.endswith("ok, 2 cells, 1 of them excluded for each hospital that is left out\n")


def test_check_and_plan_note_a_contract_without_a_prevalence(
    tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "contract.yaml"
    contract.write_text("name: x\ncolumns: [{name: y, kind: binary, role: outcome}]\n", encoding="utf-8")
    path = tmp_path / "x.yaml"
    path.write_text(
        f"name: x\ntask: table-outcome\nsites: {{source: tables, path: {tmp_path}}}\narms: [{{arm: local}}]\n",
        encoding="utf-8",
    )
    note = f"note: {contract}: prevalence is blank"
    assert cli.main(["check", str(path)]) == 0
    assert note in capsys.readouterr().out
    assert cli.main(["plan", str(path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert note in err
    contract.write_text(f"prevalence: 0.1\n{contract.read_text()}", encoding="utf-8")
    assert cli.main(["check", str(path)]) == 0
    assert "note:" not in capsys.readouterr().out


def test_bad_input_is_exit_code_2_with_all_findings_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nmodle: mlp\narms: [{arm: locl}]\n", encoding="utf-8")
    assert cli.main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:2: modle: unknown key (did you mean model?)",
        f"{path}:3: arms.0.arm: must be one of local, pooled, federated, encrypted_aggregation, "
        "encrypted_statistics, encrypted_records, anonymised, synthetic, augmented "
        "(got locl; did you mean local?)",
    ]


@pytest.mark.parametrize(
    "arguments", [["chek"], ["run"], ["run", "x.yaml", "--engine", "spark"], ["ui", "--port", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "run", "show"])
def test_json_is_all_that_is_on_stdout(
    command: str, experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, experiment, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["experiment"], [cell["arm"] for cell in data["cells"]]) == ("example", ["local", "pooled"])


def test_plan_lists_cells(experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", experiment]) == 0
    assert "2 cells: 2 to run" in capsys.readouterr().out


def test_run_hands_its_options_on_and_names_the_next_command(
    experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--engine", "inline", "--workers", "2", "--force", "--set", "dp.epsilon=3"]
    assert cli.main(["run", experiment, *asked]) == 0
    assert (runner.asked["engine"], runner.asked["workers"], runner.asked["force"]) == ("inline", 2, True)
    assert "epsilon: 3" in runner.asked["config_text"]
    out, err = capsys.readouterr()
    assert f"pettoolkit show {experiment}" in out
    assert "pooled logistic seed 0" in err


def test_an_engine_that_is_not_named_is_left_to_the_file(experiment: str, runner: Runner) -> None:
    assert cli.main(["run", experiment]) == 0
    assert runner.asked["engine"] is None


def test_failed_cells_are_exit_code_1(experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    runner.status = "failed"
    assert cli.main(["run", experiment]) == 1
    assert "failed: pooled, logistic (1 cell): why" in capsys.readouterr().out


def test_another_error_of_ours_is_one_line_and_exit_code_1(
    experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.error = EngineFailed("Ray did not start")
    assert cli.main(["run", experiment]) == 1
    assert capsys.readouterr().err == "Ray did not start\n"


def test_an_interruption_is_exit_code_130_with_the_command_that_goes_on(
    experiment: str, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.error = KeyboardInterrupt()
    assert cli.main(["run", experiment, "--set", "seeds=[0, 1]"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith(f"To go on: pettoolkit run {experiment} --set 'seeds=[0, 1]'")


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "pettoolkit experiment"


def test_sites_init_drafts_a_contract_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "north.csv"
    table.write_text("id,age,died\n1,50,1\n", encoding="utf-8")
    assert cli.main(["sites", "init", str(table)]) == 0
    assert "name: age" in (tmp_path / "contract.yaml").read_text(encoding="utf-8")
    assert cli.main(["sites", "init", str(table)]) == 2
    assert (
        capsys.readouterr().err
        == f"{tmp_path / 'contract.yaml'}: is there already (move it away to have a new draft)\n"
    )


def test_sites_check_counts_patients_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = tmp_path / "contract.yaml"
    contract.write_text(
        "name: t\ngrain: row\ncolumns:\n  - {name: id, role: patient_id}\n"
        "  - {name: age, low: 0, high: 120}\n  - {name: died, kind: binary, role: outcome}\n",
        encoding="utf-8",
    )
    (tmp_path / "north.csv").write_text("id,age,died\n1,50,1\n2,60,0\n", encoding="utf-8")
    assert cli.main(["sites", "check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "north: 2 patients, 1 with died = 1"
    (tmp_path / "north.csv").write_text("id,age,died\n1,50,1\n2,60,0\n1,51,0\n", encoding="utf-8")
    assert cli.main(["sites", "check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "north: 3 rows of 2 patients, 1 with died = 1"
    (tmp_path / "south.csv").write_text("id,age,died\n1,50,1\n4,600,0\n", encoding="utf-8")
    assert cli.main(["sites", "check", str(tmp_path)]) == 2
    assert "south.csv" in capsys.readouterr().err
