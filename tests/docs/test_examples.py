"""Every command that stands behind a prompt in README and docs is run, or it is said here why not."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit import cli
from pettoolkit.experiment.load import load
from tests.docs.pages import ROOT, blocks

PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
PROGRAM = re.compile(r"^(\.venv/bin/)?pettoolkit\s+")

NOT_HERE = {
    "make ": "targets exist (tests/test_readme.py); the commands behind them are run here",
    "cd ": "part of an example on real data",
    "python benchmarks/": "benchmarks have their own tests and figures",
    "pettoolkit ui": "a server (tests/tracking/test_ui.py)",
    "pettoolkit deploy": "one process per hospital, with certificates (tests/deployment)",
    "pettoolkit lab": "a server; the labs themselves run in tests/experiment/test_lab.py",
    "pettoolkit synthesize --real real.csv": "on real data; the command is run on README's example",
    "pettoolkit declare --real real.csv": "on real data; the page's other one is run",
}
"""Beginning of a command to where it is run instead, or why it is not."""

FAST = ("budget", "check", "plan", "sites", "synthesize")
"""Commands that take a second; the others are run by the slow tests."""

REFUSED = {"sites check mydata": 2}
"""Exit codes other than 0, as the page shows them."""

SMALLER = ["--set", "sites.stays=150"]
"""The page's experiment with fewer patients."""


def prompts() -> list[str]:
    """All commands, in the order of the pages, each once."""
    shown = [
        line[2:]
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    assert len(shown) > 20
    return list(dict.fromkeys(PROGRAM.sub("pettoolkit ", command) for command in shown))


def needs_data(words: list[str]) -> bool:
    """Whether the command's experiment is about data that are not in the repository, and that nobody can make."""
    files = [word for word in words if word.startswith("experiments/") and word.endswith(".yaml")]
    if words[0] not in ("run", "show", "plan", "advise") or not files:
        return False
    sets = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    sites = load(ROOT / files[0], sets).sites
    return sites.source != "simulated" and "breast_cancer" not in str(sites.path)


def calls(*, fast: bool) -> Iterator[object]:
    for command in prompts():
        if any(command.startswith(prefix) for prefix in NOT_HERE):
            continue
        words = shlex.split(command)[1:]
        if not needs_data(words) and (words[0] in FAST) == fast:
            yield pytest.param(words, id=" ".join(words))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A folder in which the pages' commands can be typed, one after the other."""
    folder = tmp_path_factory.mktemp("typed")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns")
    (folder / "situation.yaml").write_text(blocks("docs/advice.md", "text")[0], encoding="utf-8")
    mydata = folder / "mydata"
    mydata.mkdir()
    for number, name in enumerate(("north", "west", "others")):
        patients(number).to_csv(mydata / f"{name}.csv", index=False)
    wrong = pd.read_csv(mydata / "west.csv")
    wrong.loc[3, "age"] = 500
    wrong.to_csv(mydata / "west.csv", index=False)
    return folder


def patients(number: int, n: int = 300) -> pd.DataFrame:
    """Rows for README's contract of one's own table."""
    rng = np.random.default_rng(number)
    age, lactate = rng.integers(18, 100, n), np.round(np.exp(rng.normal(0.6, 0.6, n)), 2)
    risk = 1 / (1 + np.exp(-(0.05 * (age - 80) + np.log(lactate))))
    return pd.DataFrame(
        {
            "patient": [f"{number}-{i}" for i in range(n)],
            "age": age,
            "sex": rng.choice(["f", "m"], n),
            "lactate": lactate.clip(0.1, 30),
            "admitted": [f"{year}-06-01" for year in rng.integers(2018, 2022, n)],
            "died": (rng.random(n) < risk).astype(int),
        }
    )


def contract() -> str:
    return next(block for block in blocks("README.md", "yaml") if "columns:" in block)


def typed(words: list[str], place: Path) -> int:
    """Type a command, on fewer patients and in this process; returns its exit code."""
    name = " ".join(words)
    if "--real" in words:
        words = [w if w != "mydata/north.csv" else "mine/north.csv" for w in words]
    if words[:2] == ["sites", "init"] and "mydata" in name:
        (place / "mydata" / "contract.yaml").unlink(missing_ok=True)
    elif "mydata" in name:
        (place / "mydata" / "contract.yaml").write_text(contract(), encoding="utf-8")
    if "--out" in words:
        made = place / words[words.index("--out") + 1]
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    simulated = any(word.startswith("experiments/") for word in words) and "breast_cancer" not in name
    simulated = simulated and words[0] not in ("check", "sites")
    return cli.main([*words, *(SMALLER if simulated else []), *(["--engine", "inline"] if words[0] == "run" else [])])


def prepare(words: list[str], place: Path) -> None:
    """What the page has done before this command."""
    if "breast_cancer" in " ".join(words) and not (place / "data").exists():
        exec(compile(blocks("docs/own_hospital.md", "python")[0], "own_hospital.md", "exec"), {})
    (place / "mine").mkdir(exist_ok=True)
    shutil.copy(place / "mydata" / "north.csv", place / "mine")
    (place / "mine" / "contract.yaml").write_text(contract(), encoding="utf-8")
    for file in ("north.parquet", "made.parquet"):
        if file in words and words[0] != "synthesize" and not (place / file).exists():
            assert cli.main(["synthesize", "--real", "mine/north.csv", "--out", file]) == 0


@pytest.mark.parametrize("words", calls(fast=True))
def test_a_quick_example_does_what_it_says(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    prepare(words, place)
    assert typed(words, place) == REFUSED.get(" ".join(words), 0)


@pytest.mark.slow
@pytest.mark.parametrize("words", calls(fast=False))
def test_an_example_does_what_it_says(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    prepare(words, place)
    assert typed(words, place) == REFUSED.get(" ".join(words), 0)


def test_the_message_that_the_readme_quotes_is_the_one_that_comes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert typed(["sites", "check", "mydata"], place) == 2
    quoted = [line for block in blocks("README.md", "console") for line in block.splitlines() if "got 500" in line]
    assert capsys.readouterr().err.splitlines() == quoted
