import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from toy_table import CONTRACT, NAMES, people

from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis import noisy
from pettoolkit.synthesis.cells import cells_of
from pettoolkit.synthesis.marginals import Marginals
from pettoolkit.synthesis.noisy import Query, on_simplex
from pettoolkit.synthesis.protocol import DpBudget
from pettoolkit.synthesis.rows import violations


def budget(rho=0.1, seed=0):
    return DpBudget(rho, np.random.default_rng(seed))


def made(rows, n=None, dp=None, **options):
    generator = Marginals(**options)
    generator.fit(rows, CONTRACT, seed=0, dp=dp)
    return generator.sample(len(rows) if n is None else n, seed=1)


class _Recorder:
    """Stands where noise is added: keeps the exact values and gives the same answers to every table."""

    def __init__(self, monkeypatch):
        self.values: dict[str, list[np.ndarray]] = {}
        recorder = self

        def answer(query, noise):
            recorder.values.setdefault(query.event.query, []).append(query.values)
            # noise depends on the place of the query only, so both tables get the same groups
            return np.abs(np.random.default_rng(len(query.values)).normal(50, 10, query.values.shape))

        monkeypatch.setattr(Query, "answer", answer)

    def read(self, rows):
        self.values.clear()
        Marginals().fit(rows, CONTRACT, seed=0, dp=budget())
        return {name: np.concatenate(parts) for name, parts in self.values.items()}


ADVERSARIAL = {
    "ordinary": {},
    "huge": {"HR": 1e300, "Lactate": np.inf, "Delay": -np.inf},
    "all missing": dict.fromkeys(("HR", "Lactate", "Delay", "Age", "Gender"), np.nan) | {"Ward": None},
    "unknown levels": {"Ward": "west", "Gender": 7.0},
    "a rare class": {"Sepsis": 1},
}


