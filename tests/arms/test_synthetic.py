"""The synthetic arm: its scopes, what is counted and kept, the release filter, and balance."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pettoolkit.arms.app import coordinate
from pettoolkit.errors import PetError, Refused, SiteFailed
from pettoolkit.hospital.site import Site
from pettoolkit.privacy.statement import COORDINATOR
from pettoolkit.records import DpSpec, Guarantee, Models, NotMeasured, Outcome, RunSpec
from pettoolkit.synthesis.rows import violations
from tests import small_cohort as small

SUM = {"scope": "secure_sum"}


def dp(noise: str = "local", epsilon: float = 3.0) -> DpSpec:
    return DpSpec(epsilon, noise=noise, honest_sites=3 if noise == "shared" else None)


def spec(arm: str = "synthetic", budget: DpSpec | None = None, seed: int = 0, **options: Any) -> RunSpec:
    return small.spec(arm, dp=budget, seed=seed, **options)


def run(of: RunSpec, sites: Mapping[str, Site] | None = None) -> Outcome:
    with small.grid(sites or small.hospitals(of if of.options["scope"] == "secure_sum" else None)) as grid:
        return coordinate(grid, of)


def table(outcome: Outcome) -> pd.DataFrame:
    assert outcome.released_table is not None
    return pd.read_parquet(io.BytesIO(base64.b64decode(outcome.released_table["parquet"])))


# -- one generator on pooled records ---------------------------------------------------------------


def test_one_on_pooled_sends_raw_records_and_says_that_it_takes_trust() -> None:
    outcome = run(spec(scope="one_on_pooled"))
    assert outcome.exposure.kinds_out() == ("metrics", "raw_records")
    assert "the coordinator, fully" in outcome.privacy.trust
    assert "needs trust" in outcome.privacy.trust


def test_one_on_pooled_with_dp_has_one_ledger_over_all_patients() -> None:
    outcome = run(spec(scope="one_on_pooled", budget=dp("central")))
    assert set(outcome.privacy.ledgers) == {COORDINATOR}
    assert isinstance(outcome.privacy.guarantee, Guarantee)
    assert outcome.privacy.guarantee.epsilon == pytest.approx(3.0, abs=0.01)
    assert "holds every record" in outcome.privacy.trust


def test_no_hospital_hands_over_records_for_another_scope() -> None:
    from pettoolkit.arms.synthetic.inside import records
    from pettoolkit.hospital.request import Request

    with pytest.raises(Refused, match="not one whose hospitals hand over raw records"):
        records(small.hospitals()["east"], Request("records", "training", spec(), extra={"part": "train"}))


def test_pooled_rows_with_several_per_patient_are_refused_under_dp() -> None:
    rows = small.rows("north")
    doubled = pd.concat([rows, rows.iloc[:60]], ignore_index=True)
    with pytest.raises(PetError, match=r"north.*several rows"):
        run(spec(scope="one_on_pooled", budget=dp("central")), small.hospitals(north=doubled))


# -- summed counts -----------------------------------------------------------------------------------


def test_without_dp_the_sum_is_the_generator_of_all_patients() -> None:
    """Against the slow, obvious way: the same conversation held with the pooled table."""
    from pettoolkit.arms.synthetic.summed import EXACT
    from pettoolkit.models.seeding import derived_seed
    from pettoolkit.synthesis.marginals import Marginals
    from pettoolkit.synthesis.protocol import DpBudget

    of = spec(**SUM)
    outcome = run(of)
    pooled = pd.concat([site.table(of, "train") for site in small.hospitals().values()], ignore_index=True)
    plain = Marginals()
    budget = DpBudget(EXACT, np.random.default_rng(0), len(pooled))
    plain.fit(pooled, small.CONTRACT.select("compact"), seed=0, dp=budget)
    expected = plain.sample(len(pooled), seed=derived_seed(0, "sample", "summed"))

    pd.testing.assert_frame_equal(table(outcome), expected, check_dtype=False)


def test_only_ciphertexts_and_the_rows_leave() -> None:
    outcome = run(spec(**SUM))
    assert outcome.exposure.kinds_out() == ("ciphertext", "metrics", "synthetic_records")
    assert outcome.exposure.out_of_band == ("keys",)
    assert "all hospitals share one secret key" in outcome.privacy.trust
    sent = {t.site for t in outcome.exposure.traffic if t.kind == "synthetic_records" and t.direction == "out"}
    assert sent == {"east"}  # one hospital draws them


def test_the_noise_is_shared_and_so_is_the_guarantee() -> None:
    outcome = run(spec(budget=dp("shared"), **SUM))
    stated = outcome.privacy.guarantee
    assert isinstance(stated, Guarantee)
    assert stated.epsilon == pytest.approx(3.0, abs=0.01)
    assert set(stated.epsilon_if_sites_collude) == {"1", "2"}
    assert set(outcome.privacy.ledgers) == set(small.SITES)
    assert all(ledger["answers"] == 1 for ledger in outcome.privacy.ledgers.values())


@pytest.mark.parametrize("honest", [2, 3])
def test_the_hospitals_parts_add_up_to_the_noise_that_was_planned(honest: int) -> None:
    """Two-sided chi-square test at 1e-4, over the first two stages and 40 seeds."""
    from scipy.stats import chi2

    from pettoolkit.arms.synthetic import summed
    from pettoolkit.synthesis.conversation import Fitted

    sites = small.hospitals()
    total = sum(len(site.index(spec(), "train")) for site in sites.values())
    statistic, count = 0.0, 0
    for seed in range(40):
        of = spec(budget=replace(dp("shared"), honest_sites=honest), seed=seed, **SUM)
        here = list(sites.values())[:honest]
        stage = summed._replayed(here[0], of, 1, total)
        assert not isinstance(stage, Fitted)
        for site in here:
            noisy = summed.vault.load(summed._own(site, of, 1, total))["values"][: stage[0].size] * total
            exact = np.bincount(site.table(of, "train")["y"], minlength=2)
            site_noise = noisy - exact
            statistic += float((site_noise**2).sum()) / (stage[0].event.sigma ** 2 / honest)
            count += len(exact)
    assert chi2.ppf(5e-5, count) < statistic < chi2.ppf(1 - 5e-5, count)


def test_a_stage_that_comes_again_gets_the_same_counts_and_costs_nothing() -> None:
    from pettoolkit.arms.synthetic import summed
    from pettoolkit.hospital.request import Request

    of = spec(budget=dp("shared"), **SUM)
    site = small.hospitals(of)["east"]
    asked = Request("contribute", "training", of, round=1, extra={"patients": 400})
    summed.contribute(site, asked)
    (ledger,) = site.ledgers.values()
    spent = ledger.epsilon()
    summed.contribute(site, asked)
    assert ledger.epsilon() == spent == pytest.approx(3.0, abs=1e-6)
    with pytest.raises(Refused, match="beyond this run's budget"):
        summed.contribute(site, replace(asked, extra={"patients": 500}))


def test_a_second_model_on_the_same_sums_spends_nothing_more() -> None:
    first = spec(budget=dp("shared"), **SUM)
    sites = small.hospitals(first)
    run(first, sites)
    second = replace(first, model=replace(first.model, name="mlp", hidden=4))
    again = run(second, sites)
    assert [ledger["answers"] for ledger in again.privacy.ledgers.values()] == [1, 1, 1]


def test_hospitals_refuse_a_sum_over_two() -> None:
    of = replace(spec(**SUM), sites=("east", "west"))
    with pytest.raises(SiteFailed, match="a sum over 2 hospitals hides nothing"):
        run(of, small.hospitals(spec(**SUM)))


def test_noise_that_the_encryption_would_cut_off_is_refused_before_anything_is_spent() -> None:
    """Clipped at the range of so few patients, it would protect less than the ledger says."""
    of = spec(budget=dp("shared", epsilon=0.02), **SUM)
    sites = small.hospitals(of)
    with pytest.raises(SiteFailed, match=r"dp\.epsilon: 0\.02 takes noise of SD .* write a larger epsilon"):
        run(of, sites)
    assert not any(site.ledgers for site in sites.values())


def test_fewer_patients_in_all_than_here_are_refused() -> None:
    """Divided by too few, counts and noise would be cut off at the range of the encryption."""
    from pettoolkit.arms.synthetic import summed
    from pettoolkit.hospital.request import Request

    of = spec(budget=dp("shared"), **SUM)
    site = small.hospitals(of)["east"]
    with pytest.raises(Refused, match="the run says that 3 patients train in all"):
        summed.contribute(site, Request("contribute", "training", of, round=1, extra={"patients": 3}))
    assert not site.ledgers


def test_decrypted_counts_carry_no_trace_of_the_encryptions_error() -> None:
    """Every hospital keeps whole numbers, the same as every other, though none of them decrypts exactly."""
    from pettoolkit.arms.synthetic import summed
    from pettoolkit.arms.synthetic.scheme import GRID, scheme_of

    of = spec(budget=dp("shared"), **SUM)
    assert 0 < scheme_of(of, small.CONTRACT.select("compact")).error * 100_000 < GRID / 4
    sites = small.hospitals(of)
    run(of, sites)
    patients = sum(site.training_patients(of)[1] for site in sites.values())
    stored = [site.store.get(summed._label(of, 2, patients)) for site in sites.values()]
    kept = [summed.vault.load(data)["values"] for data in stored if data is not None]
    assert len(kept) == 3
    for values in kept:
        np.testing.assert_array_equal(values, kept[0])
        np.testing.assert_array_equal(values, np.rint(values))


# -- what is counted and kept --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"scope": "one_on_pooled"}, SUM])
def test_the_table_is_kept_as_it_was_handed_over(options: dict[str, Any]) -> None:
    outcome = run(spec(**options))
    kept = table(outcome)
    assert outcome.released_table is not None
    assert outcome.released_table["kind"] == "synthetic_records"
    assert outcome.released_table["rows"] == len(kept) == outcome.figures["synthetic/rows"]
    assert set(violations(kept, small.CONTRACT.select("compact")).values()) == {0}


@pytest.mark.parametrize(("arm", "kind"), [("anonymised", "anonymised_records"), ("augmented", "synthetic_records")])
def test_other_arms_keep_their_tables_too(arm: str, kind: str) -> None:
    with small.grid(small.hospitals()) as grid:
        outcome = coordinate(grid, small.spec(arm))
    assert outcome.released_table is not None
    assert (outcome.released_table["kind"], outcome.released_table["guaranteed"]) == (kind, False)
    assert len(table(outcome)) > 300


def test_broken_rules_are_figures_even_where_there_are_none() -> None:
    figures = run(spec()).figures
    assert figures["synthetic/violations/values_out_of_bounds"] == 0
    assert figures["synthetic/violations_left/unknown_level"] == 0


def test_drawn_rows_that_break_physiology_are_counted_and_said() -> None:
    from pettoolkit.arms.released import figures_of, notes_of

    reported = [{"rows": 10.0, "drawn/DBP above SBP": 3.0, "left/DBP above SBP": 0.0}, {"rows": 5.0, "clipped": 2.0}]
    figures = figures_of(reported)
    assert figures["synthetic/violations/dbp_above_sbp"] == 3
    assert figures["synthetic/violations/clipped"] == 2
    assert notes_of(figures)[1:] == (
        "rules broken by rows as they were drawn: dbp above sbp 3, clipped 2",
        "rules broken by the rows handed over: none",
    )


# -- the release filter ----------------------------------------------------------------------------------


class Parrot:
    """A generator that repeats patients."""

    events: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = {}

    def plan(self, contract: Any, dp: Any) -> tuple[Any, ...]:
        return ()

    def fit(self, rows: pd.DataFrame, contract: Any, *, seed: int, dp: Any) -> None:
        self.rows = rows

    def sample(self, n: int, *, seed: int) -> pd.DataFrame:
        from pettoolkit.synthesis.marginals import Marginals

        half = self.rows.iloc[: n // 2]
        fresh = Marginals()
        fresh.fit(self.rows, small.CONTRACT.select("compact"), seed=0, dp=None)
        return pd.concat([half, fresh.sample(n - n // 2, seed=seed)], ignore_index=True)


def test_repeats_are_held_back_counted_and_their_worth_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.arms import generating

    monkeypatch.setattr(generating, "generator_of", lambda _: Parrot())
    open_, filtered = run(spec()), run(spec(filter="exact"))

    held = filtered.figures["synthetic/filter/exact"]
    assert held >= len(table(open_)) // 2 - 3
    assert len(table(filtered)) == len(table(open_)) - held
    for when in ("before", "after"):
        assert 0.5 < filtered.figures[f"synthetic/filter/auroc_{when}"] < 1
    assert any("held back" in note and "before" in note for note in filtered.notes)


def test_a_filter_that_leaves_nothing_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.arms import generating

    monkeypatch.setattr(Parrot, "sample", lambda self, n, *, seed: self.rows.iloc[:n])
    monkeypatch.setattr(generating, "generator_of", lambda _: Parrot())
    with pytest.raises(SiteFailed, match="holds back every synthetic row"):
        run(spec(filter="exact"))


def test_a_hospital_refuses_a_filter_under_dp_whatever_was_asked() -> None:
    with pytest.raises(SiteFailed, match="reads real rows, which no epsilon covers"):
        run(spec(budget=dp(), filter="exact"))


# -- balance -----------------------------------------------------------------------------------------------


def predicted(outcome: Outcome) -> float:
    """Mean predicted probability on the hospitals' test patients."""
    from pettoolkit.arms.common import predictor_of

    of = spec()
    model = outcome.models.by_site[Models.SHARED].unpack()
    sites = small.hospitals().values()
    scores = [predictor_of(of, site.narrowed(of)).scores(model, site.part(of, "test").x) for site in sites]
    return float(np.concatenate(scores).mean())


