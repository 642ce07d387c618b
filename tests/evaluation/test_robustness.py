import pytest
from people import people

from pettoolkit.evaluation import robustness
from pettoolkit.records import NotMeasured

UNDEFINED = NotMeasured("undefined: one class at this site")


def test_the_worst_hospital_is_named_and_an_undefined_one_is_not_it():
    assert robustness.worst_site({"a": 0.7, "b": UNDEFINED, "c": 0.6}) == "c"
    assert isinstance(robustness.worst_site({"b": UNDEFINED}), NotMeasured)


def test_the_spread_needs_two_hospitals():
    assert robustness.site_sd({"a": 0.6, "b": 0.8, "c": UNDEFINED}) == pytest.approx(0.1414214, abs=1e-6)
    assert isinstance(robustness.site_sd({"a": 0.6, "c": UNDEFINED}), NotMeasured)


def test_undefined_hospitals_are_counted():
    assert robustness.sites_undefined({"a": 0.6, "b": UNDEFINED, "c": UNDEFINED}) == 2


def test_the_matrix_has_a_row_per_training_and_a_column_per_test_site():
    good, bad, one_class = people([0, 1], [0.1, 0.9]), people([0, 1], [0.9, 0.1]), people([1], [0.5])
    matrix = robustness.cross_site({"a": {"a": good, "b": bad}, "b": {"a": one_class, "b": good}})
    assert matrix == {"a": {"a": 1.0, "b": 0.0}, "b": {"a": UNDEFINED, "b": 1.0}}
