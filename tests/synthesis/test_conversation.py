import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from toy_table import CONTRACT, people

from pettoolkit.privacy.accounting import compose
from pettoolkit.synthesis import conversation as talks
from pettoolkit.synthesis.cells import cells_of
from pettoolkit.synthesis.conversation import SCREENING, TABLES, Fitted, answered, conversation, longest
from pettoolkit.synthesis.marginals import PAIRS_FROM, Marginals, codes_of
from pettoolkit.synthesis.noisy import Query
from pettoolkit.synthesis.protocol import DpBudget, total_rho
from pettoolkit.synthesis.rows import classes

CELLS = cells_of(CONTRACT, 16)
MANY = 10**7
"""Patients for whom pairs are worth it at any budget."""


def plan(rho=0.5, patients=MANY):
    return Marginals().plan(CONTRACT, DpBudget(rho, np.random.default_rng(0), patients))


def stages(rows, events, noise=0.0):
    """All stages with exact answers (plus fixed noise), as (questions, exact answers)."""
    codes, label = codes_of(CELLS, rows), classes(rows, CONTRACT)
    rng = np.random.default_rng(7)
    talk = conversation(CELLS, 2, len(rows), events)
    stage, out = next(talk), []
    while True:
        exact = [q.exact(codes, label) for q in stage]
        out.append((stage, exact))
        try:
            stage = talk.send([np.rint(e + noise * rng.standard_normal(e.shape)) for e in exact])
        except StopIteration as end:
            return out, end.value


def test_pairs_are_planned_by_public_numbers_alone_and_cost_what_they_say():
    few, many = plan(0.5, 100), plan(0.5)
    assert {SCREENING, TABLES} <= {e.query for e in many}
    assert not {SCREENING, TABLES} & {e.query for e in few}
    for events in (few, many):
        assert total_rho(events) == pytest.approx(0.5)
        assert compose([e.mechanism() for e in events], 1e-5) == pytest.approx(
            compose([e.mechanism() for e in plan()], 1e-5)
        )


def test_the_threshold_is_patients_times_mu():
    just = int(PAIRS_FROM) + 1  # mu = 1 at rho .5
    assert any(e.query == SCREENING for e in plan(0.5, just))
    assert not any(e.query == SCREENING for e in plan(0.5, just - 2))
    assert not any(e.query == SCREENING for e in plan(0.5, None))


def test_one_patient_changes_each_pair_question_by_its_sensitivity():
    rows = people(3000)
    extra = people(80, seed=9).iloc[[40]]
    events = plan()
    played: list[list[np.ndarray]] = []

    def ask(table, answers=None):
        """Questions' exact answers on a table; both tables are told the same, so that both are asked the same."""
        codes, label = codes_of(CELLS, table), classes(table, CONTRACT)
        talk = conversation(CELLS, 2, 3000, events)
        stage, out = next(talk), []
        while True:
            out.append([(q.event, q.exact(codes, label)) for q in stage])
            if answers is None:
                played.append([exact for _, exact in out[-1]])
            try:
                stage = talk.send(played[len(out) - 1])
            except StopIteration:
                return out

    without = ask(rows)
    with_one = ask(pd.concat([rows, extra], ignore_index=True), played)
    assert [len(s) for s in without] == [len(s) for s in with_one]
    everything = 0.0
    for a, b in zip(without, with_one, strict=True):
        for (event, x), (_, y) in zip(a, b, strict=True):
            distance = float(np.linalg.norm(y - x))
            assert distance <= event.sensitivity + 1e-9
            everything += distance**2 * event.rho / event.sensitivity**2
    assert len(without) == 5
    # what the patient changes, in rho, is what the plan spends (tables of chosen pairs share their part)
    assert everything == pytest.approx(total_rho(events))


def losses(truth, without, with_one, events, runs, loud=1.0):
    """Log likelihood ratio of all answers about ``truth``: how much more they look like a table with one patient more.

    ``loud`` multiplies the noise that is really drawn.
    """
    rng, out = np.random.default_rng(11), []
    coded = [(codes_of(CELLS, t), classes(t, CONTRACT)) for t in (truth, without, with_one)]
    for _ in range(runs):
        talk = conversation(CELLS, 2, 3000, events)
        stage, ratio = next(talk), 0.0
        while True:
            exact = [[q.exact(*c) for q in stage] for c in coded]
            noisy = [Query(q.event, e).answer(rng) for q, e in zip(stage, exact[0], strict=True)]
            noisy = [e + loud * (a - e) for a, e in zip(noisy, exact[0], strict=True)]
            for q, a, e0, e1 in zip(stage, noisy, exact[1], exact[2], strict=True):
                ratio += (np.sum((a - e0) ** 2) - np.sum((a - e1) ** 2)) / (2 * q.event.sigma**2)
            try:
                stage = talk.send(noisy)
            except StopIteration:
                break
        out.append(ratio)
    return np.array(out)


