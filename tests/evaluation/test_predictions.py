import numpy as np
import pytest
from people import people

from pettoolkit.errors import BadInput
from pettoolkit.evaluation import predictions


def test_a_saved_file_reads_back_exactly(tmp_path):
    before = {
        "St. Anna/north": people([0, 1, 1], [0.1, 0.2, 0.3], [7, 2, 9], {"sex": np.array(["f", "m", "f"])}),
        "empty": people([], []),
    }
    predictions.save(before, tmp_path / "p.npz")
    after = predictions.load(tmp_path / "p.npz")
    assert list(after) == list(before)
    for site, p in before.items():
        for name in ("patient", "y", "score"):
            np.testing.assert_array_equal(getattr(after[site], name), getattr(p, name))
            assert getattr(after[site], name).dtype == getattr(p, name).dtype
        assert set(after[site].subgroup) == set(p.subgroup)
    assert after["St. Anna/north"].subgroup["sex"].tolist() == ["f", "m", "f"]


def test_equal_predictions_give_equal_bytes():
    one = {"a": people([0, 1], [0.1, 0.2])}
    assert predictions.to_bytes(one) == predictions.to_bytes({"a": people([0, 1], [0.1, 0.2])})


def test_a_foreign_file_is_named_and_no_pickle_is_opened(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, sites=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(BadInput, match=r"p\.npz: not a file of predictions"):
        predictions.load(path)
    path.write_bytes(b"half a file")
    with pytest.raises(BadInput, match="not a file of predictions"):
        predictions.load(path)


@pytest.mark.parametrize(
    ("y", "score", "patient", "what"),
    [
        ([0, 1], [0.1, np.nan], [0, 1], "probability"),
        ([0, 1], [0.1, 1.5], [0, 1], "probability"),
        ([0, 2], [0.1, 0.2], [0, 1], "y must be"),
        ([0, 1], [0.1], [0, 1], "one length"),
    ],
)
def test_unusable_predictions_are_refused(y, score, patient, what):
    with pytest.raises(ValueError, match=what):
        people(y, score, patient)


def test_rows_of_one_patient_count_as_one_patient():
    several = people([0, 1, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5], [3, 3, 3, 4, 5])
    assert (several.patients, several.positives) == (3, 2)
