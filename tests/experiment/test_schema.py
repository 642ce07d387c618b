"""The JSON schema that editors use."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from pettoolkit.cohort.yamlfile import read_yaml
from pettoolkit.experiment import schema

EXPERIMENTS = sorted(schema.path().parent.glob("*.yaml"))


def errors(data: object) -> list[str]:
    return [e.message for e in jsonschema.Draft202012Validator(schema.schema()).iter_errors(data)]


def test_the_committed_schema_is_current() -> None:
    assert schema.path().read_text(encoding="utf-8") == schema.text(), "run: pettoolkit schema --write"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_committed_experiment_obeys_it(path: Path) -> None:
    assert errors(read_yaml(path).data) == []
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


def test_short_forms_are_known() -> None:
    arms = [{"arm": "federated", "strategy": ["fedavg", "fedsgd"]}, {"arm": "local"}]
    for model in ("mlp", {"name": "mlp", "hidden": 8}):
        assert errors({"name": "x", "arms": arms, "model": model, "matrix": {"dp.epsilon": [None, 3]}}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "mpl"},
        {"arms": [{"arm": "federated", "strategy": ["fedavg", "fedsdg"]}]},
        {"arms": [{"arm": "local", "rounds": 3}]},
        {"matrix": {"seeds": [1]}},
        {"feature": "full"},
        {"dp": {"epsilon": 0}},
    ],
)
def test_what_the_reader_refuses_editors_mark_too(wrong: dict[str, object]) -> None:
    assert errors({"name": "x", "arms": [{"arm": "local"}], **wrong})
