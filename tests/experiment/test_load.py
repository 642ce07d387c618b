"""Reading experiment files: all findings at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pettoolkit.errors import BadInput
from pettoolkit.experiment.load import load, locate
from pettoolkit.experiment.matrix import expand

GOOD = """\
name: example
arms:
  - {arm: local}
"""


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def found(path: Path | str, *sets: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        load(path, sets)
    return [re.sub(rf"^{re.escape(str(path))}:(?=\d)", "", line) for line in caught.value.lines]


def test_what_is_not_written_has_defaults(write: Write) -> None:
    config = load(write(GOOD))
    assert config.sites.source == "simulated"
    assert (config.features, config.model.name, config.seeds, config.engine) == ("compact", "logistic", (0,), "ray")
    assert (config.dp, config.attacks, config.tracking.dir) == (None, "none", "mlruns")


def test_all_findings_of_a_file_come_at_once_in_its_order(write: Write) -> None:
    path = write("""\
name: example
model: mpl
feature: full
arms:
  - {arm: federated, strategy: fedagv, rounds: 0}
  - {arm: sinthetic}
  - {arm: synthetic, generator: gausian_copula}
  - {arm: pooled, epoch: 3}
dp: {epsilon: -1}
matrix:
  modle: [mlp]
  dp.epsilon: [null, -3]
exclude:
  - {arn: local}
