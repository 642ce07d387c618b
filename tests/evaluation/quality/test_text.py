"""What a person reads: figures beside floors, in lines that say what they mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.evaluation.quality.declaration import Given, declare
from pettoolkit.evaluation.quality.figures import Declaration
from pettoolkit.evaluation.quality.mode import QUICK
from pettoolkit.evaluation.quality.text import lines, measured, value
from pettoolkit.records import Interval, NotMeasured
from tests.evaluation.quality import toy


@pytest.fixture(scope="module")
def declared() -> Declaration:
    real = toy.patients(200, 0, "classes")
    made = toy.patients(200, 1, "classes").assign(pulse=80.0)
    lost = made[(made["y"] != "died") & (made["ward"] != "other")].reset_index(drop=True)
    return declare(Given(real, {"a": made, "b": lost}, toy.contract("classes"), real_name="real.csv"), mode=QUICK)


def test_each_candidate_has_a_column_beside_the_noise_floor(declared: Declaration) -> None:
    said = lines(declared)
    head = next(line for line in said if line.split() == ["noise", "floor", "a", "b"])
    first = next(line for line in said if line.startswith("  columns, mean"))
    c = declared.candidates
    assert first.split()[2:] == [value(c[0].univariate.floor), value(c[0].univariate.mean), value(c[1].univariate.mean)]
    assert len(first) == len(head)


def test_the_short_version_is_made_of_parts(declared: Declaration) -> None:
    said = lines(declared)
    short = " ".join(" ".join(said[said.index("In short") + 1 : said.index("How to read it")]).split())
    overall = declared.candidates[0].univariate
    assert f"a: {overall.measured - overall.beyond_floor} of {overall.measured} distances of columns" in short
    assert "0 of 200 rows equal a real patient's" in short


def test_what_is_lost_is_named(declared: Declaration) -> None:
    said = lines(declared)
    real = toy.patients(200, 0, "classes")
    assert f"  lost: y died, which {(real['y'] == 'died').sum()} real rows have" in said
    assert f"  lost: ward other, which {(real['ward'] == 'other').sum()} real rows have" in said
    assert said.count("  constant: pulse") == 2


def test_groups_are_listed_with_their_floor(declared: Declaration) -> None:
    said = lines(declared)
    assert any(line.startswith("a: AUROC of logistic regression by group") for line in said)
    assert any(line.startswith("  sex 0 (") for line in said)


def test_few_copies_are_no_copy_but_are_said(declared: Declaration) -> None:
    c = declared.candidates[0]
    found = replace(c, copies=replace(c.copies, identical=3, identical_share=0.015))
    said = lines(replace(declared, candidates=(found,)))
    assert "  3 rows equal a real patient's in every column: look at them before release." in said
    assert not any("WARNING" in line for line in said)


def test_figures_are_written_with_their_interval() -> None:
    assert measured(Estimate(0.7123, Interval(0.69, 0.7339))) == "0.712 (0.690 to 0.734)"
    assert measured(Estimate(0.01, Interval(-0.02, 0.04)), sign=True) == "+0.010 (-0.020 to +0.040)"
    assert measured(Estimate(0.7, NotMeasured("few"))) == "0.700"
    assert measured(NotMeasured("one class")) == measured(None) == value(NotMeasured("none")) == "-"
    assert value(float(np.float64(0.1234))) == "0.123"


def test_of_a_number_the_linear_model_is_called_what_it_is() -> None:
    real, made = (toy.patients(100, seed, "number") for seed in (0, 1))
    said = "\n".join(lines(declare(Given(real, {"a": made}, toy.contract("number")), mode=QUICK)))
    assert "ridge regression: trained on real" in said
    assert "logistic" not in said
