"""The declaration as a whole: real halves at their floor, copies flagged, shuffled columns bad, bad input refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pettoolkit.errors import BadInput
from pettoolkit.evaluation.quality.declaration import Given, declare
from pettoolkit.evaluation.quality.figures import Candidate, Declaration, RankAgreement
from pettoolkit.evaluation.quality.mode import FULL, QUICK, Mode, Steps
from pettoolkit.evaluation.quality.text import lines
from pettoolkit.records import NotMeasured, from_json, to_json
from tests.evaluation.quality import toy

SMALL: Mode = replace(FULL, halvings=10, resamples=100, models=("logistic",), trees=20, proxy="logistic")
N = 600


@pytest.fixture(scope="module")
def declared() -> Declaration:
    """Fresh patients, a copy, and shuffled columns, in one declaration."""
    real = toy.patients(N, 0)
    candidates = {"fresh": toy.patients(N, 1), "copy": real.copy(), "shuffled": toy.shuffled(real, 0)}
    hospital = np.array(["east", "west"], dtype=object)[np.arange(N) % 2]
    given = Given(real, candidates, toy.contract(), hospital=hospital, guarantees={"fresh": "epsilon 1"})
    return declare(given, mode=SMALL)


def candidate(declaration: Declaration, name: str) -> Candidate:
    return next(c for c in declaration.candidates if c.name == name)


def test_fresh_patients_are_at_their_noise_floor_in_every_way(declared: Declaration) -> None:
    c = candidate(declared, "fresh")
    assert c.univariate.mean == pytest.approx(c.univariate.floor, abs=0.01)
    assert c.bivariate.mean == pytest.approx(c.bivariate.floor, abs=0.01)
    assert c.univariate.beyond_floor <= 2
    told = c.distinguishability
    assert told.auroc.interval.low <= 0.5 <= told.auroc.interval.high
    loss = c.utility.models["logistic"].loss
    assert loss.interval.low <= 0.01
    assert abs(loss.value) < 0.05
    assert c.sdmetrics.column_shapes == pytest.approx(c.sdmetrics.column_shapes_floor, abs=0.03)
    assert c.copies.identical == 0


def test_a_copy_is_perfect_and_flagged(declared: Declaration) -> None:
    c = candidate(declared, "copy")
    assert {figure.shape.all_rows for figure in c.columns} == {0.0}
    assert max(p.trend.all_rows for p in c.pairs) == pytest.approx(0, abs=1e-12)
    assert c.univariate.mean < c.univariate.floor
    assert c.distinguishability.auroc.interval.high < 0.5
    assert (c.copies.identical, c.copies.copy) == (N, True)
    assert any("WARNING" in line and "copy of patients" in line for line in lines(declared))


def test_shuffled_columns_are_fine_alone_bad_together_and_useless(declared: Declaration) -> None:
    c = candidate(declared, "shuffled")
    assert c.univariate.mean <= c.univariate.floor + 0.005
    assert c.bivariate.beyond_floor > 2 >= candidate(declared, "fresh").bivariate.beyond_floor
    assert c.worst.pairs[0].startswith("pulse with pressure: correlation")
    assert c.utility.models["logistic"].loss.interval.low > 0.1
    assert c.copies.identical == 0


def test_all_candidates_stand_beside_the_same_floor(declared: Declaration) -> None:
    floors = {(c.univariate.floor, c.distinguishability.floor.value, c.copies.floor_share) for c in declared.candidates}
    assert len(floors) == 1
    aurocs = {c.utility.models["logistic"].floor_rows.figures["auroc"].value for c in declared.candidates}
    assert len(aurocs) == 1


def test_the_worst_subgroup_is_named(declared: Declaration) -> None:
    c = candidate(declared, "shuffled")
    groups = {f"{g.attribute} {g.level}": g.models["logistic"].loss for g in c.utility.groups}
    named = [name for name in groups if str(c.worst.subgroup).startswith(f"{name} (")]
    large = [g for g in c.utility.groups if g.patients >= 20]
    assert len(named) == 1
    assert groups[named[0]].value == max(g.models["logistic"].loss.value for g in large)


def test_it_says_that_it_is_internal_and_who_guarantees_what(declared: Declaration) -> None:
    assert declared.internal
    said = lines(declared)
    assert "Internal" in said[1]
    assert "Synthetic table: fresh, 600 rows; guarantee: epsilon 1" in said
    assert "Synthetic table: copy, 600 rows; guarantee: not stated" in said


def test_it_survives_json(declared: Declaration) -> None:
    assert from_json(Declaration, json.loads(json.dumps(to_json(declared), allow_nan=False))) == declared


def test_the_same_seed_gives_the_same_declaration() -> None:
    given = Given(toy.patients(200, 0), {"made": toy.patients(200, 1)}, toy.contract())
    first, second, other = (declare(given, seed=seed, mode=QUICK) for seed in (3, 3, 4))
    assert first == second
    assert first.candidates[0].univariate.floor != other.candidates[0].univariate.floor


def test_a_holdout_is_what_models_are_tested_on() -> None:
    given = Given(toy.patients(200, 0), {"made": toy.patients(200, 1)}, toy.contract(), holdout=toy.patients(90, 2))
    found = declare(given, mode=QUICK)
    assert (found.holdout_rows, found.candidates[0].utility.test_rows) == (90, 90)
    assert found.candidates[0].utility.test_from == "the holdout"
    assert found.candidates[0].copies.identical_to_holdout == 0


@pytest.mark.parametrize("task", ["classes", "number"])
def test_outcomes_of_several_classes_and_numbers_are_declared(task: str) -> None:
    given = Given(toy.patients(300, 0, task), {"made": toy.patients(300, 1, task)}, toy.contract(task))
    found = declare(given, mode=SMALL, ranks=True)

    figures = found.candidates[0].utility.models["logistic"].synthetic.figures
    if task == "number":
        assert figures["r2"].value > 0.5
        assert set(figures) == {"r2", "rmse", "mae"}
    else:
        assert figures["auroc"].value > 0.7
        assert {"auroc/died", "f1/home", "precision/macro", "sensitivity/weighted"} <= set(figures)
    assert not isinstance(found.candidates[0].ranks, NotMeasured)
    assert any("R2" in line if task == "number" else "AUROC" in line for line in lines(found))


def test_progress_counts_to_the_end() -> None:
    said: list[tuple[str, int, int]] = []
    given = Given(toy.patients(200, 0), {"a": toy.patients(200, 1), "b": toy.patients(200, 2)}, toy.contract())
    declare(given, mode=QUICK, steps=Steps(lambda *step: said.append(step)))
    assert said[-1] == ("done", said[-1][2], said[-1][2])
    assert [done for _, done, _ in said] == list(range(len(said)))


REAL = toy.patients(100, 0)
MADE = toy.patients(100, 1)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (MADE.drop(columns="pulse"), "made: pulse: the column is missing"),
        (MADE.assign(pulse="high"), "made: pulse: must be numbers (the column is object)"),
        (MADE.assign(pulse=np.inf), "made: pulse: must be finite numbers (some are infinite)"),
        (MADE.head(0), "made: has 0 rows; a declaration needs at least 20"),
        (MADE.head(1), "made: has 1 rows; a declaration needs at least 20"),
    ],
)
def test_tables_that_can_not_be_compared_are_refused(made: pd.DataFrame, why: str) -> None:
    with pytest.raises(BadInput) as error:
        declare(Given(REAL, {"made": made}, toy.contract()), mode=QUICK)
    assert error.value.lines == (why,)


def test_all_findings_are_said_at_once() -> None:
    with pytest.raises(BadInput) as error:
        declare(Given(REAL.head(3), {"a": MADE.drop(columns="y"), "b": MADE.head(2)}, toy.contract()), mode=QUICK)
    assert len(error.value.lines) == 3


@pytest.mark.parametrize(
    "made",
    [
        MADE.assign(y=0.0),
        MADE.assign(y=np.nan),
        MADE.assign(pulse=80.0),
        MADE.assign(pulse=np.nan),
        MADE.assign(ward=None),
        MADE.assign(age=50.0, sex=1.0, ward="medical"),
    ],
    ids=["one class", "no outcome", "constant", "all missing", "category all missing", "one group"],
)
def test_a_poor_synthetic_table_is_declared_and_not_refused(made: pd.DataFrame) -> None:
    found = declare(Given(REAL, {"made": made}, toy.contract()), mode=SMALL)
    assert lines(found)
    assert json.dumps(to_json(found), allow_nan=False)


@pytest.mark.parametrize(
    "real",
    [
        REAL.assign(y=0.0),
        REAL.assign(pulse=80.0),
        REAL.assign(pulse=np.nan),
        REAL.assign(ward=None),
        REAL.assign(age=50.0, sex=1.0, ward="medical"),
    ],
    ids=["one class", "constant", "all missing", "category all missing", "one group"],
)
def test_a_poor_real_table_is_declared_and_not_refused(real: pd.DataFrame) -> None:
    found = declare(Given(real, {"made": MADE}, toy.contract()), mode=SMALL)
    assert lines(found)
    assert json.dumps(to_json(found), allow_nan=False)


def test_models_on_a_table_without_any_outcome_have_no_order() -> None:
    real, made = toy.patients(200, 0), toy.patients(200, 1).assign(y=np.nan)
    (found,) = declare(Given(real, {"made": made}, toy.contract()), mode=QUICK, ranks=True).candidates
    assert isinstance(found.ranks, RankAgreement)
    assert isinstance(found.ranks.tau, NotMeasured)
    assert isinstance(found.ranks.same_models, NotMeasured)
    assert not isinstance(found.ranks.floor, NotMeasured)


def test_one_feature_is_enough_and_no_other_column_tells_it() -> None:
    whole = toy.contract()
    alone = whole.model_copy(update={"columns": (whole.columns[1], whole.columns[-1])})
    (found,) = declare(Given(REAL, {"made": MADE}, alone), mode=SMALL).candidates
    (sex,) = found.bias
    assert isinstance(sex.proxy.synthetic, NotMeasured)
    assert "no other feature" in sex.proxy.synthetic.reason


def test_an_outcome_alone_is_refused() -> None:
    nothing = toy.contract().model_copy(update={"columns": toy.contract().columns[-1:]})
    with pytest.raises(BadInput, match="contract toy: has no feature; a declaration needs one"):
        declare(Given(REAL, {"made": MADE}, nothing), mode=QUICK)


def test_a_small_candidate_sets_the_size_for_all_and_says_so() -> None:
    found = declare(Given(REAL, {"big": MADE, "small": MADE.head(30)}, toy.contract()), mode=QUICK)
    assert found.matched_rows == 30
    assert "compared at 30 rows" in found.candidates[0].notes[0]
