import logging
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from toy_table import CONTRACT, NAMES, people

from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.protocol import DpBudget
from pettoolkit.synthesis.rows import violations
from pettoolkit.synthesis.sdv_adapter import Ctgan, GaussianCopula, Tvae, batch_of


def fitted(rows, seed=0):
    generator = GaussianCopula()
    generator.fit(rows, CONTRACT, seed=seed, dp=None)
    return generator


@pytest.fixture(scope="module")
def copula():
    return fitted(people(600))


def test_rows_obey_the_contract(copula):
    rows = copula.sample(1000, seed=1)
    assert list(rows.columns) == NAMES
    assert len(rows) == 1000
    assert rows["Sepsis"].dtype == np.int8
    assert set(violations(rows, CONTRACT).values()) == {0}


def test_class_differences_and_missingness_survive(copula):
    real, rows = people(600), copula.sample(6000, seed=2)
    for y in (0, 1):
        a, b = real[real.Sepsis == y], rows[rows.Sepsis == y]
        assert b.HR.mean() == pytest.approx(a.HR.mean(), abs=3)
        assert b.Lactate.isna().mean() == pytest.approx(a.Lactate.isna().mean(), abs=0.06)
    assert rows.Sepsis.mean() == pytest.approx(0.2, abs=0.001)


def test_correlation_within_a_class_survives(copula):
    real, rows = people(600), copula.sample(6000, seed=3)
    a, b = (np.log(r.Lactate[r.Sepsis == 0]).corr(r.HR[r.Sepsis == 0]) for r in (real, rows))
    assert b > a / 4 > 0.1


def test_the_seeds_fix_everything(copula):
    again = fitted(people(600))
    pd.testing.assert_frame_equal(copula.sample(40, seed=4), again.sample(40, seed=4))
    pd.testing.assert_frame_equal(copula.sample(40, seed=4), copula.sample(40, seed=4))


def test_another_sampling_seed_gives_other_rows(copula):
    assert not copula.sample(40, seed=4).equals(copula.sample(40, seed=5))


def test_global_random_state_warnings_and_logging_are_as_before():
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state(), logging.root.manager.disable)  # noqa: NPY002
    filters = list(warnings.filters)

    fitted(people(40)).sample(5, seed=0)

    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert logging.root.manager.disable == before[2]
    assert warnings.filters == filters


def test_nothing_appears_on_the_screen(capfd, recwarn):
    fitted(people(40)).sample(5, seed=0)
    assert capfd.readouterr() == ("", "")
    assert not [w for w in recwarn if issubclass(w.category, (UserWarning, RuntimeWarning))]


def test_values_beyond_the_bounds_are_clipped_and_counted():
    rows = people(200).assign(HR=np.where(np.arange(200) % 2, 30.0, 200.0))
    generator = fitted(rows)

    drawn = generator.sample(500, seed=0)

    assert generator.counts["clipped"] >= (drawn.HR.isin([30.0, 200.0])).sum() > 0
    assert violations(drawn, CONTRACT)["values out of bounds"] == 0


def test_constant_and_all_missing_columns_are_repeated():
    rows = fitted(people(60).assign(HR=80.0, Lactate=np.nan, Ward=None)).sample(30, seed=0)
    assert rows.HR.to_numpy() == pytest.approx(80.0)
    assert rows.Lactate.isna().all()
    assert rows.Ward.isna().all()


def test_a_hospital_of_identical_patients_needs_no_model():
    rows = pd.concat([people(1, positives=0)] * 20, ignore_index=True)
    assert len(fitted(rows).sample(5, seed=0).drop_duplicates()) == 1


def test_a_tiny_class_borrows_the_hospitals_model_and_says_so():
    generator = fitted(people(60, positives=3))
    assert generator.sample(60, seed=0).Sepsis.sum() == 3
    assert "fewer than 10 patients" in generator.notes[0]


def test_a_class_without_patients_is_not_made_up():
    generator = fitted(people(60, positives=0))
    assert generator.sample(60, seed=0).Sepsis.sum() == 0
    assert generator.notes == ()


def test_a_tiny_hospital_is_refused_with_a_way_out():
    with pytest.raises(Refused, match=r"fewer than 10 training patients .*generator: marginals"):
        fitted(people(9))


def test_differential_privacy_is_refused():
    with pytest.raises(Refused, match="no differential privacy"):
        GaussianCopula().fit(people(60), CONTRACT, seed=0, dp=DpBudget(0.1, np.random.default_rng(0)))


def test_sampling_before_fitting_is_refused():
    with pytest.raises(Refused, match="before fit"):
        GaussianCopula().sample(3, seed=0)


def test_an_unknown_distribution_is_refused():
    with pytest.raises(BadInput, match="distribution must be one of norm, "):
        GaussianCopula("normal")


DEEP = {"ctgan": Ctgan, "tvae": Tvae}


@pytest.mark.parametrize("name", DEEP)
def test_deep_generators_obey_the_contract_and_keep_the_prevalence(name):
    generator = DEEP[name](epochs=1)
    generator.fit(people(60), CONTRACT, seed=0, dp=None)
    rows = generator.sample(200, seed=1)
    assert list(rows.columns) == NAMES
    assert rows.Sepsis.mean() == pytest.approx(0.2, abs=0.001)
    assert set(violations(rows, CONTRACT).values()) == {0}


def test_seeds_fix_deep_generators_quietly(capfd):
    def made(seed):
        generator = Tvae(epochs=2)
        generator.fit(people(60), CONTRACT, seed=seed, dp=None)
        return generator.sample(20, seed=4)

    pd.testing.assert_frame_equal(made(0), made(0))
    assert not made(0).equals(made(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("changed", [{"HR": 80.0, "Lactate": np.nan}, {"Ward": "west"}])
def test_deep_generators_take_odd_columns(name, changed):
    generator = DEEP[name](epochs=1)
    generator.fit(people(40).assign(**changed), CONTRACT, seed=0, dp=None)
    assert len(generator.sample(10, seed=0)) == 10


@pytest.mark.slow
def test_more_epochs_are_more_faithful():
    real = people(600)

    def distance(epochs):
        generator = Tvae(epochs=epochs)
        generator.fit(real, CONTRACT, seed=0, dp=None)
        rows = generator.sample(3000, seed=1)
        return abs(rows.Lactate.isna().mean() - real.Lactate.isna().mean())

    assert distance(60) < distance(1)


@pytest.mark.parametrize("name", DEEP)
def test_no_epoch_is_refused(name):
    with pytest.raises(BadInput, match=f"generator {name}: epochs must be at least 1"):
        DEEP[name](epochs=0)


@pytest.mark.parametrize("rows", [1, 10, 399, 400, 5000, 10**6])
def test_batches_suit_ctgans_packs(rows):
    size = batch_of(rows)
    assert size % 10 == 0
    assert 20 <= size <= 500


def test_smoothing_loosens_the_copula():
    real = people(600)

    def correlation(smoothing):
        generator = GaussianCopula(smoothing=smoothing)
        generator.fit(real, CONTRACT, seed=0, dp=None)
        rows = generator.sample(6000, seed=3)
        septic = rows[rows.Sepsis == 1]
        return np.log(septic.Lactate).corr(septic.HR)

    assert correlation(0.0) > correlation(120.0) + 0.08 > 0.15
    assert abs(correlation(1e9)) < 0.1


@pytest.mark.parametrize("smoothing", [-1.0, np.nan])
def test_negative_smoothing_is_refused(smoothing):
    with pytest.raises(BadInput, match="smoothing must be at least 0"):
        GaussianCopula(smoothing=smoothing)
