"""What is counted: rules, levels, prevalence, copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.distances import Draws
from pettoolkit.evaluation.quality.figures import Copies, LevelCount
from pettoolkit.evaluation.quality.rules import NO_OUTCOME, OUTCOME_BOUNDS, copies, levels, prevalence, rules
from pettoolkit.evaluation.quality.tables import checked
from pettoolkit.records import NotMeasured
from tests.evaluation.quality import toy

CONTRACT = toy.contract()


def ready(frame: pd.DataFrame, contract: Contract = CONTRACT) -> pd.DataFrame:
    return checked(frame, contract, "t", 1)


def counted(made: pd.DataFrame, contract: Contract = CONTRACT, task: str = "binary") -> dict[str, tuple[int, int]]:
    real = toy.patients(100, 0, task)
    return {r.rule: (r.real, r.synthetic) for r in rules(ready(real, contract), ready(made, contract), contract)}


def test_broken_rules_are_counted_beside_the_real_rows() -> None:
    made = toy.patients(100, 1)
    made.loc[:2, "pulse"] = 300
    made.loc[:3, "age"] = 30.5
    made.loc[:4, "ward"] = "morgue"
    made.loc[:5, "y"] = np.nan
    made.loc[:6, "sex"] = np.nan

    found = counted(made)

    assert found["values out of bounds"] == (0, 3)
    assert found["not a whole number"] == (0, 4)
    assert found["unknown level"] == (0, 5)
    assert found[NO_OUTCOME] == (0, 6)
    assert found["missing where never"] == (0, 7)


def test_pressures_are_checked_where_the_contract_has_them() -> None:
    names = ("SBP", "MAP", "DBP")
    columns = tuple(Column(name=n, low=0, high=300) for n in names)
    contract = Contract(name="p", columns=(*columns, Column(name="y", kind="binary", role="outcome")))
    frame = pd.DataFrame({"SBP": [120.0, 120], "MAP": [90.0, 130], "DBP": [70.0, 125], "y": [0.0, 1]})
    broken = {r.rule: r.synthetic for r in rules(ready(frame, contract), ready(frame, contract), contract)}
    assert broken["MAP not between DBP and SBP"] == 1
    assert broken["DBP above SBP"] == 1


def test_an_outcome_out_of_its_bounds_is_counted() -> None:
    made = toy.patients(100, 1, "number")
    made.loc[:1, "y"] = 99
    assert counted(made, toy.contract("number"), "number")[OUTCOME_BOUNDS] == (0, 2)


def test_lost_and_new_levels_are_named_with_how_many_rows_had_them() -> None:
    real, made = toy.patients(100, 0, "classes"), toy.patients(100, 1, "classes")
    made = made[(made["y"] != "died") & (made["ward"] != "other")].reset_index(drop=True)
    made.loc[0, "ward"] = "morgue"
    contract = toy.contract("classes")

    found = levels(ready(real, contract), ready(made, contract), contract)

    assert found.classes_lost == (LevelCount("y", "died", int((real["y"] == "died").sum()), 0),)
    assert found.levels_lost == (LevelCount("ward", "other", int((real["ward"] == "other").sum()), 0),)
    assert found.levels_new == (LevelCount("ward", "morgue", 0, 1),)


def test_columns_that_no_longer_vary_are_named() -> None:
    found = levels(ready(toy.patients(50, 0)), ready(toy.patients(50, 1).assign(pulse=1.0, lactate=np.nan)), CONTRACT)
    assert found.columns_constant == ("pulse",)
    assert found.columns_all_missing == ("lactate",)


def test_prevalence_is_the_share_of_each_class_with_its_floor() -> None:
    real, made = ready(toy.patients(400, 0)), ready(toy.patients(400, 1).assign(y=1.0))
    negative, positive = prevalence(real, made, CONTRACT, Draws.of(400, 400, 200, 20, 0))

    assert positive.what == "share of 1"
    assert (positive.real, positive.synthetic) == (pytest.approx(real["y"].mean()), 1.0)
    assert positive.difference == pytest.approx(1 - real["y"].mean(), abs=0.03)
    assert negative.floor == pytest.approx(positive.floor)
    assert 0.005 < positive.floor < 0.1


def test_of_a_number_it_is_mean_and_standard_deviation() -> None:
    contract = toy.contract("number")
    real = ready(toy.patients(100, 0, "number"), contract)
    mean, spread = prevalence(real, real, contract, Draws.of(100, 100, 50, 3, 0))
    assert (mean.what, mean.real) == ("mean", pytest.approx(real["y"].mean()))
    assert spread.synthetic == pytest.approx(real["y"].std(ddof=0))


@pytest.mark.parametrize("task", ["binary", "number"])
def test_a_table_without_outcomes_has_no_prevalence_rather_than_none(task: str) -> None:
    contract = toy.contract(task)
    real = ready(toy.patients(100, 0, task), contract)
    for found in prevalence(real, real.assign(y=np.nan), contract, Draws.of(100, 100, 50, 3, 0)):
        assert isinstance(found.synthetic, NotMeasured)
        assert isinstance(found.difference, NotMeasured)
        assert found.floor >= 0


def copied(made: pd.DataFrame, real: pd.DataFrame, holdout: pd.DataFrame | None = None) -> Copies:
    draws = Draws.of(len(real), len(made), min(len(real) // 2, len(made)), 5, 0)
    return copies(ready(real), ready(made), None if holdout is None else ready(holdout), CONTRACT, draws)


def test_identical_rows_are_counted() -> None:
    real, holdout = toy.patients(100, 0), toy.patients(100, 2)
    made = pd.concat([toy.patients(60, 1), real.head(30), holdout.head(10)], ignore_index=True)
    made = pd.concat([made, made.head(5)], ignore_index=True)

    found = copied(made, real, holdout)

    assert (found.rows, found.identical, found.identical_to_holdout, found.repeated) == (105, 30, 10, 5)
    assert found.floor_share == 0
    assert not found.copy


def test_missing_values_are_equal_to_each_other() -> None:
    real = toy.patients(50, 0).assign(lactate=np.nan)
    assert copied(real.copy(), real).identical == 50


def test_a_copy_is_called_a_copy() -> None:
    real = toy.patients(100, 0)
    assert copied(real.sample(frac=1, random_state=0), real).copy
    assert copied(real, real).identical_to_holdout == NotMeasured("no holdout given")


def test_rows_of_few_columns_repeat_by_chance_and_are_no_copies() -> None:
    rng = np.random.default_rng(0)

    def few(n: int) -> pd.DataFrame:
        return toy.patients(n, 0).assign(age=50.0, lactate=np.nan, pulse=80.0, pressure=90.0, sex=rng.integers(0, 2, n))

    found = copied(few(100), few(100))
    assert found.identical_share > 0.9
    assert found.floor_share > 0.9
    assert not found.copy
