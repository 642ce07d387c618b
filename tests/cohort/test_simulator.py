"""The simulated hospitals: like the published figures, learnable, different from each other, and repeatable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.features import encode, feature_names, outcome
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.marginals import GRID, Base, correlate, figures, quantile_tables, score_correlation
from pettoolkit.cohort.simulator import (
    Mixup,
    Outlier,
    SiteProfile,
    Units,
    _remember,
    load_profiles,
    simulate_hours,
    simulated_sites,
)
from pettoolkit.errors import BadInput

SITES = Path(__file__).parents[2] / "sites"
BASES: tuple[Base, ...] = ("A", "B")
COMPACT = row_contract(builtin_contract()).select("compact")
SPOILT = {"A": set[str](), "B": {"FiO2"}}  # B's published SD of FiO2 (30) is that of a few values up to 4000


def profile(base: Base = "A", **changes: Any) -> SiteProfile:
    given_: dict[str, Any] = {"name": "neutral", "number": 9, "base": base, "stays": 4000}
    return SiteProfile(**(given_ | {"prevalence": figures(base).prevalence} | changes))


@pytest.fixture(scope="module")
def neutral() -> dict[str, pd.DataFrame]:
    """Hourly rows of a hospital that is as A, and of one that is as B (whose calcium is a fifth in mmol/L)."""
    calcium = Mixup(column="Calcium", share=0.19, factor=0.2495)
    return {"A": simulate_hours(profile("A"), 0), "B": simulate_hours(profile("B", mixups=(calcium,)), 0)}


def common(hours: pd.DataFrame, base: Base) -> list[tuple[int, str]]:
    """Variables measured often enough (500 values) for moments with heavy tails."""
    names = figures(base).variables
    return [(i, v) for i, v in enumerate(names) if hours[v].count() >= 500 and v not in SPOILT[base]]


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_means_are_within_a_fifth_of_the_published_sd(neutral: dict[str, pd.DataFrame], base: Base) -> None:
    published, hours = figures(base), neutral[base]
    off = {v: (hours[v].mean() - published.mean[i]) / published.sd[i] for i, v in common(hours, base)}
    assert len(off) >= 30
    assert {v: d for v, d in off.items() if abs(d) > 0.2} == {}


@pytest.mark.parametrize("base", BASES)
def test_standard_deviations_are_within_a_quarter_of_the_published_ones(
    neutral: dict[str, pd.DataFrame], base: Base
) -> None:
    published, hours = figures(base), neutral[base]
    ratio = {v: hours[v].std() / published.sd[i] for i, v in common(hours, base)}
    assert {v: r for v, r in ratio.items() if not 0.75 < r < 1.25} == {}


@pytest.mark.parametrize("base", BASES)
def test_missing_hours_are_within_two_hundredths_of_the_published_share(
    neutral: dict[str, pd.DataFrame], base: Base
) -> None:
    published, hours = figures(base), neutral[base]
    off = {v: hours[v].isna().mean() - published.row_missing[i] for i, v in enumerate(published.variables)}
    assert {v: d for v, d in off.items() if abs(d) > 0.02} == {}


@pytest.mark.parametrize("base", BASES)
def test_patients_never_measured_are_within_three_hundredths(neutral: dict[str, pd.DataFrame], base: Base) -> None:
    published, hours = figures(base), neutral[base]
    never = hours.groupby("patient_id")[list(published.variables)].count().eq(0).mean()
    off = {v: never[v] - published.never_measured[i] for i, v in enumerate(published.variables)}
    assert {v: d for v, d in off.items() if abs(d) > 0.03} == {}


@pytest.mark.parametrize("base", BASES)
def test_more_is_missing_at_the_landmark_than_over_the_whole_stay(neutral: dict[str, pd.DataFrame], base: Base) -> None:
    published, rows = figures(base), landmark_rows(neutral[base], builtin_contract())
    later = {
        v: rows[v].isna().mean() - published.never_measured[published.index(v)]
        for v in ("BUN", "WBC", "Calcium", "AST", "pH")
    }
    assert {v: d for v, d in later.items() if not 0.01 < d < 0.35} == {}


@pytest.mark.parametrize("base", BASES)
def test_main_correlations_are_near_the_published_ones(neutral: dict[str, pd.DataFrame], base: Base) -> None:
    published = figures(base)
    last = neutral[base].groupby("patient_id")[list(published.variables)].last()
    found = last.corr("spearman").to_numpy()
    often = published.never_measured < 0.7
    main = np.triu(np.abs(published.spearman) > 0.3, 1) & np.outer(often, often)
    off = np.abs(found - published.spearman)[main]
    assert main.sum() >= 8
    assert off.mean() < 0.08
    assert off.max() < 0.2


@pytest.mark.parametrize("base", BASES)
def test_prevalence_and_length_of_stay_are_near_the_published_ones(
    neutral: dict[str, pd.DataFrame], base: Base
) -> None:
    hours, published = neutral[base], figures(base)
    assert hours.groupby("patient_id").SepsisLabel.max().mean() == pytest.approx(published.prevalence, abs=0.015)
    assert hours.ICULOS.mean() == pytest.approx(published.iculos[0], rel=0.2)
    assert hours.ICULOS.median() == pytest.approx(published.iculos[4], abs=2)


@pytest.mark.parametrize("base", BASES)
def test_quantile_tables_meet_the_published_percentiles(base: Base) -> None:
    published, tables = figures(base), quantile_tables(base)
    assert (np.diff(tables, axis=1) >= 0).all()
    for i, name in enumerate(published.variables):
        if np.isnan(published.mean[i]) or name in ("Gender", "Age", "HospAdmTime", "FiO2", "Calcium"):
            continue  # limits of the variable, or units mixed at B
        at = np.interp([-2.3263, -0.6745, 0.0, 0.6745, 2.3263], GRID, tables[i])
        assert np.abs(at - published.percentiles[i]).max() < 0.2 * published.sd[i], name  # the grid rounds a kink off


@pytest.mark.parametrize("base", BASES)
def test_correlations_of_scores_form_a_correlation_matrix(base: Base) -> None:
    r = score_correlation(base)
    assert np.allclose(np.diag(r), 1)
    assert np.linalg.eigvalsh(r).min() > 0


@pytest.mark.parametrize("base", BASES)
def test_correlating_column_by_column_equals_the_matrix_product(base: Base) -> None:
    independent = np.random.default_rng(0).standard_normal((200, len(figures(base).variables)))
    expected = independent @ np.linalg.cholesky(score_correlation(base)).T
    assert np.allclose(correlate(independent, base), expected, atol=1e-4)


# --- what models make of it ------------------------------------------------------------------------------------------


class Scores:
    """AUROC per site, mean over splits: boosted trees and logistic regression, pooled and without the site."""

    def __init__(self, rows: dict[str, pd.DataFrame]) -> None:
        table = pd.concat(rows.values())
        self.site = np.repeat(list(rows), [len(r) for r in rows.values()])
        self.names = list(rows)
        self.x, self.y = encode(table, COMPACT), outcome(table, COMPACT)
        self.values = sum(not n.endswith("?") for n in feature_names(COMPACT))
        runs = [self._run(seed) for seed in range(3)]
        self.auroc = {k: np.mean([r[k] for r in runs], axis=0) for k in runs[0]}

    def _run(self, seed: int) -> dict[str, npt.NDArray[np.float64]]:
        from sklearn.model_selection import train_test_split

        stratum = np.char.add(self.site.astype(str), self.y.astype(str))
        train, test = train_test_split(np.arange(len(self.y)), test_size=0.35, stratify=stratum, random_state=seed)
        few = slice(None, self.values)
        out = {k: self._scored(k, train, test, slice(None)) for k in ("trees", "logistic")}
        out["logistic_values"] = self._scored("logistic", train, test, few)
        unseen = [self._scored("trees", train[self.site[train] != s], test, slice(None)) for s in self.names]
        out["trees_unseen"] = np.diag(np.array(unseen))
        return out

    def _scored(
        self, kind: str, train: npt.NDArray[np.int_], test: npt.NDArray[np.int_], columns: slice
    ) -> npt.NDArray[np.float64]:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

        trees = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=30, random_state=0
        )
        model = trees if kind == "trees" else LogisticRegression(C=0.3, max_iter=400)
        p = model.fit(self.x[train, columns], self.y[train]).predict_proba(self.x[test, columns])[:, 1]
        here = [self.site[test] == s for s in self.names]
        return np.array([roc_auc_score(self.y[test][h], p[h]) for h in here])


@pytest.fixture(scope="module")
def site_rows() -> dict[str, pd.DataFrame]:
    """Landmark rows of the five hospitals in sites/."""
    return {name: landmark_rows(hours, builtin_contract()) for name, hours in simulated_sites(SITES).items()}


@pytest.fixture(scope="module")
def scores(site_rows: dict[str, pd.DataFrame]) -> dict[str, npt.NDArray[np.float64]]:
    return Scores(site_rows).auroc


def test_boosted_trees_reach_what_they_reach_on_real_data(scores: dict[str, npt.NDArray[np.float64]]) -> None:
    assert 0.68 < scores["trees"].mean() < 0.80
    assert ((scores["trees"] > 0.60) & (scores["trees"] < 0.84)).all()


def test_an_unseen_hospital_costs_between_three_and_twelve_hundredths(
    scores: dict[str, npt.NDArray[np.float64]],
) -> None:
    assert 0.03 < (scores["trees"] - scores["trees_unseen"]).mean() < 0.12


def test_logistic_regression_is_useful_but_behind_the_trees(scores: dict[str, npt.NDArray[np.float64]]) -> None:
    assert 0.64 < scores["logistic"].mean() < 0.74
    assert scores["trees"].mean() > scores["logistic"].mean() + 0.01


def test_what_was_measured_says_more_than_the_values_alone(scores: dict[str, npt.NDArray[np.float64]]) -> None:
    assert scores["logistic"].mean() > scores["logistic_values"].mean() + 0.015


def test_prevalence_at_the_landmark_is_two_to_ten_percent_everywhere(site_rows: dict[str, pd.DataFrame]) -> None:
    prevalence = {name: rows.SepsisLabel.mean() for name, rows in site_rows.items()}
    assert len(prevalence) == 5
    assert all(0.02 <= p <= 0.10 for p in prevalence.values()), prevalence


# --- the form of the rows --------------------------------------------------------------------------------------------


def test_columns_are_those_of_the_contract(neutral: dict[str, pd.DataFrame]) -> None:
    assert list(neutral["A"].columns) == [c.name for c in builtin_contract().columns]


def test_a_septic_stay_ends_soon_after_its_label_turns_positive(neutral: dict[str, pd.DataFrame]) -> None:
    stays = neutral["A"].groupby("patient_id")
    assert (stays.SepsisLabel.diff().dropna() >= 0).all()  # once positive, it stays so
    positive = stays.SepsisLabel.sum()
    assert positive[positive > 0].between(8, 10).all()


def test_hours_count_from_one_without_a_gap(neutral: dict[str, pd.DataFrame]) -> None:
    hours = neutral["B"]
    assert hours.ICULOS.eq(hours.groupby("patient_id").cumcount() + 1).all()


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    one, again, other = (simulate_hours(profile(), seed, 50) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_hospitals_share_no_patient_and_no_random_numbers() -> None:
    hours = simulated_sites(SITES, stays=30)
    ids = [set(h.patient_id) for h in hours.values()]
    assert len(set.union(*ids)) == 30 * len(ids)
    assert not np.array_equal(hours["ashford"].HR.to_numpy()[:100], hours["elmhurst"].HR.to_numpy()[:100])


@settings(max_examples=20, deadline=None)
@given(
    stays=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    base=st.sampled_from(BASES),
    prevalence=st.sampled_from([0.0, 0.05, 0.5]),
    habit=st.floats(-3, 3),
    factor=st.sampled_from([0.0, 0.2, 100.0]),
)
def test_any_profile_gives_whole_stays(
    stays: int, seed: int, base: Base, prevalence: float, habit: float, factor: float
) -> None:
    panels = {"lactate": factor, "end_tidal_co2": factor, "diastolic": factor}
    hours = simulate_hours(profile(base, prevalence=prevalence, habit=habit, panels=panels), seed, stays)
    assert hours.patient_id.nunique() == stays
    assert hours.groupby("patient_id").size().min() >= 8
    assert not hours[["Age", "Gender", "HospAdmTime"]].isna().any(axis=None)
    assert hours.Age.between(18, 100).all()


def test_noise_with_a_memory_equals_the_plain_recursion() -> None:
    hours = np.array([3, 1, 5])
    starts = np.cumsum(hours) - hours
    noise = np.random.default_rng(0).standard_normal((9, 2)).astype(np.float32)
    expected = noise.copy()
    for start, length in zip(starts, hours, strict=True):
        for row in range(start + 1, start + length):
            expected[row] = np.float32(0.8) * expected[row - 1] + np.float32(0.6) * noise[row]
    _remember(noise, starts, hours)
    assert np.allclose(noise, expected, atol=1e-6)


# --- how hospitals differ --------------------------------------------------------------------------------------------


def test_a_mixup_writes_a_share_of_the_values_in_another_unit() -> None:
    mixup = Mixup(column="Temp", share=0.25, factor=1.8, offset=32)
    temperature = simulate_hours(profile(mixups=(mixup,)), 0, 500).Temp.dropna()
    assert (temperature > 60).mean() == pytest.approx(0.25, abs=0.02)


def test_outliers_fall_between_their_limits_and_leave_gaps_alone() -> None:
    plain = simulate_hours(profile(), 0, 300).HR
    spoilt = simulate_hours(profile(outliers=(Outlier(column="HR", share=0.1, low=0, high=5),)), 0, 300).HR
    assert (spoilt.isna() == plain.isna()).all()
    changed = (spoilt != plain) & plain.notna()
    assert changed.sum() / plain.notna().sum() == pytest.approx(0.1, abs=0.02)
    assert spoilt[changed].between(0, 5).all()


def test_shifts_move_pressures_and_nothing_else() -> None:
    plain, shifted = simulate_hours(profile(), 0, 100), simulate_hours(profile(shifts={"SBP": 8}), 0, 100)
    assert (shifted.SBP - plain.SBP).dropna().to_numpy() == pytest.approx(8, abs=1e-3)
    pd.testing.assert_frame_equal(shifted.drop(columns="SBP"), plain.drop(columns="SBP"))


def test_a_hospital_can_lack_a_panel_and_have_one_that_its_base_lacks() -> None:
    hours = simulate_hours(profile("A", panels={"liver": 0, "saturation": 0, "end_tidal_co2": 1}), 0, 500)
    assert hours[["AST", "Bilirubin_total", "Bilirubin_direct", "O2Sat"]].isna().all(axis=None)
    measured = hours.groupby("patient_id").EtCO2.count().gt(0).mean()
    assert measured == pytest.approx(1 - figures("B").never_measured[figures("B").index("EtCO2")], abs=0.05)


@pytest.mark.parametrize(("habit", "sign"), [(1.0, 1), (-1.0, -1)])
def test_habit_decides_what_it_says_that_lactate_was_measured(habit: float, sign: int) -> None:
    stays = simulate_hours(profile(habit=habit, prevalence=0.3, effects={"severity": 0}), 0).groupby("patient_id")
    septic, measured = stays.SepsisLabel.max() == 1, stays.Lactate.count() > 0
    assert sign * (measured[septic].mean() - measured[~septic].mean()) > 0.1


def test_units_have_their_shares() -> None:
    first = simulate_hours(profile(units=Units(medical=0.2, surgical=0.5)), 0, 2000).groupby("patient_id").first()
    assert (first.Unit1 == 1).mean() == pytest.approx(0.2, abs=0.04)
    assert (first.Unit2 == 1).mean() == pytest.approx(0.5, abs=0.04)
    assert (first.Unit1.isna() == first.Unit2.isna()).all()


# --- profiles --------------------------------------------------------------------------------------------------------


def test_the_five_hospitals_have_ten_thousand_stays_of_different_sizes() -> None:
    profiles = load_profiles(SITES)
    assert [p.name for p in profiles] == ["ashford", "brookvale", "calder", "dunmore", "elmhurst"]
    assert sum(p.stays for p in profiles) == 10_000
    assert len({p.stays for p in profiles}) == 5


def write(folder: Path, file: str, **changes: object) -> None:
    fields = {"name": file, "number": 1, "base": "A", "stays": 10, "prevalence": 0.05} | changes
    (folder / f"{file}.yaml").write_text("".join(f"{k}: {v}\n" for k, v in fields.items()), encoding="utf-8")


def test_all_findings_of_all_profiles_are_reported_with_their_lines(tmp_path: Path) -> None:
    write(tmp_path, "one", base="C", prevalance=0.1)
    write(tmp_path, "two", shifts="{BloodPressure: 5}", stays=-3)
    with pytest.raises(BadInput) as caught:
        load_profiles(tmp_path)
    text = str(caught.value)
    assert f"{tmp_path / 'one.yaml'}:3: base" in text
    assert f"{tmp_path / 'one.yaml'}:6: prevalance" in text
    assert "did you mean prevalence" in text
    assert f"{tmp_path / 'two.yaml'}:4: stays" in text


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", shifts="{BloodPressure: 5}")
    with pytest.raises(BadInput, match=r"BloodPressure"):
        load_profiles(tmp_path)


@pytest.mark.parametrize("field", ["name", "number"])
def test_two_hospitals_with_the_same_name_or_number_are_refused(tmp_path: Path, field: str) -> None:
    write(tmp_path, "one", name="one", number=1)
    write(tmp_path, "two", **({"name": "one", "number": 2} if field == "name" else {"name": "two", "number": 1}))
    with pytest.raises(BadInput, match=rf"two\.yaml: {field}: .* is already the {field} of one\.yaml"):
        load_profiles(tmp_path)


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        load_profiles(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"no \*\.yaml"):
        load_profiles(tmp_path)


@pytest.mark.parametrize(("seed", "stays"), [(0, 0), (0, 1_000_001), (-1, 10)])
def test_an_impossible_size_or_seed_is_refused(seed: int, stays: int) -> None:
    with pytest.raises(BadInput, match="hospital neutral"):
        simulate_hours(profile(), seed, stays)


def test_the_figures_are_aggregates_with_their_licence() -> None:
    from importlib.resources import files

    text = files("pettoolkit.cohort").joinpath("calibration/physionet2019.json").read_text("utf-8")
    assert "CC BY 4.0" in text
    assert "Reyna" in text
    assert len(text) < 20_000  # two hospitals' tables of figures; there is no room for patients
