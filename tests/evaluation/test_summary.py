import numpy as np
import pytest
from people import binormal

from pettoolkit.evaluation.intervals import bootstrap_mean_site_auroc
from pettoolkit.evaluation.judgement import evaluate
from pettoolkit.evaluation.predictions import to_bytes
from pettoolkit.evaluation.summary import summary_of
from pettoolkit.records import Cost, Exposure, ModelSpec, NotMeasured, PrivacyStatement, RunResult, RunSpec


def cells(seeds, unseen=()):
    rng = np.random.default_rng(0)
    runs = [{"a": binormal(rng, 20, 100), "b": binormal(rng, 30, 150, 0.5)} for _ in range(seeds)]
    results = []
    for seed, run in enumerate(runs):
        judged = evaluate(run, threshold=0.05, unseen=unseen, resamples=50)
        results.append(
            RunResult(
                spec=RunSpec("t", "pooled", {}, ModelSpec("logistic"), "compact", seed, ("a", "b"), unseen=unseen),
                config_hash=str(seed),
                metrics=judged.metrics,
                intervals=judged.intervals,
                per_site=judged.per_site,
                cross_site=NotMeasured("shared"),
                subgroups={},
                privacy=PrivacyStatement(NotMeasured("none"), "-", "-", "-"),
                exposure=Exposure(()),
                cost=Cost(1.0),
            )
        )
    return runs, results, [to_bytes(run) for run in runs]


def test_scores_are_means_over_seeds_with_their_spread():
    _, results, files = cells(3)
    found = summary_of(results, files)
    for name in ("utility/auroc", "utility/brier"):
        each = [r.metrics[name] for r in results]
        assert found.mean[name] == pytest.approx(np.mean(each))
        assert found.sd[name] == pytest.approx(np.std(each, ddof=1))
    assert found.seeds == (0, 1, 2)


def test_the_worst_hospital_is_found_after_averaging_over_seeds():
    runs, results, files = cells(3)
    found = summary_of(results, files)
    sites = {s: np.mean([r.metrics[f"site/{s}/auroc"] for r in results]) for s in "ab"}
    assert found.worst_site == min(sites, key=sites.get)
    assert found.mean["robustness/auroc_worst_site"] == pytest.approx(min(sites.values()))
    assert found.intervals["utility/auroc"] == bootstrap_mean_site_auroc(runs).mean.interval
    assert found.mean["utility/auroc_low"] == found.intervals["utility/auroc"].low


def test_an_unseen_hospital_has_its_own_interval_and_is_not_the_worst():
    _, results, files = cells(2, unseen=("b",))
    found = summary_of(results, files)
    assert found.worst_site == "a"
    assert found.mean["utility/auroc"] == pytest.approx(np.mean([r.metrics["site/a/auroc"] for r in results]))
    interval = found.intervals["robustness/auroc_unseen_site"]
    assert interval.low < found.mean["robustness/auroc_unseen_site"] < interval.high


def test_one_seed_has_no_spread():
    _, results, files = cells(1)
    assert summary_of(results, files).sd == {}
