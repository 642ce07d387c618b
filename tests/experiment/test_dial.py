"""The line that says along a generator's dial where its rows begin to give patients away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from finished import NONE, result, spec

from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.dial import dial_lines
from pettoolkit.records import AttackFigure, DpSpec, Interval, MeasuredRisk, ModelSpec, Verdict

OPEN = Verdict("undecided", 0.0, 0.09, "too few")


def attacked(excess: float, half: float = 0.02, attack: str = "density_ratio") -> MeasuredRisk:
    interval = Interval(excess - half, excess + half)
    figure = AttackFigure(attack, "membership", "release", "full", 0.1, 0.1, excess, interval, 700, 700, 700, 1.0)
    elsewhere = replace(figure, excess=1.0, interval=Interval(0.9, 1.0), view="insider")
    return MeasuredRisk((figure, elsewhere), {}, OPEN, OPEN)


def cell(dial: str, value: float, excess: float, auroc: float = 0.6, **changed: Any) -> CellReport:
    model = changed.get("model", ModelSpec("logistic"))
    options = {"generator": "tvae", dial: value, "learning_rate": 0.1 if model.name == "logistic" else 0.2}
    of = replace(spec("synthetic", **changed), options=options)
    privacy = replace(NONE, measured=attacked(excess))
    return CellReport(of, "done", result(of, {"a": auroc, "b": auroc}, privacy=privacy), "run")


def test_epochs_grow_and_smoothing_shrinks_towards_the_data() -> None:
    (epochs,) = dial_lines([cell("fit_epochs", value, 0.0, 0.5 + value / 100) for value in (10, 1, 3)])
    assert "from loose to faithful 1 > 3 > 10: AUROC of logistic 0.510, 0.530, 0.600" in epochs
    (smoothing,) = dial_lines([cell("smoothing", value, 0.0) for value in (0, 300, 10)])
    assert "from loose to faithful 300 > 10 > 0" in smoothing


def test_memorisation_starts_where_the_attack_is_surely_above_chance() -> None:
    (line,) = dial_lines([cell("fit_epochs", value, excess) for value, excess in ((1, 0.0), (3, 0.05), (10, 0.3))])
    assert "memorisation starts at 3 (density_ratio, excess at least 0.0" in line
    assert "(excess of density_ratio) 0.00, 0.05, 0.30" in line


def test_an_interval_that_leaves_zero_out_by_itself_is_not_enough_among_several() -> None:
    (line,) = dial_lines([cell("fit_epochs", value, 0.025) for value in (1, 3, 10)])
    assert "memorisation was not seen" in line


@pytest.mark.parametrize("changed", [{"dp": DpSpec(3.0, 1e-5, "local", 1)}, {"features": "full"}])
def test_cells_that_differ_in_more_are_no_dial(changed: Any) -> None:
    assert dial_lines([cell("fit_epochs", 1, 0.0), cell("fit_epochs", 3, 0.0, **changed)]) == []


def test_models_trained_on_the_same_rows_share_one_line_and_seeds_one_mean() -> None:
    boosting = {"model": ModelSpec("gradient_boosting")}
    cells = [cell("fit_epochs", v, e, seed=s) for v, e in ((1, 0.1), (3, 0.2)) for s in (0, 1)]
    (line,) = dial_lines([*cells, *(cell("fit_epochs", v, 0.1, 0.7, **boosting) for v in (1, 3))])
    assert "AUROC of logistic 0.600, 0.600; AUROC of gradient_boosting 0.700, 0.700" in line


def test_without_attacks_nothing_is_said() -> None:
    cells = [cell("fit_epochs", value, 0.3) for value in (1, 3)]
    bare = [replace(c, result=replace(c.result, privacy=NONE)) for c in cells if c.result is not None]
    assert dial_lines(bare) == []
