import numpy as np
import pandas as pd
import pytest
from toy_table import CONTRACT, people

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.drawing import Balance, draw, order_pressures
from pettoolkit.synthesis.marginals import Marginals

PRESSURES = Contract(
    name="pressures",
    columns=(
        Column(name="DBP", low=20, high=150),
        Column(name="MAP", low=20, high=200),
        Column(name="SBP", low=20, high=250),
        Column(name="y", kind="binary", role="outcome"),
    ),
)


def fitted(rows=None, contract=CONTRACT):
    generator = Marginals()
    generator.fit(people(600) if rows is None else rows, contract, seed=0, dp=None)
    return generator


def pressures(*rows):
    return pd.DataFrame([(*row, 0) for row in rows], columns=["DBP", "MAP", "SBP", "y"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((60.0, 80.0, 120.0), (60.0, 80.0, 120.0)),
        ((90.0, 80.0, 120.0), (80.0, 90.0, 120.0)),
        ((120.0, 80.0, 60.0), (60.0, 80.0, 120.0)),
        ((130.0, np.nan, 90.0), (90.0, np.nan, 130.0)),
        ((np.nan, 130.0, 90.0), (np.nan, 90.0, 130.0)),
        ((np.nan, 90.0, np.nan), (np.nan, 90.0, np.nan)),
        ((20.0, 240.0, 250.0), (20.0, 240.0, 250.0)),  # already in order, beyond a bound: not this rule's business
    ],
)
def test_present_pressures_are_swapped_into_order(before, after):
    rows = order_pressures(pressures(before), PRESSURES)
    np.testing.assert_array_equal(rows[["DBP", "MAP", "SBP"]].to_numpy()[0], after)


def test_a_swap_that_would_break_a_bound_is_not_made():
    rows = order_pressures(pressures((145.0, 200.0, 30.0), (150.0, 190.0, 180.0)), PRESSURES)
    np.testing.assert_array_equal(rows.DBP.to_numpy(), [30.0, 150.0])
    narrow = PRESSURES.model_copy(update={"columns": (Column(name="DBP", low=100, high=150), *PRESSURES.columns[1:])})
    left = order_pressures(pressures((145.0, 200.0, 30.0)), narrow)
    np.testing.assert_array_equal(left[["DBP", "MAP", "SBP"]].to_numpy()[0], [145.0, 200.0, 30.0])


def test_what_was_drawn_broken_is_counted_though_it_is_put_in_order():
    rng = np.random.default_rng(0)
    real = pressures(*rng.uniform(40, 140, (300, 3)))
    drawn = draw(fitted(real, PRESSURES), PRESSURES, 500, seed=1)
    assert drawn.figures["drawn/MAP not between DBP and SBP"] > 100
    assert drawn.figures["left/MAP not between DBP and SBP"] == 0
    assert drawn.figures["left/DBP above SBP"] == 0


def test_a_rare_class_is_filled_up_to_its_share():
    drawn = draw(fitted(), CONTRACT, 500, seed=1, balance=Balance("Sepsis", 0.5))
    assert drawn.rows.Sepsis.mean() == pytest.approx(0.5, abs=0.001)
    assert drawn.figures["added"] == drawn.figures["added_positive"] == len(drawn.rows) - 500
    assert drawn.rows.Sepsis.dtype == np.int8


@pytest.mark.parametrize(
    ("balance", "share"),
    [
        (Balance("Gender", 0.7, level=0), lambda rows: (rows.Gender == 0).mean()),
        (Balance("Ward", 0.6, level="south"), lambda rows: (rows.Ward == "south").mean()),
        (Balance("Age", 0.5, at_least=75), lambda rows: (rows.Age >= 75).mean()),
    ],
)
def test_groups_are_filled_up_too(balance, share):
    rows = draw(fitted(), CONTRACT, 500, seed=1, balance=balance).rows
    assert share(rows) == pytest.approx(balance.to, abs=0.001)


def test_the_rows_before_balance_stay_as_they_are():
    plain, more = (draw(fitted(), CONTRACT, 200, seed=1, balance=b).rows for b in (None, Balance("Sepsis", 0.4)))
    pd.testing.assert_frame_equal(more.iloc[:200], plain)


def test_a_group_that_is_large_enough_gets_nothing():
    assert len(draw(fitted(), CONTRACT, 200, seed=1, balance=Balance("Sepsis", 0.1)).rows) == 200


def test_a_class_that_the_generator_never_makes_is_said():
    drawn = draw(fitted(people(100, positives=0)), CONTRACT, 60, seed=1, balance=Balance("Sepsis", 0.5))
    assert drawn.figures["added"] == 0
    assert "60 more were wanted" in drawn.notes[0]


@pytest.mark.parametrize(
    ("balance", "line"),
    [
        ({"column": "Sepis"}, "no feature or outcome Sepis"),
        ({"column": "Age"}, "say where its group begins"),
        ({"column": "Age", "level": 3}, "say where its group begins"),
        ({"column": "Ward", "level": "west"}, "has levels north, south, east"),
        ({"column": "Gender", "at_least": 0.5}, "is no number"),
    ],
)
def test_a_group_that_is_not_there_is_one_line(balance, line):
    with pytest.raises(BadInput, match=line):
        draw(fitted(), CONTRACT, 50, seed=1, balance=Balance(to=0.5, **balance))


@pytest.mark.parametrize("to", [0.0, 1.0, -0.1, np.nan])
def test_a_share_must_be_one(to):
    with pytest.raises(BadInput, match="balance.to"):
        Balance("Sepsis", to)