seeds: [one]
""")
    assert found(path) == [
        "2: model: must be one of logistic, mlp, gradient_boosting (got mpl; did you mean mlp?)",
        "3: feature: unknown key (did you mean features?)",
        "5: arms.0.rounds: must be at least 1 (got 0)",
        "5: arms.0.strategy: must be one of fedavg, fedsgd, fedprox, fedadam, fedmedian, fedtrimmedavg, krum "
        "(got fedagv; did you mean fedavg?)",
        "6: arms.1.arm: must be one of local, pooled, federated, encrypted_aggregation, "
        "encrypted_statistics, encrypted_records, anonymised, synthetic, augmented "
        "(got sinthetic; did you mean synthetic?)",
        "7: arms.2.generator: must be one of gaussian_copula, marginals, ctgan, tvae, dp_vae "
        "(got gausian_copula; did you mean gaussian_copula?)",
        "8: arms.3.epoch: unknown key (did you mean epochs?)",
        "9: dp.epsilon: must be greater than 0 (got -1)",
        "11: matrix.modle: cannot be varied (did you mean model?)",
        "12: matrix.dp.epsilon.1: must be greater than 0 (got -3)",
        "14: exclude.0.arn: no cell has this (did you mean arm?)",
        "15: seeds.0: must be a whole number (got one)",
    ]


HOPE = "3: faults.on_failure: must be one of fail, drop (got hope)"
WRONG = [
    ("arms: []", "3: arms: must have at least 1 entry (got 0)"),
    ("arms: local", "3: arms: must be a list (got local)"),
    ("arms: [{strategy: fedavg}]", "3: arms.0.arm: is missing (it says what kind of entry this is)"),
    ("arms: [{arm: local, epochs: true}]", "3: arms.0.epochs: must be a whole number (got true)"),
    ('arms: [{arm: local, epochs: "3"}]', "3: arms.0.epochs: must be a whole number (got 3)"),
    ("arms: [{arm: anonymised, k: -3}]", "3: arms.0.k: must be at least 2 (got -3)"),
    ("arms: [{arm: anonymised, k: 2.5}]", "3: arms.0.k: must be a whole number (got 2.5)"),
    ("seeds: []", "3: seeds: must have at least 1 entry (got 0)"),
    ("seeds: [1, 1]", "3: seeds: has a seed twice"),
    ("dp: {epsilon: .inf}", "3: dp.epsilon: must be a finite number (got inf)"),
    ("dp: {epsilon: 1, delta: 1}", "3: dp.delta: must be less than 1 (got 1)"),
    (
        "dp: {delta: 1e-5}",
        "3: dp.epsilon: is missing (the budget of the whole run; null means no differential privacy)",
    ),
    ("attacks: many", "3: attacks: must be one of none, quick, full (got many)"),
    ("risk: {thresholds: {excess: 2}}", "3: risk.thresholds.excess: must be less than 1 (got 2)"),
    ("faults: {on_failure: hope}", HOPE),
    (
        "engine: flower",
        "1: deployment: is missing (engine: flower needs a party's folder, see `pettoolkit deploy init`)",
    ),
    ("model: {name: logistic, hidden: 3}", "3: model.hidden: belongs to model mlp (logistic has no hidden layer)"),
    ("sites: {partition: unit}", "3: sites.partition: unit belongs to source: physionet2019 (got source: simulated)"),
    ("sites: {source: tables}", "3: sites.path: is missing (source: tables needs it)"),
    ("task: table-outcome", "3: task: table-outcome needs sites.source: tables (got simulated)"),
    ("evaluation: {unseen: A}", "3: evaluation.unseen: must be a list of hospitals, or the word each (got A)"),
    ("matrix: {model: []}", "3: matrix.model: must have at least 1 entry (got 0)"),
    ("matrix: {model: mlp}", "3: matrix.model: must be a list (got mlp)"),
    (
        "matrix: {arms.rounds: [1, 2]}",
        "3: matrix.arms.rounds: cannot be varied (write a list as the value of the arm's own key)",
    ),
]


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_one_wrong_thing_has_one_line(write: Write, text: str, line: str) -> None:
    second = "features: compact" if text.startswith("arms") else "arms: [{arm: local}]"
    assert found(write(f"name: example\n{second}\n{text}\n")) == [line]


def test_an_arm_written_twice_is_named(write: Write) -> None:
    assert found(write("name: x\narms:\n  - {arm: local}\n  - {arm: federated, rounds: [3, 3]}\n")) == [
        "4: arms.1: is the same as arms.1"
    ]


def test_a_cell_that_cannot_exist_is_an_error_where_it_is_written(write: Write) -> None:
    path = write("name: x\narms:\n  - {arm: local}\n  - {arm: synthetic}\ndp: {epsilon: 3}\n")
    (line,) = found(path)
    assert line.startswith(
        "4: arms.1: generator gaussian_copula has no differential privacy; write generator: marginals"
    )


def test_an_empty_and_a_missing_file_and_a_file_that_is_not_yaml(write: Write, tmp_path: Path) -> None:
    assert found(write("")) == ["1: the file is empty"]
    assert found(tmp_path / "none.yaml") == [f"{tmp_path / 'none.yaml'}: there is no such file"]
    assert "is not YAML" in found(write("name: [x\n"))[0]


def test_packaged_experiments_have_a_name() -> None:
    assert load("builtin:quickstart").name == "quickstart"
    assert found("builtin:quickstrat") == [
        "builtin:quickstrat: no experiment of that name comes with the package (did you mean quickstart?)"
    ]


@pytest.mark.parametrize("path", sorted(locate("builtin:quickstart").parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_committed_experiment_is_right(path: Path) -> None:
    assert load(path).name == path.stem


def test_set_changes_a_key_and_reads_its_value_as_yaml(write: Write) -> None:
    model = ("model.name=mlp", "model.hidden=8")
    sets = ("seeds=[0, 1]", "dp.epsilon=1e0", "sites.path=data", "arms.0.learning_rate=0.3", *model)
    config = load(write(GOOD), sets)
    assert (config.seeds, config.sites.path, config.model.spec().hidden) == ((0, 1), "data", 8)
    assert config.dp is not None
    assert config.dp.epsilon == 1.0
    assert config.written_arms[0][1].options(config.model.spec(), None)["learning_rate"] == 0.3


def test_set_takes_the_place_of_the_matrix_for_its_key(write: Write) -> None:
    path = write(GOOD + "matrix: {model: [logistic, mlp], features: [compact, full]}\n")
    config = load(path, ["model=mlp", "matrix.dp.epsilon=[1, 3]"])
    assert config.matrix == {"features": ("compact", "full"), "dp.epsilon": (1, 3)}
    assert {cell.spec.model.name for cell in expand(config, None)} == {"mlp"}


def test_a_section_below_a_model_written_as_a_word_can_be_set(write: Write) -> None:
    assert load(write(GOOD + "model: mlp\n"), ["model.hidden=4"]).model.spec().hidden == 4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("foo", "--set foo: write it as KEY=VALUE, for example --set dp.epsilon=3"),
        ("=3", "--set =3: write it as KEY=VALUE, for example --set dp.epsilon=3"),
        ("modle=mlp", "--set: modle: unknown key (did you mean model?)"),
        ("dp.epsilon=-1", "--set: dp.epsilon: must be greater than 0 (got -1)"),
        ("dp.epsilon=x", "--set: dp.epsilon: must be a number (got x)"),
        ("matrix.dp.epsilon=[-1]", "--set: matrix.dp.epsilon.0: must be greater than 0 (got -1)"),
    ],
)
def test_findings_about_a_change_name_it(write: Write, change: str, line: str) -> None:
    assert found(write(GOOD), change) == [line]


@pytest.mark.parametrize("change", ["name.x=1", "arms.7.epochs=1", "seeds=[0", "matrix.model=[mlp"])
def test_a_change_that_leads_nowhere_is_named(write: Write, change: str) -> None:
    (line,) = found(write(GOOD), change)
    assert line.startswith(f"--set {change}: ")


def test_the_text_has_the_changes(write: Write) -> None:
    config = load(write(GOOD), ["dp.epsilon=3"])
    again = load(write(config.text()))
    assert again.model_dump() == config.model_dump()
