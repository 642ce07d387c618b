"""The anonymised arm: what leaves is k-anonymous, what was achieved is said, and what can't be is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.arms.anonymised.config import AnonymisedKeys
from pettoolkit.arms.anonymised.inside import records
from pettoolkit.arms.app import coordinate
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput, SiteFailed
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.execute import execute
from pettoolkit.experiment.matrix import expand
from pettoolkit.hospital.envelope import Table
from pettoolkit.hospital.request import Request
from pettoolkit.records import Outcome, RunResult, RunSpec
from pettoolkit.tracking.names import variant_name
from tests import small_cohort as small


def run(spec: RunSpec, **tables: pd.DataFrame) -> Outcome:
    with small.grid(small.hospitals(**tables)) as grid:
        return coordinate(grid, spec)


def done(spec: RunSpec, **tables: pd.DataFrame) -> RunResult:
    with small.grid(small.hospitals(**tables)) as grid:
        return execute(grid, spec, "hash").result


def sent(spec: RunSpec, site: str = "east") -> pd.DataFrame:
    payload = records(small.hospitals()[site], Request("records", "training", spec)).payload
    assert isinstance(payload, Table)
    return payload.rows


@pytest.mark.parametrize("k", [2, 5, 10])
def test_each_combination_of_quasi_identifiers_that_leaves_is_shared_by_k_patients(k: int) -> None:
    rows = sent(small.spec("anonymised", k=k))
    assert rows.groupby(["age", "sex"], dropna=False).size().min() >= k


def test_with_scope_all_every_feature_is_shared_by_k_patients() -> None:
    rows = sent(small.spec("anonymised", k=5, scope="all"))
    assert rows.groupby(["age", "sex", "lactate", "pulse"], dropna=False).size().min() >= 5


def test_rows_leave_without_names_and_not_in_the_order_of_the_table() -> None:
    spec = small.spec("anonymised", k=2)
    rows, real = sent(spec), small.hospitals()["east"].table(spec, "train")
    assert "patient" not in rows
    assert sorted(rows["pulse"]) == sorted(real["pulse"])
    assert list(rows["pulse"]) != list(real["pulse"])


@pytest.mark.parametrize("model", ["logistic", "gradient_boosting"])
def test_what_was_achieved_is_in_metrics_and_notes(model: str) -> None:
    result = done(small.spec("anonymised", model=model, k=4))

    assert result.metrics["anonymity/k"] >= 4
    assert result.metrics["anonymity/l_diversity"] >= 1
    assert 0 <= result.metrics["anonymity/t_closeness"] <= 1
    assert result.metrics["utility/auroc"] > 0.6
    assert [note.split()[0] for note in result.notes[:3]] == ["k", "l-diversity", "t-closeness"]


def test_a_larger_k_widens_the_intervals() -> None:
    small_k, large_k = (run(small.spec("anonymised", k=k)).figures["anonymity/interval_width"] for k in (2, 30))
    assert small_k < large_k


def test_a_hospital_with_fewer_than_k_patients_is_named() -> None:
    with pytest.raises(SiteFailed, match=r"west: has fewer training patients than k = 50 \(choose a smaller k"):
        run(small.spec("anonymised", k=50), west=small.rows("west", 60))


def test_several_rows_of_one_patient_are_refused() -> None:
    north = small.rows("north")
    north["patient"] = [f"p{i // 2}" for i in range(len(north))]
    with pytest.raises(SiteFailed, match="north: k-anonymity counts rows, and some of its patients have several"):
        run(small.spec("anonymised"), north=north)


def test_a_contract_without_quasi_identifiers_needs_scope_all(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = tuple(c.model_copy(update={"quasi_identifier": False}) for c in small.CONTRACT.columns)
    bare = Contract(name="bare", columns=columns, prevalence=0.2)
    monkeypatch.setattr(small, "CONTRACT", bare)

    with pytest.raises(BadInput, match="bare has no feature with quasi_identifier: true"):
        run(small.spec("anonymised"))
    assert run(small.spec("anonymised", scope="all")).figures["anonymity/k"] >= 3


def broken(what: str) -> pd.DataFrame:
    west = small.rows("west")
    match what:
        case "a constant column":
            west["pulse"] = 80.0
        case "an all-missing column":
            west["lactate"] = np.nan
        case "one class":
            west["y"] = np.int8(0)
        case "a level never seen":
            west["sex"] = 1.0
    return west


@pytest.mark.parametrize("what", ["a constant column", "an all-missing column", "one class", "a level never seen"])
@pytest.mark.parametrize("scope", ["quasi_identifiers", "all"])
def test_an_odd_table_is_anonymised_as_any_other(what: str, scope: str) -> None:
    result = done(small.spec("anonymised", scope=scope), west=broken(what))
    assert result.metrics["anonymity/k"] >= 3
    assert result.metrics["utility/auroc"] > 0.55


def test_the_variant_shows_k_and_whether_all_columns_are_generalised() -> None:
    assert variant_name(small.spec("anonymised", k=10)) == "k=10"
    assert variant_name(small.spec("anonymised", k=10, scope="all")) == "k=10 all"


def cells(**keys: object) -> list[str | None]:
    config = ExperimentConfig.model_validate({"name": "x", "arms": [{"arm": "anonymised", "k": [3, 5, 10]}], **keys})
    return [cell.excluded for cell in expand(config, small.SITES)]


def test_dp_is_refused_with_one_line_where_it_is_written_and_excluded_where_a_matrix_made_it() -> None:
    with pytest.raises(BadInput, match="k-anonymity has no noise") as error:
        cells(dp={"epsilon": 1})
    assert len(error.value.lines) == 1

    reasons = cells(matrix={"dp.epsilon": [None, 1]})
    assert [reason is None for reason in reasons] == [True] * 3 + [False] * 3


def test_keys_say_k_and_scope() -> None:
    options = AnonymisedKeys(arm="anonymised").options(small.spec("anonymised").model, None)
    assert (options["k"], options["scope"]) == (5, "quasi_identifiers")