@pytest.mark.parametrize("loud", [1.0, 0.5])
@pytest.mark.parametrize("septic", [0, 1])
def test_the_best_attack_on_all_answers_tells_a_patient_apart_as_well_as_mu_says_and_no_better(septic, loud):
    """The likelihood ratio is the best test there is (Neyman and Pearson), and mu its power (Dong et al. 2022).

    300 runs a side: the estimate's SD is sqrt(2 / 300 + mu^2 / 1200) = .087, and 4 of them a false alarm of 6e-5.
    """
    rows, mu = people(600), 1.0
    with_one = pd.concat([rows, people(80, seed=9).iloc[[40]].assign(Sepsis=septic)], ignore_index=True)
    events = plan(mu**2 / 2)

    absent = losses(rows, rows, with_one, events, 300, loud)
    present = losses(with_one, rows, with_one, events, 300, loud)

    spread = np.sqrt((absent.var(ddof=1) + present.var(ddof=1)) / 2)
    seen = (present.mean() - absent.mean()) / spread
    assert abs(seen - mu / loud) < 4 * 0.087 / loud
    if loud == 1.0:  # the guarantee itself, at three false-positive rates; .12 is 4 SD of a share of 300, twice
        for rate in (0.05, 0.1, 0.25):
            hit = np.mean(present > np.quantile(absent, 1 - rate))
            assert hit < stats.norm.cdf(mu - stats.norm.isf(rate)) + 0.12
    else:
        assert seen > mu + 0.5


def test_with_pairs_correlations_survive_that_plain_histograms_lose():
    real = people(6000)

    def made(patients):
        generator = Marginals()
        generator.fit(real, CONTRACT, seed=0, dp=DpBudget(0.5, np.random.default_rng(3), patients))
        return generator.sample(6000, seed=1)

    def correlation(rows):
        calm = rows[rows.Sepsis == 0]
        return np.log(calm.Lactate).corr(calm.HR)

    assert correlation(made(6000)) > 0.3 * correlation(real) > 0.1
    assert abs(correlation(made(None))) < 0.1


def test_pairs_that_do_not_hang_together_are_left_out():
    rng = np.random.default_rng(0)
    rows = people(4000)
    for name in ("HR", "Lactate", "Delay", "Age", "Gender", "Ward"):
        rows[name] = rng.permutation(rows[name].to_numpy())
    _, fitted = stages(rows, plan(0.5), noise=2.0)
    assert isinstance(fitted, Fitted)
    parents = [node.parent for node in fitted.trees[0].nodes]
    # Gender is asked class by class, and classes are shuffled too; six columns, hardly any link by chance
    assert sum(p is not None for p in parents) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(30, 400))
def test_no_stage_is_longer_than_the_public_bound(seed, n):
    rows = people(n, seed=seed)
    found, _ = stages(rows, plan(), noise=3.0)
    assert max(sum(q.size for q in stage) for stage, _ in found) <= longest(CELLS, 2)


def test_answers_decide_alone_what_is_built():
    """Two tables with the same noisy answers give the same generator."""
    rows = people(500)
    codes, label = codes_of(CELLS, rows), classes(rows, CONTRACT)
    first, second = (
        answered(conversation(CELLS, 2, 500, plan()), codes, label, np.random.default_rng(4)) for _ in "ab"
    )
    np.testing.assert_array_equal(first.shares, second.shares)
    for y in first.trees:
        for a, b in zip(first.trees[y].nodes, second.trees[y].nodes, strict=True):
            np.testing.assert_array_equal(a.cumulative, b.cumulative)


def test_a_contract_with_one_column_asks_for_no_pairs():
    one = CONTRACT.model_copy(
        update={"columns": tuple(c for c in CONTRACT.columns if c.role != "feature" or c.name == "HR")}
    )
    events = Marginals().plan(one, DpBudget(0.5, np.random.default_rng(0), MANY))
    assert [e.query for e in events] == [talks.COUNTS, "histogram of HR by class"]
