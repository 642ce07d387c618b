"""The pages as a whole: all are in the navigation, and they build without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, blocks


def named(part: object) -> set[str]:
    """Pages that the navigation names, at any depth."""
    if isinstance(part, str):
        return {part}
    parts = part.values() if isinstance(part, dict) else part
    return {page for inner in parts for page in named(inner)}  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert named(config["nav"]) == {page.name for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra docs: make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis" not in page
    assert 'src="http' not in page


def test_the_situation_on_the_page_is_valid_and_answers_every_question(tmp_path: Path) -> None:
    from pettoolkit.advice.situation import Situation
    from pettoolkit.experiment.advise import situation

    (text,) = blocks("docs/advice.md", "text")
    (tmp_path / "situation.yaml").write_text(text, encoding="utf-8")
    assert situation(tmp_path / "situation.yaml").open == ()
    assert set(yaml.safe_load(text)) == set(Situation.model_fields)
