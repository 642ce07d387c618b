"""Containers that no engine of the tests can run: linted, valid by the compose schema, and true to what they start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from pettoolkit import cli
from pettoolkit.deployment import init

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("Dockerfile.*"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_there_is_an_image_for_each_party() -> None:
    assert [file.name for file in FILES] == ["Dockerfile.coordinator", "Dockerfile.hospital"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (it comes with the dev extra where there is a build for the platform)")

    done = subprocess.run([program, "--no-color", str(file)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_compose_follows_its_schema(compose: dict[str, Any]) -> None:
    schemas = pytest.importorskip("check_jsonschema", reason="the compose schema comes with check-jsonschema (dev)")
    file = resources.files(schemas) / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(file.read_text(encoding="utf-8"))

    errors = [error.message for error in validator_for(schema, Draft202012Validator)(schema).iter_errors(compose)]

    assert errors == []
    assert list(validator_for(schema)(schema).iter_errors({"services": {"x": {"image": 1}}})), "it sees nothing"


def test_a_coordinator_three_hospitals_and_mlflow(compose: dict[str, Any], tmp_path: Path) -> None:
    made = init.create(tmp_path / "parties", 3, host="coordinator")

    assert set(compose["services"]) == {"coordinator", "mlflow", *made.hospitals}
    for name in ("coordinator", *made.hospitals):
        assert compose["services"][name]["volumes"][0] == f"./parties/{name}:/party"
        assert (tmp_path / "parties" / name).is_dir()


def test_hospitals_see_the_coordinator_and_nobody_sees_a_hospital(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert all("ports" not in service for name, service in services.items() if name != "mlflow")
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert services["mlflow"]["networks"] == ["results"]
    for service in services.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["init"] is True  # processes of single messages would stay as zombies of the first one
        assert "build" in service  # an image of that name is in no registry
        assert service["restart"] == "unless-stopped"  # a killed node is let in after half a minute


def test_what_they_start_exists() -> None:
    for file in FILES:
        lines = file.read_text(encoding="utf-8").splitlines()
        entry = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).split(" ", 1)[1])
        words = json.loads(next(line for line in lines if line.startswith("CMD")).split(" ", 1)[1])
        command: Any = typer.main.get_command(cli.app)
        assert entry == ["pettoolkit"]
        for word in words[:2]:
            command = command.commands[word]
        assert isinstance(command, click.Command)
        assert "USER 10001" in lines


def test_what_they_copy_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for file in FILES:
        copied = {
            word.removeprefix("./")
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.startswith("COPY")
            for word in line.split()[1:-1]
        }
        assert copied == kept
        assert all((ROOT / name).exists() for name in copied)
