"""Follows "add a technology in an afternoon" on a copy of the package, and runs what comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, blocks

PAGE = "docs/add_a_technology.md"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository's package with the page's files and lines in it."""
    for folder in ("pettoolkit", "sites"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for text in blocks(PAGE, "python"):
        target = tmp_path / text.splitlines()[0].removeprefix("# ")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (diff,) = blocks(PAGE, "diff")
    for change in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, *lines = change.splitlines()
        added = [line[1:] for line in lines if line.startswith("+")]
        (before,) = [line[1:] for line in lines if line.startswith(" ")]
        target = tmp_path / name
        text = target.read_text(encoding="utf-8")
        assert text.count(f"\n{before}\n") == 1, f"{name}: the page's line {before!r} is not there once"
        target.write_text(text.replace(f"\n{before}\n", "\n" + "\n".join([*added, before]) + "\n"), encoding="utf-8")
    return tmp_path


COORDINATED = """
from dataclasses import replace
from pettoolkit.arms.app import coordinate
from tests import small_cohort as small

with small.grid(small.hospitals()) as grid:
    own = coordinate(grid, small.spec("local")).models.by_site.values()
    found = coordinate(grid, replace(small.spec("local"), arm="averaged"))
assert found.models.shared
mean = sum(weights.unpack()["layer0.weight"] for weights in own) / len(own)
assert abs(found.models.by_site["*"].unpack()["layer0.weight"] - mean).max() < 1e-6
print(*found.exposure.kinds_out())
"""


def test_the_pages_arm_releases_the_mean_of_the_hospitals_models(copy: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{copy}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COORDINATED]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["model"]


@pytest.mark.slow
def test_the_page_leads_to_an_arm_that_runs(copy: Path, empty_database: Path) -> None:
    (copy / "mlruns").mkdir()
    shutil.copy(empty_database, copy / "mlruns")
    (experiment,) = blocks(PAGE, "text")
    (copy / "averaged.yaml").write_text(experiment, encoding="utf-8")
    command = [sys.executable, "-m", "pettoolkit.cli", "run", "averaged.yaml", "--format", "json"]
    env = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}

    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    cells = {cell["arm"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert set(cells) == {arm["arm"] for arm in yaml.safe_load(experiment)["arms"]}
    assert cells["averaged"]["status"] == "done"
    assert cells["averaged"]["metrics"]["utility/auroc"] > 0.5
    out = {row["kind"] for row in cells["averaged"]["exposure"]["traffic"] if row["direction"] == "out"}
    assert "model" in out
    assert "raw_records" not in out
    command[3:] = ["check", "averaged.yaml", "--set", "dp.epsilon=3"]
    refused = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert "averaged has no differential privacy yet" in refused.stderr
