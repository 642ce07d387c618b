"""Basics that a program can check: nothing is unpickled, YAML makes no objects, servers listen on loopback."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "pettoolkit"

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
OWN_WORKERS = {"federation/ray_grid.py"}
"""Ray's workers get simulated hospitals from the process that started them; nothing of a message goes this way."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the package: file, what is called, the call."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), "")


def test_no_module_that_unpickles_is_imported() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in UNPICKLERS for name in names):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == set()


def test_only_rays_own_workers_are_sent_pickles() -> None:
    found = {file for file, called, _ in calls() if "pickle" in called}
    assert found == OWN_WORKERS


def test_arrays_are_read_without_pickles() -> None:
    loads = [(file, call) for file, called, call in calls() if called in ("np.load", "numpy.load")]
    assert loads
    assert [file for file, call in loads if keyword(call, "allow_pickle") != "False"] == []


def test_models_are_never_read_by_torch() -> None:
    assert [file for file, called, _ in calls() if called in ("torch.load", "torch.jit.load")] == []


def test_yaml_makes_no_objects() -> None:
    unsafe = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
    found = [
        file
        for file, called, call in calls()
        if called in unsafe and not any("SafeLoader" in ast.unparse(argument) for argument in call.args)
    ]
    assert found == []


def test_mlflow_listens_on_this_machine_alone() -> None:
    text = (PACKAGE / "tracking" / "ui.py").read_text(encoding="utf-8")
    assert '"127.0.0.1"' in text
    assert "0.0.0.0" not in text
