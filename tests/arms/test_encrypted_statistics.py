"""Encrypted statistics: the same fit as on pooled records, from sums that nobody outside can read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.encrypted_statistics import fit, noise
from pettoolkit.arms.encrypted_statistics.inside import HANDLERS, design
from pettoolkit.arms.keyring import key_requests
from pettoolkit.cohort.features import feature_names
from pettoolkit.encryption.matrix import NormalSums, linear_sums, logistic_sums
from pettoolkit.encryption.packing import upper_triangle
from pettoolkit.errors import PetError, Refused, SiteFailed
from pettoolkit.experiment.execute import execute
from pettoolkit.hospital.request import Request
from pettoolkit.records import DpSpec, Guarantee, Models, NotMeasured, Outcome, RunSpec, from_json, to_json
from tests import small_cohort as small

ARM = "encrypted_statistics"
ONE_SHOT = {"method": "one_shot", "rounds": 1}
DP = DpSpec(epsilon=3.0, delta=1e-3, noise="shared", honest_sites=3)


def run(spec: RunSpec) -> Outcome:
    with small.grid(small.hospitals(spec)) as grid:
        return coordinate(grid, spec)


def fitted(outcome: Outcome) -> np.ndarray:
    arrays = outcome.models.by_site[Models.SHARED].unpack()
    return np.concatenate([arrays["layer0.bias"], arrays["layer0.weight"][0]])


def pooled(spec: RunSpec) -> tuple[np.ndarray, np.ndarray]:
    parts = [design(site, spec) for site in small.hospitals().values()]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def test_newton_equals_pooled_ridge_logistic_regression_in_six_rounds() -> None:
    from sklearn.linear_model import LogisticRegression

    spec = small.spec(ARM, ridge=2.0)
    x, y = pooled(spec)
    reference = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=5000).fit(x[:, 1:], y)

    np.testing.assert_allclose(fitted(run(spec)), np.r_[reference.intercept_, reference.coef_[0]], atol=1e-3)


def test_standard_errors_are_those_of_the_pooled_rows_and_odds_ratios_follow() -> None:
    spec = small.spec(ARM)
    outcome = run(spec)
    x, _ = pooled(spec)
    p = 1 / (1 + np.exp(-x @ fitted(outcome)))
    information = x.T @ (x * (p * (1 - p))[:, None])
    inverse = np.linalg.inv(information + np.diag([0.0, *[1.0] * (x.shape[1] - 1)]))
    errors = dict(
        zip(
            ("intercept", *feature_names(small.CONTRACT)),
            np.sqrt(np.diag(inverse @ information @ inverse)),
            strict=True,
        )
    )

    assert set(outcome.coefficients) == {name for name, error in errors.items() if error > 1e-3}
    assert "pulse?" not in outcome.coefficients  # never missing here, so nothing was learnt of it
    for name, row in outcome.coefficients.items():
        assert row["standard_error"] == pytest.approx(errors[name], abs=1e-3)
        assert row["odds_ratio"] == pytest.approx(np.exp(row["coefficient"]), rel=1e-6)
        assert row["low"] < row["odds_ratio"] < row["high"]
        assert np.log(row["high"] / row["low"]) == pytest.approx(2 * 1.96 * row["standard_error"], rel=1e-3)
    assert from_json(Outcome, to_json(outcome)) == outcome


def test_too_few_rounds_are_said() -> None:
    assert any("not steady" in note for note in run(small.spec(ARM, rounds=1)).notes)
    assert not any("not steady" in note for note in run(small.spec(ARM, rounds=6)).notes)


def test_one_shot_equals_pooled_ridge_linear_regression_with_the_stated_link() -> None:
    from sklearn.linear_model import Ridge

    spec = small.spec(ARM, **ONE_SHOT)
    x, y = pooled(spec)
    reference = Ridge(alpha=1.0, tol=1e-12).fit(x[:, 1:], y)
    mean = y.mean()
    linear = reference.predict(x[:, 1:])
    outcome = run(spec)

    link = np.log(mean / (1 - mean)) + (linear - mean) / (mean * (1 - mean))
    np.testing.assert_allclose(x @ fitted(outcome), link, atol=1e-3)
    assert any("LINEAR" in note for note in outcome.notes)
    assert outcome.coefficients == {}


def test_the_link_is_one_newton_step_of_logistic_regression_from_the_constant_model() -> None:
    x, y = pooled(small.spec(ARM))
    mean, d = y.mean(), x.shape[1]
    tiny = np.full(d, 1e-9)
    start = np.r_[np.log(mean / (1 - mean)), np.zeros(d - 1)]
    sums = logistic_sums(x, y, start)
    step = start + np.linalg.solve(sums.gram + np.diag(tiny), sums.moment)
    beta = np.linalg.solve(x.T @ x + np.diag(tiny), x.T @ y)

    np.testing.assert_allclose(x @ fit.linked(beta, mean), x @ step, atol=1e-4)


def test_only_sums_leave_encrypted_and_the_model_leaves_once() -> None:
    traffic = [t for t in run(small.spec(ARM)).exposure.traffic if t.direction == "out" and t.purpose != "setup"]

    assert {(t.site, t.kind, t.purpose): t.messages for t in traffic} == {
        **{(site, kind, "training"): 6 for site in small.SITES for kind in ("ciphertext", "metrics")},
        ("east", "model", "release"): 1,
    }


def test_what_is_released_is_flooded_once() -> None:
    spec = small.spec(ARM)
    sites = small.hospitals(spec)
    with small.grid(sites) as grid:
        first, again = coordinate(grid, spec), coordinate(grid, spec)

    assert np.array_equal(fitted(first), fitted(again)), "two draws of noise would average out"
    assert 0 < first.encryption["encryption/flooding_sd"] < 1e-3


@pytest.mark.parametrize("options", [{}, ONE_SHOT])
def test_of_the_gain_only_a_power_of_two_is_told(options: dict[str, object]) -> None:
    spec = small.spec(ARM, **options)
    told = run(spec).encryption["encryption/flooding_sd"]

    bits = np.log2(told / key_requests("small", [spec])[0].scheme.flooding_sd)

    assert bits == pytest.approx(round(bits), abs=1e-9)


def test_gains_are_rounded_up_to_the_next_power_of_two() -> None:
    spec = small.spec(ARM)
    x, y = pooled(spec)
    exact = fit.step(spec, logistic_sums(x, y, np.zeros(x.shape[1])), np.zeros(x.shape[1]))

    gains = fit.released(spec, exact).gains

    assert (gains >= exact["gains"]).all()
    assert (gains < 2 * exact["gains"]).all()
    np.testing.assert_array_equal(np.log2(gains), np.round(np.log2(gains)))


def test_the_number_of_patients_stays_that_with_which_the_run_began() -> None:
    spec = small.spec(ARM)
    site = small.hospitals(spec)["east"]
    HANDLERS["contribute"](site, Request("contribute", "training", spec, 1, extra={"patients": 500}))

    with pytest.raises(Refused, match="began with 500 patients, and now says 501"):
        HANDLERS["contribute"](site, Request("contribute", "training", spec, 1, extra={"patients": 501}))


def test_a_hospital_with_another_key_never_gives_a_wrong_sum() -> None:
    spec = small.spec(ARM)
    sites = small.hospitals(spec)
    sites["west"].keys = small.hospitals(spec)["west"].keys

    with small.grid(sites) as grid, pytest.raises(PetError, match="key"):
        coordinate(grid, spec)


def test_a_key_for_another_ring_is_named() -> None:
    spec = small.spec(ARM)
    sites = small.hospitals(small.spec("encrypted_aggregation"))

    with small.grid(sites) as grid, pytest.raises(SiteFailed, match="is for aggregation"):
        coordinate(grid, spec)


@pytest.mark.parametrize("method", ["newton", "one_shot"])
def test_one_patient_changes_the_sums_by_no_more_than_the_sensitivity(method: str) -> None:
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(300):
        norm = rng.uniform(0.2, 4)
        x = noise.clipped(rng.normal(size=(1, 5)) * 10 ** rng.uniform(-2, 2), norm)
        y, weights = rng.integers(0, 2, 1).astype(float), rng.normal(size=5) * 10 ** rng.uniform(-3, 1)
        one = logistic_sums(x, y, weights) if method == "newton" else linear_sums(x, y)
        change = np.linalg.norm(np.concatenate([upper_triangle(one.gram), one.moment]))
        assert change <= noise.sensitivity(method, norm) * (1 + 1e-12)
        largest = max(largest, change / noise.sensitivity(method, norm))
    assert largest > 0.5, "a bound that is never approached would waste the budget"


@pytest.mark.parametrize("options", [{"rounds": 2, "clip": 2.0}, {**ONE_SHOT, "clip": 1.0}])
def test_with_dp_every_round_is_in_the_ledger_and_the_budget_is_spent(options: dict[str, object]) -> None:
    spec = small.spec(ARM, dp=DP, **options)

    with small.grid(small.hospitals(spec)) as grid:
        done = execute(grid, spec, "hash").result

    guarantee = done.privacy.guarantee
    assert isinstance(guarantee, Guarantee)
    assert guarantee.epsilon == pytest.approx(3.0, rel=0.011)
    assert {ledger["answers"] for ledger in done.privacy.ledgers.values()} == {options["rounds"]}
    assert set(done.privacy.ledgers) == set(small.SITES)
    assert not isinstance(guarantee.epsilon_if_coordinator_and_site_collude, NotMeasured)
    assert guarantee.epsilon_if_coordinator_and_site_collude > 3
    assert done.metrics["utility/auroc"] > 0.6
    assert done.coefficients == {}


def test_the_noise_of_all_hospitals_together_is_that_of_the_mechanism() -> None:
    spec = small.spec(ARM, dp=DP, **ONE_SHOT, clip=1.0)
    plan = noise.mechanism_of(spec)
    residuals = []
    for seed in range(20):
        seeded = replace(spec, seed=seed)
        total = np.zeros(7)
        for site in small.hospitals(spec).values():
            x, y = design(site, seeded)
            noisy = noise.answer(site, seeded, 1, (x, y), np.zeros(x.shape[1]))
            total += noisy.moment - linear_sums(noise.clipped(x, 1.0) * noise.scale_of(spec), y).moment
        residuals.append(total)

    assert np.std(residuals) == pytest.approx(plan.sigma * noise.sensitivity("one_shot", 1.0), rel=0.2)
    assert noise.sd_of_sum(spec) == pytest.approx(plan.sigma * plan.sensitivity)


@pytest.mark.parametrize("options", [{"rounds": 5, "clip": 3.5}, {**ONE_SHOT, "clip": 3.5}])
def test_with_a_huge_budget_probabilities_are_those_without_noise(options: dict[str, object]) -> None:
    """Clipping at more than any row's norm and scaling by a public number change nothing."""
    loose = replace(DP, epsilon=1e7)
    x, _ = pooled(small.spec(ARM))

    noisy, plain = fitted(run(small.spec(ARM, dp=loose, **options))), fitted(run(small.spec(ARM, **options)))

    np.testing.assert_allclose(1 / (1 + np.exp(-x @ noisy)), 1 / (1 + np.exp(-x @ plain)), atol=0.02)