def test_added_rows_of_a_class_do_not_make_it_look_common() -> None:
    few = {name: small.rows(name, 600) for name in small.SITES}
    for rows in few.values():  # make the outcome rare
        drop = rows.index[(rows["y"] == 1)][::2]
        rows.drop(index=drop, inplace=True)
        rows.reset_index(drop=True, inplace=True)
    plain, balanced = (
        run(spec(**options), small.hospitals(**few)) for options in ({}, {"balance": {"column": "y", "to": 0.6}})
    )
    assert table(balanced)["y"].mean() == pytest.approx(0.6, abs=0.01)
    assert balanced.figures["synthetic/balance_added"] > 100
    assert predicted(balanced) == pytest.approx(predicted(plain), abs=0.06)


@pytest.mark.parametrize("model", ["logistic", "mlp", "gradient_boosting"])
def test_log_odds_are_shifted_in_models_and_in_all_candidates(model: str) -> None:
    import torch

    from pettoolkit.arms.central import shifted
    from pettoolkit.arms.common import predictor_of
    from pettoolkit.models.predictor import TrainingSettings

    of = small.spec("pooled", model=model)
    site = small.hospitals()["east"]
    rows, trainer = site.part(of, "train"), predictor_of(of, site.narrowed(of))
    candidates = trainer.fit(rows, TrainingSettings(epochs=4), 0)
    for index in (0, 2):
        before = trainer.scores(trainer.pick(candidates, index), rows.x)
        after = trainer.scores(trainer.pick(shifted(candidates, 0.7), index), rows.x)
        torch.testing.assert_close(
            torch.logit(torch.from_numpy(after)) - 0.7, torch.logit(torch.from_numpy(before)), atol=1e-3, rtol=1e-3
        )


