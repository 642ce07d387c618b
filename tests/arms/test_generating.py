"""Rows of a private generator carry the noise that the hospital's ledger says: measured on the rows that leave."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from pettoolkit.arms import generating, registry
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode
from pettoolkit.evaluation.metrics import auroc
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.privacy.events import Mechanism
from pettoolkit.records import DpSpec, RunSpec
from pettoolkit.synthesis.noisy import CLASS_SHARE
from pettoolkit.synthesis.protocol import Generator, one_mechanism, total_rho
from pettoolkit.synthesis.release_filter import Filtered
from tests import small_cohort as small

SEEDS = range(16)
ROWS = 8_000
"""Many more than patients, so that shares of rows are the generator's to two digits."""


def spec(arm: str = "synthetic", seed: int = 0, **options: Any) -> RunSpec:
    return small.spec(arm, seed=seed, dp=DpSpec(5.0), **options)


def rows_and_ledger(site: Site, of: RunSpec) -> tuple[pd.DataFrame, Mechanism]:
    """What leaves, and the one event that was charged for it."""
    envelope = registry.handlers(of.arm)["rows"](site, Request("rows", "training", of))
    ((event,),) = [ledger.events for ledger in site.ledgers.values()]
    return envelope.payload.rows, event.mechanism  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arm", "generator"), [("synthetic", "marginals"), ("synthetic", "dp_vae"), ("augmented", "marginals")]
)
def test_the_fits_own_events_add_up_to_what_the_ledger_was_charged(
    arm: str, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Generator] = []

    def kept(options: Any) -> Generator:
        made.append(whole(options))
        return made[-1]

    whole = generating.generator_of
    monkeypatch.setattr(generating, "generator_of", kept)
    site = small.hospitals()["east"]

    _, charged = rows_and_ledger(site, spec(arm, generator=generator))

    fitted = made[-1]
    assert fitted.events, "the generator that made the rows answered without noise"
    assert one_mechanism(fitted.events) == charged
    assert total_rho(fitted.events) == pytest.approx(1 / (2 * charged.sigma**2))


def noisy_counts(arm: str) -> Iterator[tuple[float, float, float, float]]:
    """Error of the class count and of one histogram, read off the rows, each with the variance it should have."""
    for name in small.SITES:
        site = Site(name, small.rows(name), small.CONTRACT)
        for seed in SEEDS:
            of = spec(arm, seed, rows=ROWS)
            fresh = replace(site, ledgers={})
            drawn, charged = rows_and_ledger(fresh, of)
            real, patients = fresh.table(of, "train"), len(fresh.index(of, "train"))
            rho = 1 / (2 * charged.sigma**2)
            # class counts c0, c1 with their noise: projected on their public sum, the difference stays as it is
            ones = float((drawn["y"] == 1).mean()) * patients
            classes = ones - float((real["y"] == 1).sum())
            sigma = 1 / math.sqrt(2 * rho * CLASS_SHARE)
            # sex has two cells: of the larger class h1 - h0 stays as well
            reference = int(ones < patients / 2) ^ 1
            size = ones if reference else patients - ones
            of_drawn, of_real = (t.loc[t["y"] == reference, "sex"] for t in (drawn, real))
            share = float(of_drawn.mean())
            histogram = (2 * share - 1) * size - float((2 * of_real - 1).sum())
            each = 1 / math.sqrt(2 * rho * (1 - CLASS_SHARE) / 4)
            drawing = (2 * size) ** 2 * share * (1 - share) / len(of_drawn)
            yield classes, (sigma**2 + 1 / 12) / 2, histogram, 2 * (each**2 + 1 / 12) + drawing


@pytest.mark.parametrize("arm", ["synthetic", "augmented"])
def test_released_rows_are_as_noisy_as_the_ledger_says(arm: str) -> None:
    """Two-sided chi-square tests at 1e-4, over three hospitals and 16 seeds."""
    found = np.array(list(noisy_counts(arm)))

    for error, variance in (found[:, :2].T, found[:, 2:].T):
        statistic = float(np.sum(error**2 / variance))
        assert chi2.ppf(5e-5, len(error)) < statistic < chi2.ppf(1 - 5e-5, len(error))


def test_a_filters_utility_is_that_of_models_on_the_hospitals_validation_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against scikit-learn; what the filter leaves has its outcomes turned round, so that the model is spoilt."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    seen: list[pd.DataFrame] = []

    def spoilt(made: pd.DataFrame, real: pd.DataFrame, contract: Contract, mode: str) -> Filtered:
        worse = made.assign(y=1 - made["y"]).astype(made.dtypes)
        seen.extend([made, worse])
        return Filtered(worse, 3, 0, 0.0)

    judged: list[tuple[Any, Any]] = []

    def heard(y: Any, scores: Any) -> float:
        judged.append((y, scores))
        return float(auroc(y, scores))  # type: ignore[arg-type]

    monkeypatch.setattr(generating, "release_filter", spoilt)
    monkeypatch.setattr(generating, "auroc", heard)
    site = small.hospitals()["east"]
    of = small.spec("synthetic", filter="exact")
    figures = registry.handlers("synthetic")["rows"](site, Request("rows", "training", of)).figures

    contract, held_out = site.narrowed(of), site.table(of, "validation")
    found = [figures[f"filter/auroc_{when}"] for when in ("before", "after")]
    for value, (y, scores), rows in zip(found, judged, seen, strict=True):
        np.testing.assert_array_equal(y, held_out["y"])
        assert value == pytest.approx(roc_auc_score(y, scores))
        model = LogisticRegression(max_iter=1000).fit(encode(rows, contract), rows["y"])
        slow = roc_auc_score(y, model.predict_proba(encode(held_out, contract))[:, 1])
        assert value == pytest.approx(slow, abs=0.15)  # the arm's model stops early
    assert found[1] < 0.5 < found[0]
    assert (figures["filter/exact"], figures["filter/close"]) == (3.0, 0.0)