def test_a_round_that_is_asked_again_with_other_weights_is_refused() -> None:
    spec = small.spec(ARM, dp=DP, rounds=1, clip=2.0)
    site = small.hospitals(spec)["east"]
    rows = design(site, spec)
    first = noise.answer(site, spec, 1, rows, np.zeros(7))

    assert np.array_equal(noise.answer(site, spec, 1, rows, np.zeros(7)).gram, first.gram)
    with pytest.raises(Refused, match="already answered"):
        noise.answer(site, spec, 1, rows, np.ones(7))


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e300])
def test_weights_that_only_some_patients_would_show_are_refused_whoever_is_there(value: float) -> None:
    spec = small.spec(ARM, dp=DP, rounds=1, clip=2.0)
    evil = np.zeros(7)
    evil[-1] = value
    said = []
    for missing in (False, True):
        table = small.rows("east")
        table["lactate"] = np.nan if missing else 1.0
        site = small.hospitals(spec, east=table)["east"]
        with pytest.raises(Refused, match="not finite, or beyond") as refused:
            noise.answer(site, spec, 1, design(site, spec), evil)
        said.append(str(refused.value))
        assert not site.ledgers
    assert said[0] == said[1]


def test_each_round_has_noise_of_its_own() -> None:
    """At the same weights two rounds differ by their noise alone."""
    spec = small.spec(ARM, dp=DP, rounds=12, clip=2.0)
    site = small.hospitals(spec)["east"]
    rows, plan = design(site, spec), noise.mechanism_of(spec)
    answers = [noise.answer(site, spec, number, rows, np.zeros(7)) for number in range(1, 13)]
    sums = np.stack([np.concatenate([upper_triangle(a.gram), a.moment]) for a in answers])

    differences = sums[::2] - sums[1::2]
    sd = plan.sigma * plan.sensitivity / 3**0.5 * 2**0.5
    statistic = float(np.sum(differences**2)) / sd**2
    assert chi2.ppf(5e-5, differences.size) < statistic < chi2.ppf(1 - 5e-5, differences.size)


