"""Train on synthetic, test on real: parts that don't overlap, sizes that match, groups that are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.evaluation.quality.figures import Utility
from pettoolkit.evaluation.quality.tables import Table, checked
from pettoolkit.evaluation.quality.utility import FLOOR, REAL, Parts, parts, train_and_answer, utility
from pettoolkit.records import NotMeasured
from tests.evaluation.quality import toy


def table(frame: pd.DataFrame, task: str = "binary") -> Table:
    contract = toy.contract(task)
    return Table.of(checked(frame, contract, "t", 1), contract)


def measured(made: pd.DataFrame, task: str = "binary", n: int = 900, seed: int = 0) -> Utility:
    contract = toy.contract(task)
    hospital = np.array(["east", "west"], dtype=object)[np.arange(n) % 2]
    divided = parts(table(toy.patients(n, 100 + seed, task), task), None, hospital, None, len(made), seed)
    assert isinstance(divided, Parts)
    rows = table(made, task)
    size = len(divided.train[REAL])

    def answers(t: Table) -> dict[str, object]:
        return {"logistic": train_and_answer("logistic", t, divided.test, contract, 0)}

    real = {"logistic": {k: answers(t)["logistic"] for k, t in divided.train.items()}}
    return utility(divided, real, answers(rows.take(np.arange(size))), contract, 100)  # type: ignore[arg-type]


def ids(t: Table) -> set[bytes]:
    return {row.tobytes() for row in t.frame.drop(columns="ward").to_numpy(dtype=float)}


@pytest.mark.parametrize("holdout", [False, True])
def test_the_parts_are_disjoint_and_match_in_size(holdout: bool) -> None:
    held = table(toy.patients(200, 1)) if holdout else None
    found = parts(table(toy.patients(600, 0)), held, None, None, 10_000, 0)
    assert isinstance(found, Parts)

    first, second = found.train[REAL], found.train[FLOOR]
    assert len(first) == len(second) == (300 if holdout else 210)
    assert len(found.test) == (200 if holdout else 180)
    assert not ids(first) & ids(second)
    assert not ids(found.test) & (ids(first) | ids(second))


def test_a_small_synthetic_table_makes_all_training_parts_small() -> None:
    found = parts(table(toy.patients(600, 0)), None, None, None, 50, 0)
    assert isinstance(found, Parts)
    assert len(found.train[REAL]) == len(found.train[FLOOR]) == 50


def test_too_few_rows_are_not_measured() -> None:
    found = parts(table(toy.patients(45, 0)), None, None, None, 45, 0)
    assert isinstance(found, NotMeasured)
    assert found.reason.startswith("too few rows")


@pytest.mark.parametrize("task", ["binary", "classes", "number"])
def test_fresh_patients_lose_nothing_and_shuffled_columns_lose_all(task: str) -> None:
    fresh = toy.patients(900, 7, task)
    good = measured(fresh, task).models["logistic"]
    bad = measured(toy.shuffled(fresh, 1), task).models["logistic"]

    assert abs(good.loss.value) < 0.06
    assert good.loss.interval.low <= 0.02
    assert bad.loss.value > 0.15
    assert bad.loss.interval.low > good.loss.interval.high


def test_the_loss_is_the_difference_of_the_figures() -> None:
    found = measured(toy.patients(900, 7))
    for trained in (found.models["logistic"], *(g.models["logistic"] for g in found.groups)):
        auroc = {k: getattr(trained, k).figures["auroc"].value for k in ("real", "floor_rows", "synthetic")}
        assert trained.loss.value == pytest.approx(auroc["real"] - auroc["synthetic"])
        assert trained.floor.value == pytest.approx(auroc["real"] - auroc["floor_rows"])


def test_groups_are_hospitals_and_levels_of_protected_attributes() -> None:
    found = measured(toy.patients(900, 7))
    names = [(g.attribute, g.level) for g in found.groups]
    assert names[:2] == [("hospital", "east"), ("hospital", "west")]
    assert {a for a, _ in names} == {"hospital", "age", "sex", "ward"}
    for attribute in ("hospital", "age", "sex", "ward"):
        assert sum(g.patients for g in found.groups if g.attribute == attribute) == found.test_rows


def test_one_synthetic_class_leaves_the_real_figures_and_says_why_there_are_no_others() -> None:
    found = measured(toy.patients(900, 7).assign(y=0.0)).models["logistic"]
    assert found.loss == NotMeasured("undefined: the training rows have one class (or value) only")
    assert found.real.figures["auroc"].value > 0.7


def test_rows_without_an_outcome_are_left_out_of_training() -> None:
    made = toy.patients(900, 7)
    made.loc[::2, "y"] = np.nan
    assert measured(made).models["logistic"].synthetic.figures["auroc"].value > 0.7