def test_nothing_is_shifted_where_nothing_was_added() -> None:
    from pettoolkit.arms.central import offset_of, shifted

    rows = small.hospitals()["east"].part(spec(), "train")
    assert offset_of(rows, 0, 0) == 0.0
    arrays = {"layer0.bias": np.ones(1, np.float32)}
    assert shifted(arrays, 0.0) == arrays
    assert offset_of(rows, 0, float(rows.y.sum())) == 0.0  # no positive would be left: nothing can be put back


# -- odd hospitals ---------------------------------------------------------------------------------------


CASES = [(g, scope) for g in ("marginals", "gaussian_copula", "dp_vae") for scope in ("per_hospital", "one_on_pooled")]


@pytest.mark.parametrize("what", ["constant", "missing", "one class", "one level"])
@pytest.mark.parametrize(("generator", "scope"), [*CASES, ("marginals", "secure_sum")])
def test_an_odd_table_breaks_no_generator(generator: str, scope: str, what: str) -> None:
    west = small.rows("west")
    column, value = {"constant": ("pulse", 80.0), "missing": ("lactate", np.nan), "one level": ("sex", 1.0)}.get(
        what, ("y", np.int8(0))
    )
    west[column] = value
    noise = {"per_hospital": "local", "one_on_pooled": "central", "secure_sum": "shared"}[scope]
    of = spec(generator=generator, scope=scope, budget=dp(noise) if generator == "dp_vae" else None)
    sites = small.hospitals(of if scope == "secure_sum" else None, west=west)
    assert len(table(run(of, sites))) > 300


@pytest.mark.parametrize("scope", ["per_hospital", "secure_sum"])
def test_one_patient_per_hospital_is_enough_for_marginals(scope: str) -> None:
    of = replace(spec(scope=scope), patients_per_site=1)
    assert len(table(run(of))) == 3


def test_one_patient_is_named_where_a_generator_needs_more() -> None:
    of = replace(spec(generator="gaussian_copula"), patients_per_site=1)
    with pytest.raises(SiteFailed, match="east.*fewer than 10 training patients"):
        run(of)


def test_the_guarantee_is_not_measured_without_dp() -> None:
    assert isinstance(run(spec()).privacy.guarantee, NotMeasured)