def test_a_total_below_the_hospitals_own_count_is_refused_with_dp() -> None:
    spec = small.spec(ARM, dp=DP, rounds=1, clip=2.0)
    site = small.hospitals(spec)["east"]

    with pytest.raises(Refused, match=r"the run says that 100 patients train in all, and 1\d\d do so here alone"):
        HANDLERS["contribute"](site, Request("contribute", "training", spec, 1, extra={"patients": 100}))
    assert not site.ledgers


def test_a_patient_with_several_rows_is_refused_with_dp() -> None:
    twice = small.rows("east")
    twice["patient"] = [f"p{i // 2}" for i in range(len(twice))]
    spec = small.spec(ARM, dp=DP, rounds=1, clip=2.0)

    with small.grid(small.hospitals(spec, east=twice)) as grid, pytest.raises(SiteFailed, match="east.*several rows"):
        coordinate(grid, spec)


def test_the_noisy_matrix_is_floored() -> None:
    gram = np.array([[1.0, 2.0], [2.0, 1.0]])

    floored = noise.floored(NormalSums(gram, np.zeros(2), 3.0)).gram

    np.testing.assert_allclose(np.linalg.eigvalsh(floored), [0, 3], atol=1e-12)
    np.testing.assert_allclose(floored, floored.T)
