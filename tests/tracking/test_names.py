import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import GUARANTEE, result, spec

from pettoolkit.records import Cost, DpSpec, Interval, ModelSpec, NotMeasured, PrivacyStatement, Summary
from pettoolkit.tracking import names


def test_runs_are_named_by_what_tells_them_apart():
    assert names.run_name(spec()) == "federated fedavg logistic seed 0"
    assert names.summary_name(spec()) == "federated fedavg logistic"
    assert names.summary_name(spec(arm="local", options={})) == "local logistic"
    private = spec(model=ModelSpec("mlp", 32), dp=DpSpec(3.0), unseen=("west",))
    assert names.summary_name(private) == "federated fedavg mlp-32 + DP, epsilon 3, local noise, unseen west"


def test_params_say_dash_for_nothing_and_inf_without_privacy():
    params = names.params_of(spec(arm="local", options={}))
    assert set(params) >= {
        *("arm", "variant", "dp", "epsilon", "noise", "model", "seed", "features", "sites", "unseen", "rounds")
    }
    assert [params[k] for k in ("variant", "epsilon", "noise", "unseen", "rounds")] == ["-", "inf", "-", "-", "-"]
    assert names.params_of(spec())["rounds"] == "30"


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({"strategy": "fedprox"}, "fedprox"),
        ({"generator": "marginals"}, "marginals"),
        ({"k": 5}, "k=5"),
        ({}, "-"),
        ({"generator": "marginals", "scope": "per_hospital", "filter": "none", "balance": None}, "marginals"),
        ({"generator": "marginals", "scope": "secure_sum"}, "marginals secure_sum"),
        ({"generator": "tvae", "fit_epochs": 3}, "tvae fit_epochs 3"),
        ({"generator": "marginals", "smoothing": 0.0, "pairs": False}, "marginals smoothing 0 no pairs"),
        ({"generator": "marginals", "filter": "close"}, "marginals filter close"),
        ({"generator": "marginals", "balance": {"column": "y", "to": 0.2}}, "marginals balance y 0.2"),
    ],
)
def test_an_arms_variant_is_its_own_word(options, variant):
    assert names.variant_name(spec(options=options)) == variant


def test_seeds_and_drawn_sites_share_a_variant_but_their_number_does_not():
    key = names.variant_key(spec())
    assert names.variant_key(spec(seed=7, sites=("north", "east"), contract_digest="other")) == key
    assert names.variant_key(spec(sites=("north",))) != key
    assert names.variant_key(spec(options={"strategy": "fedavg", "rounds": 31})) != key


def test_options_data_and_drawn_sites_leave_a_row_what_it_is():
    row = names.row_of(spec(), "cohort")
    same = spec(options={"strategy": "fedavg", "rounds": 31, "epochs": 2}, sites=("north", "east"), contract_digest="x")
    assert names.row_of(same, "cohort") == row
    others = (spec(seed=1), spec(dp=DpSpec(3.0)), spec(options={"strategy": "fedprox"}), spec(unseen=("west",)))
    assert row not in {names.row_of(other, "cohort") for other in others}
    assert names.row_of(spec(), "another") != row
    assert names.row_of(spec(seed=1), "cohort", seed=False) == names.row_of(spec(), "cohort", seed=False)


def test_a_change_is_said_by_the_options_own_name():
    old = spec(options={"strategy": "fedavg", "rounds": 30, "mu": 0.1}, dp=DpSpec(3.0), faults={"round_timeout": 600.0})
    new = spec(options={"strategy": "fedavg", "rounds": 50}, dp=DpSpec(3.0, delta=1e-6), faults={"round_timeout": 9.0})
    assert names.changed(old, new) == [
        "dp.delta 1e-05 -> 1e-06",
        "faults.round_timeout 600.0 -> 9.0",
        "mu 0.1 -> not set",
        "rounds 30 -> 50",
    ]
    assert names.changed(old, old) == []


@given(st.floats(-1e6, 1e6))
def test_rounding_keeps_four_decimals_or_four_digits(value):
    error = abs(names.rounded(value) - value)
    assert error <= max(
        0.5e-4 if abs(value) >= names.SMALL else 0, abs(value) * 5.1e-4 * (abs(value) < names.SMALL)
    ) + 1e-9 * abs(value)


def test_small_quantities_are_not_rounded_to_nothing():
    assert names.rounded(1.23456e-7) == 1.235e-7
    assert names.rounded(0.712345) == 0.7123


def test_what_is_not_measured_is_not_a_metric():
    metrics = names.metrics_of(result(cost=Cost(1.5, cpu_seconds=NotMeasured("no"), extra={"encrypt_seconds": 0.25})))
    assert metrics["cost/encrypt_seconds"] == 0.25
    assert "cost/cpu_seconds" not in metrics
    assert not any(name.startswith("privacy/") for name in metrics)


def test_a_guarantee_is_logged_with_what_collusion_leaves_of_it():
    private = PrivacyStatement(GUARANTEE, "nobody", "-", "no")
    metrics = names.metrics_of(result(privacy=private))
    assert (metrics["privacy/epsilon"], metrics["privacy/delta"]) == (3.0, 1e-5)
    assert "privacy/epsilon_if_colluding" not in metrics  # noise is not shared


def test_a_figure_that_is_no_number_is_named_instead_of_logged():
    good, odd = names.finite({"a": 1.0, "b": math.nan, "c": math.inf})
    assert (good, odd) == ({"a": 1.0}, ("b", "c"))


def test_a_summary_shows_means_and_the_spread_of_scores():
    summary = Summary(
        spec(),
        (0, 1),
        {"utility/auroc": 0.7, "cost/train_seconds": 2.0},
        {"utility/auroc": 0.01, "cost/train_seconds": 0.1},
        {"utility/auroc": Interval(0.6, 0.8)},
    )
    assert names.summary_metrics(summary) == {
        "utility/auroc": 0.7,
        "cost/train_seconds": 2.0,
        "utility/auroc_seed_sd": 0.01,
    }
