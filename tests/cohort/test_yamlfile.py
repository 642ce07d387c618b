from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pettoolkit.cohort.yamlfile import override, parse, read_value, read_yaml
from pettoolkit.errors import BadInput


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Federated(Strict):
    arm: Literal["federated"]
    rounds: int = Field(gt=0)
    strategy: Literal["fedavg", "fedsgd"] = "fedavg"

    @model_validator(mode="after")
    def _no_seven(self) -> Federated:
        if self.rounds == 7:
            raise ValueError("seven rounds bring bad luck")
        return self


class Local(Strict):
    arm: Literal["local"]


class Mlp(Strict):
    name: Literal["mlp"]
    hidden: int = 32


class Dp(Strict):
    epsilon: float = Field(gt=0)
    delta: float = 1e-5


class Experiment(Strict):
    name: str
    arms: tuple[Annotated[Federated | Local, Field(discriminator="arm")], ...] = Field(min_length=1)
    model: Literal["logistic"] | Mlp = "logistic"
    dp: Dp | None = None
    seeds: list[int] = [0]


GOOD = "name: x\narms: [{arm: local}]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def lines(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    """Findings of a file, without the path in front."""
    path = write(folder, text)
    with pytest.raises(BadInput) as caught:
        parse(Experiment, path, overrides)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("017", 17),
        ("0x1f", 31),
        ("0o17", 15),
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("2015-01-01", "2015-01-01"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("[1, a]", [1, "a"]),
        ("{off: 1}", {"off": 1}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = read_value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_prints_is_read_back(value: float) -> None:
    assert read_value(repr(value)) == value


def test_a_key_given_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    assert lines(tmp_path, "name: a\ndp:\n  epsilon: 1\n  epsilon: 2\nname: b\n") == [
        "4: dp.epsilon: the key is given twice (first in line 3)",
        "5: name: the key is given twice (first in line 1)",
    ]


def test_line_is_that_of_the_deepest_known_node(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, "a:\n  b:\n    - 1\n    - c: 2\n"))
    assert document.data == {"a": {"b": [1, {"c": 2}]}}
    found = [document.line(loc) for loc in [(), ("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c")]]
    assert found == [1, 1, 2, 3, 4]
    assert document.line(("a", "b", 1, "unknown", "deeper")) == 4
    assert document.line(("a", "b", 9)) == 2


def test_all_findings_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """name: 3
arms:
  - {arm: federated, rounds: -1, stratgy: fedavg}
  - {arm: fedrated}
  - arm: federated
    rounds: 7
  - {rounds: 3}
  - arm: federated
model: {name: mlp, hiden: 3}
dp: {epsilon: -1}
seeds: [a, 1.5]
sedes: 3
"""
    assert lines(tmp_path, text) == [
        '1: name: must be text (got 3; in quotes, "3", it would be)',
        "3: arms.0.rounds: must be greater than 0 (got -1)",
        "3: arms.0.stratgy: unknown key (did you mean strategy?)",
        "4: arms.1.arm: must be one of federated, local (got fedrated; did you mean federated?)",
        "5: arms.2: seven rounds bring bad luck",
        "7: arms.3.arm: is missing (it says what kind of entry this is)",
        "8: arms.4.rounds: is missing and must be given",
        "9: model.hiden: unknown key (did you mean hidden?)",
        "10: dp.epsilon: must be greater than 0 (got -1)",
        "11: seeds.0: must be a whole number (got a)",
        "11: seeds.1: must be a whole number (got 1.5)",
        "12: sedes: unknown key (did you mean seeds?)",
    ]


def test_a_missing_field_points_at_its_parent(tmp_path: Path) -> None:
    assert lines(tmp_path, f"{GOOD}dp:\n  delta: 0.1\n") == ["3: dp.epsilon: is missing and must be given"]


def test_an_empty_list_says_how_many_entries_it_needs(tmp_path: Path) -> None:
    assert lines(tmp_path, "name: x\narms: []\n") == ["2: arms: must have at least 1 entry (got 0)"]


def test_a_scalar_is_not_reported_as_a_wrong_mapping_as_well(tmp_path: Path) -> None:
    assert lines(tmp_path, f"{GOOD}model: logistc\n") == [
        "3: model: must be logistic (got logistc; did you mean logistic?)"
    ]


def test_an_unknown_key_without_a_neighbour_lists_what_is_known(tmp_path: Path) -> None:
    assert lines(tmp_path, "name: x\narms: [{arm: local, foo: 1}]\n") == [
        "2: arms.0.foo: unknown key (known here: arm)"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2\n", "2: is not YAML"),
        ("a:\n\tb: 2\n", "2: is not YAML"),
        ("a: b: c\n", "1: is not YAML"),
        ("a: 1\n---\nb: 2\n", "2: is not YAML"),
        ("", "1: the file is empty"),
        ("# only a comment\n", "1: the file is empty"),
        ("- 1\n", "1: must be a mapping"),
        ("a: !!python/object:os.system x\n", "1: a: 'x' cannot be read as"),
        ("a: &x [*x]\n", "1: a.0: an alias refers to itself"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_one_clear_line(tmp_path: Path, text: str, expected: str) -> None:
    found = [line for line in lines(tmp_path, text) if line.startswith(expected)]
    assert len(found) == 1
    assert "\n" not in found[0]


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        parse(Experiment, tmp_path / "none.yaml")
    assert caught.value.lines == (f"{tmp_path / 'none.yaml'}: there is no such file",)


def test_a_file_that_is_not_text_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(BadInput, match=r"x\.yaml: is not UTF-8 text \(byte 6\)"):
        parse(Experiment, path)


def test_overrides_replace_values_and_make_mappings(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD}dp: null\n")
    parsed = parse(Experiment, path, {"dp.epsilon": "3", "arms.0": "{arm: federated, rounds: 2}", "seeds": [1, 2]})
    assert parsed.dp == Dp(epsilon=3)
    assert parsed.arms == (Federated(arm="federated", rounds=2),)
    assert parsed.seeds == [1, 2]


def test_overrides_leave_the_document_as_it_was(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, GOOD))
    override(document, {"arms.0.arm": "federated"})
    assert document.data == {"name": "x", "arms": [{"arm": "local"}]}


def test_a_wrong_override_is_blamed_on_the_command_line(tmp_path: Path) -> None:
    assert lines(tmp_path, GOOD, {"dp.epsilon": "-1"}) == ["--set: dp.epsilon: must be greater than 0 (got -1)"]
    assert lines(tmp_path, GOOD, {"arms.5.rounds": "1", "name.first": "a"}) == [
        "--set arms.5.rounds=1: there is no entry 5 in a list of 1 (they count from 0)",
        "--set name.first=a: first would be a key of 'x', which has no keys",
    ]
