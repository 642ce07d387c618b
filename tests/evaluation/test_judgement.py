import numpy as np
import pytest
from people import binormal, people

from pettoolkit.evaluation import metrics
from pettoolkit.evaluation.judgement import evaluate
from pettoolkit.records import NotMeasured


@pytest.fixture
def sites():
    rng = np.random.default_rng(0)
    return {"a": binormal(rng, 20, 200, 0.4), "b": binormal(rng, 30, 100), "c": binormal(rng, 40, 300, 1.5)}


def judge(sites, **kwargs):
    return evaluate(sites, threshold=0.05, resamples=100, **kwargs)


def test_the_names_are_those_of_the_contract(sites):
    found = judge(sites, unseen=["c"])
    utility = (
        "auroc auroc_low auroc_high auroc_all_rows auprc brier calibration_slope accuracy balanced_accuracy precision "
        "sensitivity f1 majority_accuracy ppv_at_80_recall"
    )
    expected = {f"utility/{name}" for name in utility.split()}
    expected |= {
        f"robustness/{n}"
        for n in ("auroc_worst_site", "auroc_site_sd", "auroc_unseen_site", "sites_undefined", "sites_few_positives")
    }
    expected |= {f"site/{name}/auroc" for name in sites}
    assert set(found.metrics) == expected
    assert not found.undefined
    assert set(found.intervals) == {
        "utility/auroc",
        "robustness/auroc_worst_site",
        "robustness/auroc_unseen_site",
        "site/a/auroc",
        "site/b/auroc",
        "site/c/auroc",
    }


def test_a_score_is_the_unweighted_mean_over_hospitals(sites):
    found = judge(sites)
    for name in ("auroc", "auprc", "brier", "accuracy"):
        each = [metrics.site_figures(p, 0.05)[name] for p in sites.values()]
        assert found.metrics[f"utility/{name}"] == pytest.approx(np.mean(each))
    assert found.metrics["robustness/auroc_worst_site"] == found.metrics["site/a/auroc"]
    assert found.metrics["robustness/auroc_site_sd"] == pytest.approx(
        np.std([found.metrics[f"site/{s}/auroc"] for s in sites], ddof=1)
    )


def test_all_rows_ranks_everybody_together(sites):
    y = np.concatenate([p.y for p in sites.values()])
    score = np.concatenate([p.score for p in sites.values()])
    assert judge(sites).metrics["utility/auroc_all_rows"] == pytest.approx(metrics.auroc(y, score))


def test_an_unseen_hospital_counts_as_unseen_only(sites):
    with_unseen, without = judge(sites, unseen=["c"]), judge({s: sites[s] for s in "ab"})
    for name, value in without.metrics.items():
        assert with_unseen.metrics[name] == value
    assert with_unseen.metrics["robustness/auroc_unseen_site"] == with_unseen.metrics["site/c/auroc"]
    assert "robustness/auroc_unseen_site" not in without.metrics
    assert "robustness/auroc_unseen_site" not in without.undefined


def test_per_site_models_are_averaged_on_an_unseen_hospital(sites):
    unseen = sites.pop("c")
    rng = np.random.default_rng(1)
    foreign = {s: {"c": people(unseen.y, rng.random(unseen.patients))} for s in sites}
    found = judge(sites, unseen=["c"], foreign=foreign)
    each = [metrics.auroc(m["c"].y, m["c"].score) for m in foreign.values()]
    assert found.metrics["robustness/auroc_unseen_site"] == pytest.approx(np.mean(each))
    assert found.per_site["c"]["brier"] == pytest.approx(
        np.mean([metrics.brier(m["c"].y, m["c"].score) for m in foreign.values()])
    )


def test_a_hospital_with_one_class_is_left_out_and_counted(sites):
    found = judge({**sites, "none": people([0] * 30, np.linspace(0, 0.2, 30))})
    assert found.metrics["robustness/sites_undefined"] == 1
    assert found.metrics["utility/auroc"] == judge(sites).metrics["utility/auroc"]
    assert found.undefined["site/none/auroc"] == NotMeasured("undefined: one class at this site")
    assert found.per_site["none"]["auroc_low"] == NotMeasured("undefined: one class at this site")
    assert found.per_site["none"]["patients"] == 30


def test_a_hospital_with_nine_positives_is_left_out_of_auprc_ppv_f1_and_slope_and_counted(sites):
    few = binormal(np.random.default_rng(5), 9, 100)
    with_few, without = judge({**sites, "few": few}), judge(sites)
    assert with_few.metrics["robustness/sites_few_positives"] == 1
    assert without.metrics["robustness/sites_few_positives"] == 0
    for name in ("auprc", "precision", "f1", "ppv_at_80_recall", "calibration_slope"):
        assert with_few.metrics[f"utility/{name}"] == without.metrics[f"utility/{name}"]
        why = NotMeasured("undefined: 9 positives at this site, at least 10 are needed")
        assert with_few.per_site["few"][name] == with_few.undefined[f"site/few/{name}"] == why
    assert with_few.metrics["utility/auroc"] != without.metrics["utility/auroc"]


def test_nothing_defined_anywhere_gives_reasons_and_no_numbers():
    found = judge({"a": people([0] * 5, [0.1] * 5), "b": people([0] * 5, [0.1] * 5)})
    assert found.metrics["robustness/sites_undefined"] == 2
    for name in ("utility/auroc", "utility/auroc_low", "utility/auroc_all_rows", "robustness/auroc_worst_site"):
        assert name not in found.metrics
        assert found.undefined[name].reason.startswith("undefined")
    assert all(np.isfinite(v) for v in found.metrics.values())


def test_the_interval_holds_the_figure_and_is_logged_as_two_metrics(sites):
    found = judge(sites)
    low, high = found.metrics["utility/auroc_low"], found.metrics["utility/auroc_high"]
    assert low < found.metrics["utility/auroc"] < high
    assert (low, high) == (found.intervals["utility/auroc"].low, found.intervals["utility/auroc"].high)
