"""The help: at once, and there for every command and option."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer

from pettoolkit import cli

HALF_A_SECOND = 0.5


def cpu_seconds_of_help() -> float:
    """Processor time and not the clock's, which depends on what else the machine does."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "pettoolkit.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def commands(command: Any, name: str = "pettoolkit") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


ALL = list(commands(typer.main.get_command(cli.app)))


def test_the_help_answers_in_under_half_a_second() -> None:
    assert min(cpu_seconds_of_help() for _ in range(3)) < HALF_A_SECOND


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_and_option_says_what_it_is_for(name: str, command: click.Command) -> None:
    assert command.help, name
    context = click.Context(command)
    for option in command.params:
        _, said = option.get_help_record(context) or ("", "")
        assert said.replace("[required]", "").strip(), f"{name}: {option.name}"
