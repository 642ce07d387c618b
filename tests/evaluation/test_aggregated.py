"""Figures of a hospital that gives no rows: nothing from which fewer than ten patients can be told."""

from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.evaluation.aggregated import AT_THRESHOLD, figures_of
from pettoolkit.evaluation.metrics import auroc
from pettoolkit.evaluation.predictions import SitePredictions


def people(positives: int, negatives: int, *, seed: int = 0) -> SitePredictions:
    rng = np.random.default_rng(seed)
    y = np.repeat([1, 0], [positives, negatives]).astype(np.int8)
    score = np.clip(rng.normal(np.where(y == 1, 0.6, 0.4), 0.2), 0.01, 0.99).astype(np.float32)
    return SitePredictions(np.arange(len(y)), y, score)


def test_with_many_patients_all_figures_are_told() -> None:
    p = people(200, 400)

    told = figures_of(p, 0.5)

    assert told["auroc"] == pytest.approx(auroc(p.y, p.score))
    assert set(AT_THRESHOLD) <= set(told)
    assert (told["patients"], told["positives"]) == (600, 200)


@pytest.mark.parametrize(("positives", "negatives"), [(9, 400), (400, 9), (0, 100)])
def test_of_fewer_than_ten_of_one_outcome_nothing_is_told(positives: int, negatives: int) -> None:
    assert figures_of(people(positives, negatives), 0.5) == {}


def test_a_small_cell_of_the_confusion_table_can_not_be_computed() -> None:
    p = people(200, 400)
    score = np.where(p.y == 1, 0.9, 0.1).astype(np.float32)
    score[:5] = 0.1  # five positives without an alarm

    told = figures_of(SitePredictions(p.patient, p.y, score), 0.5)

    assert not set(AT_THRESHOLD) & set(told)
    assert "auroc" in told


def test_precision_at_80_recall_is_held_back_where_it_counts_few() -> None:
    assert "ppv_at_80_recall" not in figures_of(people(11, 400), 0.5)  # 8.8 patients found
    assert "ppv_at_80_recall" in figures_of(people(200, 400), 0.5)
