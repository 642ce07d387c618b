"""DESIGN's import rules: what .importlinter says holds, and each of its rules would notice being broken."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pettoolkit"
LINT = "import sys; from importlinter.cli import lint_imports_command as lint; sys.argv[0] = 'lint-imports'; lint()"

BREACHES = {
    # contract: (module, a line that breaks it)
    "layers": ("cohort/contract.py", "import pettoolkit.experiment.runner"),
    "pure": ("synthesis/rows.py", "def later():\n    import flwr"),
    "federation": ("federation/wire.py", "import pettoolkit.hospital.site"),
    "outside": ("arms/pooled/outside.py", "import pettoolkit.hospital.site"),
    "keys": ("evaluation/metrics.py", "import pettoolkit.federation.wire"),
    "mlflow": ("arms/registry.py", "import mlflow"),
    "ray": ("tracking/store.py", "import ray"),
    "readers": ("report/lines.py", "import pettoolkit.experiment.cells"),
    "advice": ("advice/text.py", "import pettoolkit.arms.registry"),
    "records": ("records.py", "import pettoolkit.privacy.ledger"),
}
"""Each contract of .importlinter with a line that it has to refuse."""

HEAVY = {"anonymeter", "dp_accounting", "matplotlib", "mlflow", "opacus", "ray", "sdv", "sklearn", "tenseal"}
"""Imported inside the function that uses them: who does not use them does not wait for them."""

PRIVATE_FLOWER = re.compile(r"flwr\.(client|common|proto|server|simulation|supercore|superlink|supernode)\b")
TYPE_OF_GRID = "flwr.supercore.run"
"""``Run`` is a type in the signature of Flower's public ``Grid``."""


def lint(folder: Path) -> dict[str, str]:
    """Contract's name to KEPT or BROKEN, for the package in ``folder``."""
    command = [sys.executable, "-c", LINT, "--no-cache", "--no-logo", "--config", str(ROOT / ".importlinter")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    verdicts = {name: re.search(rf"{re.escape(name)} (KEPT|BROKEN)", said) for name in contracts().values()}
    assert all(verdicts.values()), done.stdout + done.stderr
    assert (done.returncode == 0) == ("BROKEN" not in said)
    return {name: found[1] for name, found in verdicts.items() if found}


def contracts() -> dict[str, str]:
    """Short name to full name of each contract."""
    text = (ROOT / ".importlinter").read_text(encoding="utf-8")
    return dict(re.findall(r"^\[importlinter:contract:(\w+)\]\nname = (.+)$", text, flags=re.MULTILINE))


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether that happens as soon as the file itself is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for parent in ast.walk(tree)
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(parent, ast.If) and ast.unparse(parent.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"))
        for node in ast.walk(parent)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # With level 0 only: relative imports are not used (ruff's TID would say so if they were).
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, id(node) not in inner) for name in names)


def files() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 50
    return found


def test_the_rules_hold() -> None:
    assert set(lint(ROOT).values()) == {"KEPT"}


def test_each_rule_notices_being_broken(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "pettoolkit", ignore=shutil.ignore_patterns("__pycache__"))
    for module, line in BREACHES.values():
        path = tmp_path / "pettoolkit" / module
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")

    verdicts = lint(tmp_path)

    assert set(BREACHES) == set(contracts()), "a contract without a line that breaks it, or the other way round"
    assert {short: verdicts[name] for short, name in contracts().items()} == dict.fromkeys(BREACHES, "BROKEN")


def test_a_room_without_a_place_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "pettoolkit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pettoolkit" / "attic.py").write_text("", encoding="utf-8")
    assert lint(tmp_path)[contracts()["layers"]] == "BROKEN"


def test_heavy_libraries_wait_inside_the_functions_that_use_them() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files()
        for name, at_once in imported(path)
        if at_once and name.partition(".")[0] in HEAVY
    ]
    assert found == []


def test_flowers_private_parts_are_used_in_one_file() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in files()
        for name, _ in imported(path)
        if PRIVATE_FLOWER.match(name) and not name.startswith(TYPE_OF_GRID)
    }
    assert found == {"federation/flower.py"}


@pytest.mark.parametrize("room", ["evaluation", "attacks"])
def test_only_inside_and_outside_of_a_judge_know_messages(room: str) -> None:
    found = {
        path.name
        for path in (PACKAGE / room).rglob("*.py")
        for name, _ in imported(path)
        if name.split(".")[0] == "flwr" or name.startswith(("pettoolkit.federation", "pettoolkit.arms"))
    }
    assert found <= {"inside.py", "outside.py"}


def test_each_technology_is_a_folder_with_the_same_three_files() -> None:
    from pettoolkit.arms.registry import ARMS

    folders = {path.parent.name for path in (PACKAGE / "arms").glob("*/__init__.py")}
    assert set(ARMS) <= folders
    for arm in ARMS:
        here = {path.name for path in (PACKAGE / "arms" / arm).glob("*.py")}
        assert {"__init__.py", "config.py", "inside.py", "outside.py"} <= here


def test_the_command_line_needs_no_library_until_a_command_does() -> None:
    at_once = {name for name, now in imported(PACKAGE / "cli.py") if now and name.startswith("pettoolkit")}
    assert {name.split(".")[1] for name in at_once} == {"errors"}
