"""A deployed hospital answers from its own folder: the same models as in memory, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pettoolkit.arms.app import coordinate
from pettoolkit.cohort.tables import load_tables
from pettoolkit.deployment.coordinator import carry_out
from pettoolkit.deployment.folders import HospitalFolder
from pettoolkit.errors import SiteFailed
from pettoolkit.evaluation.outside import score
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import DpSpec, Guarantee, Models, Outcome, RunSpec
from tests import small_cohort as small
from tests.deployment import parties

SHARED = DpSpec(epsilon=3.0, delta=1e-3, noise="shared", honest_sites=3)
LOCAL = DpSpec(epsilon=3.0, delta=1e-3, noise="local")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return parties.make(tmp_path)


def in_memory(made: Path, spec: RunSpec) -> Outcome:
    with small.grid(parties.simulated(made, spec)) as grid:
        return coordinate(grid, spec)


def weights(outcome: Outcome) -> dict[str, np.ndarray]:
    return outcome.models.by_site[Models.SHARED].unpack()


@pytest.mark.parametrize(
    ("arm", "options", "tolerance"),
    [
        ("federated", {"rounds": 2}, 0.0),
        ("encrypted_aggregation", {"rounds": 2}, 1e-4),
        ("synthetic", {"epochs": 3}, 0.0),
    ],
)
def test_its_model_is_that_of_hospitals_in_memory(
    made: Path, arm: str, options: dict[str, int], tolerance: float
) -> None:
    spec = parties.spec(made, arm, **options)
    if arm.startswith("encrypted"):
        parties.carry_keys(made, spec)

    found = carry_out(parties.grid(made), spec)

    expected = weights(in_memory(made, spec))
    for name, value in weights(found.outcome).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("arm", "dp", "options"),
    [
        ("federated", LOCAL, {"strategy": "fedsgd", "rounds": 2}),
        ("encrypted_aggregation", SHARED, {"strategy": "fedsgd", "rounds": 2}),
        ("synthetic", LOCAL, {"epochs": None}),
    ],
)
def test_with_differential_privacy_the_noise_is_the_systems_and_the_ledger_a_file(
    made: Path, arm: str, dp: DpSpec, options: dict[str, object]
) -> None:
    spec = parties.spec(made, arm, dp=dp, **options)
    if arm.startswith("encrypted"):
        parties.carry_keys(made, spec)

    found = carry_out(parties.grid(made), spec)

    guarantee = found.outcome.privacy.guarantee
    assert isinstance(guarantee, Guarantee)
    assert not guarantee.simulated_noise
    assert guarantee.epsilon <= dp.epsilon
    for name in parties.NAMES:
        assert list((made / name / "state" / "ledgers").glob("*.ledger"))


def test_the_same_run_again_is_answered_from_the_store_and_spends_nothing(made: Path) -> None:
    spec = parties.spec(made, "federated", dp=LOCAL, strategy="fedsgd", rounds=2)
    parties.change(made / "hospital-1" / "policy.yaml", lifetime_epsilon=3.0, lifetime_delta=1e-3)
    first = carry_out(parties.grid(made), spec)
    spent = {p: p.read_bytes() for p in made.glob("hospital-*/state/**/*.ledger")}

    again = carry_out(parties.grid(made), spec)

    assert len(spent) == 4  # one a run and hospital, and one of a lifetime
    assert {p: p.read_bytes() for p in spent} == spent
    for name, value in weights(first.outcome).items():
        np.testing.assert_array_equal(weights(again.outcome)[name], value)


def test_the_lifetime_budget_outlives_runs(made: Path) -> None:
    for name in parties.NAMES:
        parties.change(made / name / "policy.yaml", lifetime_epsilon=3.5, lifetime_delta=1e-3, seeds=[0, 1])
    carry_out(parties.grid(made), parties.spec(made, "federated", dp=LOCAL, strategy="fedsgd", rounds=2))

    with pytest.raises(SiteFailed, match="lifetime"):
        carry_out(parties.grid(made), parties.spec(made, "federated", dp=LOCAL, strategy="fedsgd", rounds=3))


@pytest.mark.parametrize("arm", ["pooled", "anonymised", "local"])
def test_what_its_owner_did_not_list_is_refused_inside(made: Path, arm: str) -> None:
    with pytest.raises(SiteFailed, match=f"arm {arm} is not in its policy"):
        carry_out(parties.grid(made), parties.spec(made, arm))


def test_a_new_hospital_grants_nothing(tmp_path: Path) -> None:
    from pettoolkit.deployment import init

    init.create(tmp_path / "new", 1)

    policy = HospitalFolder(tmp_path / "new" / "hospital-1").policy

    assert (policy.arms, policy.kinds, policy.evaluation_rows) == ((), ("metrics",), False)


def test_a_policy_that_was_narrowed_counts_for_old_answers(made: Path) -> None:
    spec = parties.spec(made, "federated", rounds=1)
    carry_out(parties.grid(made), spec)
    parties.change(made / "hospital-2" / "policy.yaml", arms=[])

    with pytest.raises(SiteFailed, match="hospital-2.*arm federated is not in its policy"):
        carry_out(parties.grid(made), spec)


def test_rows_of_test_patients_are_refused(made: Path) -> None:
    spec = parties.spec(made, "federated", rounds=1)
    outcome = carry_out(parties.grid(made), spec).outcome
    for name in parties.NAMES:  # even where the owner lists the kind
        parties.change(made / name / "policy.yaml", kinds=[*parties.KINDS, "predictions"])

    with pytest.raises(SiteFailed, match="only aggregated metrics"):
        score(MeteredGrid(parties.grid(made)), spec, outcome.models)


def test_a_run_is_judged_with_one_model_only(made: Path) -> None:
    from pettoolkit.evaluation.outside import summaries

    spec = parties.spec(made, "federated", rounds=1)
    outcome = carry_out(parties.grid(made), spec).outcome
    shifted = {name: value + np.float32(1e-3) for name, value in weights(outcome).items()}
    other = Models({Models.SHARED: type(outcome.models.by_site[Models.SHARED]).of(shifted)})

    with pytest.raises(SiteFailed, match="judged before, with another model"):
        summaries(MeteredGrid(parties.grid(made)), spec, other)


def test_its_figures_are_those_of_its_rows(made: Path) -> None:
    from pettoolkit.evaluation.metrics import auroc

    spec = parties.spec(made, "federated", rounds=2)
    found = carry_out(parties.grid(made), spec)

    with small.grid(parties.simulated(made)) as grid:
        rows: dict[str, SitePredictions] = score(MeteredGrid(grid), spec, found.outcome.models)[Models.SHARED]
    for name in parties.NAMES:
        figures = found.figures[Models.SHARED][name]
        assert figures["auroc"] == pytest.approx(auroc(rows[name].y, rows[name].score))
        assert figures["patients"] == rows[name].patients


def test_what_is_wrong_with_its_table_stays_inside(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = made / "hospital-3" / "table" / "hospital-3.csv"
    table.write_text(table.read_text().replace("\nwest-7,", "\nwest-7,4711", 1))

    with pytest.raises(SiteFailed) as caught:
        carry_out(parties.grid(made), parties.spec(made, "federated", rounds=1))

    assert "hospital-3: its table can't be used" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_kept_rows_are_those_of_the_table(made: Path) -> None:
    first, again = parties.rows_in(made, "hospital-1"), parties.rows_in(made, "hospital-1")

    assert first.equals(again)
    assert first.equals(parties.table("east")[list(first.columns)].astype(first.dtypes.to_dict()))


@pytest.mark.parametrize(
    ("dp", "options"), [(None, {"rounds": 1}), (LOCAL, {"strategy": "fedsgd", "rounds": 1})], ids=["plain", "private"]
)
def test_a_run_is_answered_from_one_state_of_the_table(
    made: Path, dp: DpSpec | None, options: dict[str, object]
) -> None:
    """Else the same run would give the model of patients who have left, or rounds of both tables."""
    spec = parties.spec(made, "federated", dp=dp, **options)
    carry_out(parties.grid(made), spec)
    table = made / "hospital-1" / "table" / "hospital-1.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-20]))

    with pytest.raises(SiteFailed, match="hospital hospital-1: its table has changed since it first answered this run"):
        carry_out(parties.grid(made), spec)
    for name in parties.NAMES:
        parties.change(made / name / "policy.yaml", seeds=[0, 1])
    carry_out(parties.grid(made), replace(spec, seed=1))


@pytest.mark.parametrize("file", ["table/hospital-1.csv", "contract.yaml"])
def test_a_run_that_found_no_usable_table_goes_on_once_it_is_mended(made: Path, file: str) -> None:
    """Nothing was answered, so there is nothing with which new answers could be mixed."""
    spec = parties.spec(made, "federated", rounds=1)
    mended = made / "hospital-1" / file
    good = mended.read_text()
    if file == "contract.yaml":
        columns = yaml.safe_load(good)["columns"]
        columns[1]["high"] = columns[1]["low"] + 1
        parties.change(mended, columns=columns)
    else:
        mended.write_text(good.replace("\neast-7,", "\neast-7,4711", 1))
    assert mended.read_text() != good
    with pytest.raises(SiteFailed, match="hospital-1: its table can't be used"):
        carry_out(parties.grid(made), spec)

    mended.write_text(good)

    carry_out(parties.grid(made), spec)


def test_a_table_that_is_exchanged_while_it_is_read_is_not_answered_from(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and the digest under which they are kept, and answers given, belong together."""
    spec = parties.spec(made, "federated", rounds=1)
    table = made / "hospital-1" / "table" / "hospital-1.csv"
    exchanged = iter(["".join(table.read_text().splitlines(keepends=True)[:-20])])

    def exchange(files: list[Path], contract: Path) -> Any:
        if files == [table]:
            for text in exchanged:
                table.write_text(text)
        return load_tables(files, contract)

    monkeypatch.setattr("pettoolkit.deployment.hospital.load_tables", exchange)
    with pytest.raises(SiteFailed, match="hospital-1: its table can't be used"):
        carry_out(parties.grid(made), spec)

    carry_out(parties.grid(made), spec)

    assert len(parties.rows_in(made, "hospital-1")) == len(parties.table("east")) - 20
