"""The sentence that treats `local` fairly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pettoolkit.evaluation.predictions import SitePredictions, to_bytes
from pettoolkit.experiment.alone import alone_or_together
from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import (
    Cost,
    DpSpec,
    Exposure,
    ModelSpec,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    RunSpec,
)

SITES = {"big": 900, "middle": 500, "small": 200, "tiny": 60}
PRIVACY = PrivacyStatement(NotMeasured("none"), "all", "all", "yes")


class Files(dict):
    """Predictions by run id."""

    def cell(self, arm: str, separation: dict[str, float], seed: int = 0, **changed) -> CellReport:
        """A finished cell whose scores separate the outcomes by so much at each hospital."""
        spec = replace(RunSpec("t", arm, {}, ModelSpec("logistic"), "compact", seed, tuple(SITES)), **changed)
        run = f"{arm} {len(self)}"
        self[run] = to_bytes({site: scored(site, separation[site], seed, len(self)) for site in SITES})
        cross = {} if arm in ("local", "augmented") else NotMeasured("one model")
        result = RunResult(spec, "h", {}, {}, {}, cross, {}, PRIVACY, Exposure(()), Cost(1.0))
        return CellReport(spec, "done", result, run)


def scored(site: str, separation: float, seed: int, model: int) -> SitePredictions:
    """Half of what scores miss is the patients' own and the same for all models."""
    n = SITES[site]
    rng, own = (np.random.default_rng([list(SITES).index(site), seed, m]) for m in (0, model + 1))
    y = (np.arange(n) < n // 5).astype(np.int8)
    logit = (rng.normal(size=n) + own.normal(size=n)) / np.sqrt(2) + separation * y
    return SitePredictions(np.arange(n) + 1000 * seed, y, 1 / (1 + np.exp(-logit)))


def everywhere(separation: float) -> dict[str, float]:
    return dict.fromkeys(SITES, separation)


@pytest.fixture
def files() -> Files:
    return Files()


def said(files: Files, *reports: CellReport) -> list[str]:
    return alone_or_together(reports, files.__getitem__)


def test_where_hospitals_do_better_alone_it_says_so(files: Files) -> None:
    own = files.cell("local", everywhere(1.6))
    (line,) = said(files, own, files.cell("pooled", everywhere(0.6)))
    assert line.startswith("Alone or together: local logistic reaches at least the AUROC of pooled logistic at 4 of 4")
    assert "(2 of the 2 largest)" in line
    assert "better alone in the mean" in line
    assert "better alone big, middle, small" in line


def test_where_they_do_worse_alone_it_says_so(files: Files) -> None:
    own = files.cell("local", everywhere(0.6))
    (line,) = said(files, own, files.cell("pooled", everywhere(1.6)))
    assert "at 0 of 4 hospitals (0 of the 2 largest)" in line
    assert "better together in the mean" in line
    assert "better together big, middle, small" in line


def test_large_ones_alone_and_small_ones_together_is_told_apart(files: Files) -> None:
    own = files.cell("local", {"big": 1.5, "middle": 1.5, "small": 0.2, "tiny": 0.0})
    (line,) = said(files, own, files.cell("pooled", everywhere(0.9)))
    assert "at 2 of 4 hospitals (2 of the 2 largest)" in line
    assert "better alone big, middle; better together small" in line


def test_a_small_difference_is_undecided_and_the_sentence_repeats_itself(files: Files) -> None:
    own = files.cell("local", everywhere(1.0))
    other = files.cell("pooled", everywhere(1.0))
    (line,) = said(files, own, other)
    assert "undecided, the interval spans 0" in line
    assert line.endswith("By hospital: 4 undecided.")
    assert said(files, own, other) == [line]


def test_seeds_are_judged_together_and_the_same_seeds_only(files: Files) -> None:
    own = [files.cell("local", everywhere(1.0), seed) for seed in (0, 1)]
    other = [files.cell("pooled", everywhere(0.9), seed) for seed in (0, 1)]
    one = said(files, own[0], other[0])
    assert len(said(files, *own, *other)) == 1
    assert said(files, *own, *other) != one
    assert said(files, *own, other[0]) == []


def test_pooled_is_the_first_choice_then_federated_then_any_shared_model(files: Files) -> None:
    own, other = files.cell("local", everywhere(1.0)), everywhere(0.9)
    synthetic, federated, pooled = (
        files.cell("synthetic", other),
        files.cell("federated", other, options={"strategy": "fedavg"}),
        files.cell("pooled", other),
    )
    assert "of pooled logistic at" in said(files, own, synthetic, federated, pooled)[0]
    assert "of federated fedavg logistic at" in said(files, own, synthetic, federated)[0]
    assert "of synthetic logistic at" in said(files, own, synthetic)[0]
    assert said(files, own, files.cell("augmented", other)) == []
    assert said(files, own) == said(files, pooled) == []


def test_another_model_or_another_cohort_is_no_comparison(files: Files) -> None:
    own, other = files.cell("local", everywhere(1.0)), everywhere(0.9)
    for change in ({"model": ModelSpec("mlp", 32)}, {"features": "full"}, {"patients_per_site": 90}):
        assert said(files, own, files.cell("pooled", other, **change)) == []


def test_budgets_are_compared_with_the_same_budget_where_nothing_is_without_one(files: Files) -> None:
    local, central = DpSpec(3.0, noise="local"), DpSpec(3.0, noise="central")
    own = files.cell("local", everywhere(0.4), dp=local)
    other = files.cell("pooled", everywhere(0.9), dp=central)
    (line,) = said(files, own, other, files.cell("pooled", everywhere(0.9), dp=DpSpec(1.0, noise="central")))
    assert "local logistic epsilon 3 reaches at least the AUROC of pooled logistic epsilon 3" in line
    plain = [files.cell("local", everywhere(1.0)), files.cell("pooled", everywhere(0.9))]
    (line,) = said(files, own, other, *plain)
    assert "epsilon" not in line


def test_hospitals_left_out_in_turn_have_another_line(files: Files) -> None:
    rows = []
    for site in ("big", "small"):
        trained = tuple(s for s in SITES if s != site)
        for arm in ("local", "pooled"):
            rows.append(files.cell(arm, everywhere(1.0), unseen=(site,), sites=trained))
    assert said(files, *rows) == []
    (line,) = said(files, *rows[:2])
    assert "of 3 hospitals" in line
