"""What README and docs tell a person to type exists: commands, options, targets, files; YAML examples are valid."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from pettoolkit import cli
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.experiment.load import load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^(\.venv/bin/)?pettoolkit\b")


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{page.name}-{i}")
        for page in PAGES
        for i, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


def commands() -> Iterator[str]:
    """What stands behind a prompt, in `code`, or as a comment of an experiment file."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        yield from (line[2:] for _, block in BLOCK.findall(text) for line in block.splitlines() if line[:2] == "$ ")
        yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    for file in sorted((ROOT / "experiments").glob("*.yaml")):
        yield from re.findall(r"^#\s+(pettoolkit .+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def calls() -> list[list[str]]:
    """The words of each call of our program, without its name."""
    found = {command: shlex.split(command)[1:] for command in commands() if PROGRAM.match(command)}
    return [words for words in found.values() if words]


def makes() -> list[list[str]]:
    return [shlex.split(command)[1:] for command in commands() if re.match(r"make \w", command)]


def resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and what is left for it."""
    command: Any = typer.main.get_command(cli.app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    return command, words


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_commands_and_options_exist(words: list[str]) -> None:
    if words[0] != "--help":
        command, rest = resolved(words)
        with contextlib.suppress(click.MissingParameter):  # a sentence names a command without all that it needs
            command.make_context("pettoolkit", rest)


def test_every_command_is_in_the_readme() -> None:
    told = {" ".join(words) for words in calls()}
    program: Any = typer.main.get_command(cli.app)
    for name, command in program.commands.items():
        if name != "version":
            assert any(f"{words} ".startswith(f"{name} ") for words in told), f"README does not name {name}"
            assert command.help, f"{name} has no help"


@pytest.mark.parametrize(
    "words", [w for w in calls() if w[0] in ("check", "plan", "run", "show") and w[1:]], ids=" ".join
)
def test_experiments_named_in_commands_are_there_and_valid(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, rest = resolved(words)
    given = command.make_context("pettoolkit", rest).params
    if given["experiment"] != "FILE":
        load(given["experiment"], given["sets"] or ())


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text, encoding="utf-8")
    if "columns" in yaml.safe_load(text):
        parse(Contract, path)
    else:
        load(path)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda f: f.name)
def test_experiments_that_come_with_it_are_valid(file: Path) -> None:
    assert load(file).name == file.stem


def test_make_targets_and_their_variables_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, flags=re.MULTILINE))
    assert makes()
    for words in makes():
        for word in words:
            name, equals, _ = word.partition("=")
            assert name in (variables if equals else targets), f"make {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_quoted_table_has_the_columns_that_are_printed_and_the_experiments_arms() -> None:
    from finished import done, spec
    from rich.console import Console

    from pettoolkit.report import terminal

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.search(r"quickstart: begin.*?\$ [^\n]*\n(.*?)\nNext:", readme, flags=re.DOTALL)
    assert quoted, "README quotes no table of the quickstart"
    arms = [arm.name for _, arm in load(ROOT / "experiments" / "quickstart.yaml").written_arms]
    console = Console(width=terminal.PIPE_WIDTH)
    with console.capture() as captured:
        console.print(terminal.comparison([done(spec(arm), {"a": 0.6, "b": 0.7}) for arm in arms]))

    def head(text: str) -> list[str]:
        return sorted(re.split(rf"^(?:{'|'.join(arms)})\b", text, maxsplit=1, flags=re.MULTILINE)[0].split())

    assert head(quoted[1]) == head(captured.get())
    named = [line.split()[0] for line in quoted[1].splitlines() if line and line.split()[0] in arms]
    assert named == arms


def test_exit_codes_are_those_of_the_program() -> None:
    said = re.search(r"Exit codes: (.*?)\.\n", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert said
    codes = [int(number) for number in re.findall(r"(?:^|; )(\d+) ", said[1])]
    assert codes == [cli.DONE, cli.SOME_FAILED, cli.BAD_INPUT, cli.INTERRUPTED]


def test_technologies_of_the_readme_are_those_there_are() -> None:
    from pettoolkit.arms.registry import ARMS

    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The technologies")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE)) == set(ARMS)
