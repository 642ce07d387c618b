import numpy as np
import pytest
from people import people

from pettoolkit.evaluation.subgroups import subgroup_auroc
from pettoolkit.records import NotMeasured


def site(rng, n, shift=0.0):
    y = (rng.random(n) < 0.3).astype(int)
    score = np.clip(rng.random(n) * 0.5 + 0.1 * y + shift, 0, 1)
    return people(y, score, subgroup={"sex": np.where(rng.random(n) < 0.5, "f", "m")})


def test_pairs_are_counted_within_a_hospital_and_a_group():
    rng = np.random.default_rng(2)
    sites = [site(rng, 60), site(rng, 90, shift=0.4)]
    won = pairs = 0.0
    for p in sites:
        for i in range(p.patients):
            for j in range(p.patients):
                same = p.subgroup["sex"][i] == p.subgroup["sex"][j] == "f"
                if same and p.y[i] == 1 and p.y[j] == 0:
                    pairs += 1
                    won += float(p.score[i] > p.score[j]) + 0.5 * float(p.score[i] == p.score[j])
    assert subgroup_auroc(sites)["sex"]["f"] == pytest.approx(won / pairs, abs=1e-12)


def test_a_group_with_few_positives_is_not_measured():
    y = np.r_[np.ones(12, int), np.zeros(30, int)]
    sex = np.array(["m"] * 9 + ["f"] * 3 + ["m", "f"] * 15)
    found = subgroup_auroc([people(y, np.linspace(0, 1, 42), subgroup={"sex": sex})])["sex"]
    assert found["m"] == NotMeasured("undefined: 9 positives in this group, at least 10 are needed")
    assert isinstance(found["f"], NotMeasured)


def test_hospitals_without_the_attribute_are_passed_over():
    rng = np.random.default_rng(3)
    known = site(rng, 200)
    assert subgroup_auroc([known, people([0, 1], [0.2, 0.1])]) == subgroup_auroc([known])
