"""Labs: copied for each student, opened on this machine alone; and, slowly, each runs from first cell to last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from requests.adapters import HTTPAdapter, Retry

from pettoolkit import cli
from pettoolkit.advice.situation import Situation
from pettoolkit.cohort.features import encode
from pettoolkit.errors import BadInput
from pettoolkit.experiment import lab
from pettoolkit.experiment.advise import advise
from pettoolkit.experiment.load import load
from tests import small_cohort as small

FIRST, WHOLE = 15, 60
"""CPU seconds until a lab's first figure and until its end: what neighbours on the machine do not change."""

ROOT = Path(__file__).parents[2]


def labs() -> list[Path]:
    return [ROOT / "labs" / file for file, _ in lab.LABS.values()]


def test_each_student_has_a_copy_that_is_not_overwritten(tmp_path: Path) -> None:
    ada, bob = lab.copy(1, tmp_path / "ada"), lab.copy(1, tmp_path / "bob")
    ada.write_text("# my notes")
    assert lab.copy(1, tmp_path / "ada").read_text() == "# my notes"
    assert bob.read_text() == labs()[0].read_text()


def test_another_number_is_refused_with_the_list_of_labs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "6", "--tracking-dir", str(tmp_path)]) == 2
    assert "2: spend a privacy budget" in capsys.readouterr().err


def test_it_listens_on_this_machine_alone_and_looks_for_no_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = {}
    monkeypatch.setattr(subprocess, "call", lambda words, env: called.update(words=words, env=env) or 0)
    assert cli.main(["lab", "2", "--tracking-dir", str(tmp_path), "--port", "2718", "--edit", "--no-browser"]) == 0
    words = called["words"]
    assert words[2:4] == ["marimo", "edit"]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "2718"
    assert {"--skip-update-check", "--headless", "--token"} <= set(words)
    assert called["env"]["MARIMO_SKIP_UPDATE_CHECK"] == "1"
    assert called["env"][lab.FOLDER] == str(tmp_path)
    assert Path(words[4]).parent == tmp_path / "labs"


def test_without_marimo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pettoolkit\[labs\]"):
        lab.command(Path("x.py"))


def test_an_encoded_record_is_decoded_to_what_it_was() -> None:
    row = small.rows("east").iloc[[0]].assign(lactate=2.5, pulse=np.nan, age=61.0, sex=1.0)
    said = lab.decoded(encode(row, small.CONTRACT)[0], small.CONTRACT)
    assert said == {"age": "61", "sex": "1", "lactate": "2.5", "pulse": "missing"}


@pytest.mark.parametrize("path", labs(), ids=lambda path: path.stem)
def test_each_lab_says_what_is_simulated_and_ends_with_three_questions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "**Simulated:**" in text
    assert text.index("lab.questions(") > 0.7 * len(text)
    assert lab.questions(["a?", "b?", "c?"]).count("?") == 3
    last = text[text.index("lab.questions(") :]
    assert last.count('",\n') == 3, "three questions, each with its comma"


@pytest.mark.slow
@pytest.mark.parametrize("path", labs(), ids=lambda path: path.stem)
def test_a_lab_runs_headless_in_a_minute_and_shows_something_in_15_seconds(path: Path, tmp_path: Path) -> None:
    env = {**os.environ, **lab.QUIET, lab.FOLDER: str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as running:
        process = psutil.Process(running.pid)
        assert running.stdout is not None
        first = running.stdout.readline()
        used = process.cpu_times()
        before = os.times()
        rest, err = running.communicate(timeout=600)
        after = os.times()
    assert running.returncode == 0, err
    assert first.strip()
    assert rest.strip()
    assert used.user + used.system <= FIRST
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent <= WHOLE
    if path.stem.startswith("lab5"):
        assert "<html" in (tmp_path / "comparison.html").read_text(encoding="utf-8"), "the report to choose from"
        margins_change_answers(path, tmp_path)


def margins_change_answers(path: Path, folder: Path) -> None:
    """Between the margins of the lab's question an answer changes."""
    (asked,) = re.findall(r"margin from (0\.\d+) to (0\.\d+)", path.read_text(encoding="utf-8"))
    config = load(folder / "lab_experiment.yaml", (f"tracking.dir={folder}",))
    answers = [advise(config, Situation(margin=float(margin)))["technologies"] for margin in asked]
    narrow, wide = ({row["name"]: row["good_enough"]["state"] for row in rows} for rows in answers)
    assert narrow != wide
    assert "yes" in wide.values()


@pytest.mark.slow
def test_a_lab_is_exported_with_its_results(tmp_path: Path) -> None:
    out = tmp_path / "lab1.html"
    env = {**os.environ, **lab.QUIET, lab.FOLDER: str(tmp_path)}
    words = [sys.executable, "-m", "marimo", "export", "html", str(lab.copy(1, tmp_path)), "-o", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "key recovered" in out.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_open_lab_is_served_on_this_machine_alone_and_asks_for_its_token(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pettoolkit.cli", "lab", "1", "--tracking-dir", str(tmp_path), "--no-browser"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as running:
        family, waiting = [psutil.Process(running.pid)], requests.Session()
        try:
            assert running.stdout is not None
            link = next(line.split()[-1] for line in running.stdout if "URL:" in line)
            family += family[0].children(recursive=True)
            waiting.mount("http://", HTTPAdapter(max_retries=Retry(connect=30, backoff_factor=0.1, backoff_max=2)))
            page = waiting.get(link, timeout=60).text
            stranger = requests.get(link.partition("?")[0], timeout=60)
            heard = [c.laddr for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        finally:
            for process in reversed(family):
                process.kill()
    assert {address.ip for address in heard} <= {"127.0.0.1", "::1"}
    assert heard
    assert "lab1_coordinator" in page
    assert "lab1_coordinator" not in stranger.text
    assert "login" in stranger.url
