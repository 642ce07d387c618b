import numpy as np
import pandas as pd
import pytest
from toy_table import CONTRACT, people

from pettoolkit.synthesis.release_filter import nearest_distance, release_filter
from pettoolkit.synthesis.rows import number, to_unit


def test_repeats_of_patients_stay_inside_and_nothing_else():
    real, fresh = people(200), people(150, seed=8)
    made = pd.concat([fresh, real.iloc[:20]], ignore_index=True)
    kept = release_filter(made, real, CONTRACT, "exact")
    assert (kept.exact, kept.close, kept.limit) == (20, 0, 0.0)
    pd.testing.assert_frame_equal(kept.rows, fresh)


def test_rows_nearly_like_a_patient_are_too_close():
    real, fresh = people(300), people(200, seed=8)
    near = real.iloc[:30].assign(HR=real.HR.iloc[:30] + 0.001)
    kept = release_filter(pd.concat([fresh, near], ignore_index=True), real, CONTRACT, "close")
    assert kept.exact == 0
    assert kept.close >= 30
    assert len(kept.rows) == 230 - kept.close
    assert kept.close - 30 < 10  # of other patients about the quantile is held back


def test_the_outcome_does_not_make_a_repeat_another_row():
    real = people(50)
    kept = release_filter(real.assign(Sepsis=1 - real.Sepsis), real, CONTRACT, "exact")
    assert kept.exact == 50


def test_distances_are_those_of_the_definition():
    """Against a slow double loop over columns."""
    from pettoolkit.synthesis.release_filter import _coordinates

    a, b = people(15), people(12, seed=3)
    expected = np.zeros((15, 12))
    for column in CONTRACT.feature_columns:
        for i in range(15):
            for j in range(12):
                x, y = a[column.name].iloc[i], b[column.name].iloc[j]
                if pd.isna(x) or pd.isna(y):
                    expected[i, j] += float(pd.isna(x) != pd.isna(y))
                elif column.kind == "number":
                    u, v = (to_unit(number(t, column.name), column)[k] for t, k in ((a, i), (b, j)))
                    expected[i, j] += abs(u - v)
                else:
                    expected[i, j] += float(x != y)
    found = nearest_distance(_coordinates(a, CONTRACT), _coordinates(b, CONTRACT))
    np.testing.assert_allclose(found, expected.min(axis=1) / len(CONTRACT.feature_columns), atol=1e-12)


def test_a_patient_is_not_its_own_neighbour():
    points = np.array([[0.0], [1.0], [1.5]])
    np.testing.assert_array_equal(nearest_distance(points, points, others=True), [1.0, 0.5, 0.5])


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_tables_are_no_error(n):
    kept = release_filter(people(20).iloc[:n], people(1), CONTRACT, "close")
    assert len(kept.rows) + kept.exact + kept.close == n