@pytest.mark.parametrize("changed", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_one_patient_changes_each_query_by_its_sensitivity(changed, monkeypatch):
    rows = people(60)
    extra = people(80, seed=9).iloc[[40]].assign(**changed)
    recorder = _Recorder(monkeypatch)

    without, with_one = recorder.read(rows), recorder.read(pd.concat([rows, extra], ignore_index=True))

    events = Marginals().plan(CONTRACT, budget())
    assert list(without) == [e.query for e in events]
    distances = {e.query: np.linalg.norm(with_one[e.query] - without[e.query]) for e in events}
    assert distances == {e.query: e.sensitivity for e in events}
    everything = np.concatenate([with_one[q] - without[q] for q in without])
    assert np.linalg.norm(everything) == pytest.approx(np.sqrt(len(CONTRACT.feature_columns) + 1))


def test_noise_has_the_sd_that_the_events_claim():
    for event in Marginals().plan(CONTRACT, budget(rho=0.01))[:2]:
        drawn = Query(event, np.zeros(100_000)).answer(np.random.default_rng(3))
        # rounding to whole counts adds a twelfth to the variance
        statistic = (drawn**2).sum() / (event.sigma**2 + 1 / 12)
        assert 1e-4 < stats.chi2.cdf(statistic, len(drawn)) < 1 - 1e-4


def test_noise_is_drawn_from_the_generator_it_is_given():
    rows = people(300)
    first, same, other = (made(rows, dp=budget(seed=s)) for s in (5, 5, 6))
    pd.testing.assert_frame_equal(first, same)
    assert not first.equals(other)


def test_without_dp_there_are_no_events_and_no_noise():
    generator = Marginals()
    generator.fit(people(100), CONTRACT, seed=0, dp=None)
    assert generator.events == ()


def test_events_after_fit_are_those_planned():
    generator = Marginals()
    generator.fit(people(100), CONTRACT, seed=0, dp=budget())
    assert generator.events == generator.plan(CONTRACT, budget())


@pytest.mark.parametrize("dp", [None, 0.5, 1e-4])
def test_rows_obey_the_contract(dp):
    rows = made(people(400), n=1000, dp=dp and budget(dp))
    assert list(rows.columns) == NAMES
    assert len(rows) == 1000
    assert rows["Sepsis"].dtype == np.int8
    assert set(violations(rows, CONTRACT).values()) == {0}


def test_same_seed_same_rows_and_another_seed_other_rows():
    generator = Marginals()
    generator.fit(people(200), CONTRACT, seed=0, dp=None)
    pd.testing.assert_frame_equal(generator.sample(50, seed=4), generator.sample(50, seed=4))
    assert not generator.sample(50, seed=4).equals(generator.sample(50, seed=5))


@pytest.mark.parametrize("dp", [None, 1.0])
def test_class_differences_and_missingness_survive(dp):
    real = people(4000)
    rows = made(real, dp=dp and budget(dp))
    for y in (0, 1):
        a, b = real[real.Sepsis == y], rows[rows.Sepsis == y]
        assert b.HR.mean() == pytest.approx(a.HR.mean(), abs=3)
        assert b.Lactate.isna().mean() == pytest.approx(a.Lactate.isna().mean(), abs=0.06)
    assert rows.Sepsis.mean() == pytest.approx(real.Sepsis.mean(), abs=0.01)


def test_the_tree_keeps_a_correlation_that_plain_marginals_lose():
    real = people(4000)
    kept, lost = made(real), made(real, pairs=False)

    def correlation(rows):
        return np.log(rows.Lactate[rows.Sepsis == 0]).corr(rows.HR[rows.Sepsis == 0])

    assert correlation(kept) > 0.5 * correlation(real) > 0.1
    assert abs(correlation(lost)) < 0.1


def test_a_tiny_budget_still_gives_rows():
    rows = made(people(30), dp=budget(1e-8))
    assert len(rows) == 30


@pytest.mark.parametrize("dp", [None, 0.1])
def test_a_class_without_patients_is_no_error(dp):
    rows = made(people(50, positives=0), dp=dp and budget(dp))
    assert len(rows) == 50
    if dp is None:
        assert (rows.Sepsis == 0).all()


@pytest.mark.parametrize("dp", [None, 0.1])
def test_constant_and_all_missing_columns_are_kept(dp):
    real = people(400).assign(HR=80.0, Lactate=np.nan)
    rows = made(real, dp=dp and budget(dp))
    if dp is None:
        assert rows.Lactate.isna().all()
        assert rows.HR.std() < (200 - 30) / 16
    assert rows.Lactate.isna().mean() > 0.8


def test_one_patient_is_enough_without_dp():
    assert len(made(people(1, positives=1), n=7)) == 7


@pytest.mark.parametrize("dp", [None, 1.0])
@pytest.mark.parametrize("features", [0, 1])
def test_outcomes_alone_or_with_one_column_are_enough(features, dp):
    kept = (*CONTRACT.feature_columns[:features], CONTRACT.outcome)
    contract = CONTRACT.model_copy(update={"columns": kept})
    rows = people(200)[[c.name for c in kept]]
    generator = Marginals()
    generator.fit(rows, contract, seed=0, dp=None if dp is None else budget(dp))
    made = generator.sample(50, seed=1)
    assert list(made) == list(rows)
    assert len(made) == 50


def test_no_patient_is_refused():
    with pytest.raises(Refused, match="no training patient"):
        made(people(0))


def test_sampling_before_fitting_is_refused():
    with pytest.raises(Refused, match="before fit"):
        Marginals().sample(3, seed=0)


@pytest.mark.parametrize("options", [{"bins": 1}, {"bins": 1000}, {"smoothing": -1.0}, {"smoothing": np.nan}])
def test_impossible_options_are_refused(options):
    with pytest.raises(BadInput, match="generator marginals"):
        Marginals(**options)


@settings(max_examples=60)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.1, 500))
def test_the_projection_is_the_closest_point_of_the_simplex(values, total):
    found = on_simplex(np.array(values), total)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(total)
    # optimality: what is positive was moved by one amount, what is 0 would have been moved below 0
    moved = np.array(values) - found
    shift = moved[found > 0]
    assert np.ptp(shift) < 1e-6
    assert (moved[found == 0] <= shift[0] + 1e-6).all()


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_groups_are_numbered_without_gaps(spread, seed):
    base = np.random.default_rng(seed).dirichlet(np.full(17, 1 / spread))
    cells = cells_of(CONTRACT, 16)[0]
    groups = noisy.group_cells(cells, base, 5)
    assert sorted(set(groups)) == list(range(groups.max() + 1))
    assert groups.max() <= 5
    assert (groups[-1] == groups).sum() == 1  # "missing" stays alone
    assert (np.diff(groups) >= 0).all()
