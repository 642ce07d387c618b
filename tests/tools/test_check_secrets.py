"""The check for secrets finds what it has to, and nothing in this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "check_secrets.py"

LINES = {
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "an access key of a cloud": "id = AKIA" + "ABCDEFGHIJKLMNOP",
    "an access token": "ghp_" + "a1" * 20,
    "a password in an address": "url = postgres://me:" + "hunter2@db/x",
    "a password": 'password = "' + 'correct-horse-battery"',
    "a token": "eyJ" + "a" * 30 + ".eyJ" + "b" * 30 + "." + "c" * 30,
}


def checked(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, files)], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize("what", LINES)
def test_each_kind_is_found_where_it_stands(what: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.txt"
    file.write_text(f"harmless\n{LINES[what]}\n")

    done = checked(file)

    assert done.returncode == 1
    assert f"{file}:2: {what}" in done.stdout.splitlines()


def test_a_line_that_says_so_is_let_through(tmp_path: Path) -> None:
    file = tmp_path / "settings.txt"
    file.write_text(f"{LINES['a password']}  # not a secret\n")

    assert checked(file).returncode == 0


def test_files_that_hold_keys_or_patients_are_named(tmp_path: Path) -> None:
    for name in ("server.key", "patients.parquet"):
        (tmp_path / name).write_text("x")

    assert len(checked(*tmp_path.iterdir()).stdout.splitlines()) == 2


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git clone: it asks git which files are tracked")
def test_there_is_none_in_what_git_tracks() -> None:
    assert checked().stdout.strip() == "no secrets found"
