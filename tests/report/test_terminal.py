"""What is printed."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from finished import done, private, spec
from rich.console import Console, RenderableType

from pettoolkit.experiment.cells import CellReport, PlannedCell
from pettoolkit.records import DpSpec, ModelSpec, NotMeasured
from pettoolkit.report import listing, terminal


def printed(what: RenderableType, width: int = terminal.PIPE_WIDTH) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(what)
    return out.getvalue()


def row(text: str, start: str) -> str:
    (found,) = [" ".join(line.split()) for line in text.splitlines() if line.startswith(start)]
    return found


def test_a_line_of_the_comparison() -> None:
    cells = [done(spec(), {"a": 0.7, "b": 0.6}, sent=12345, seconds=2.34)]
    text = printed(terminal.comparison(cells))
    assert row(text, "federated") == "federated fedavg logistic 0.650 (0.600-0.700) b 0.600 2.3 none 12.3 kB: update"
    assert "unseen" not in text


def test_what_varies_gets_a_column() -> None:
    cells = [done(spec(features=features), {"a": 0.7}) for features in ("compact", "full")]
    text = printed(terminal.comparison(cells))
    assert row(text, "arm").startswith("arm, model features AUROC")
    assert "patients per hospital" not in text


def test_unseen_hospitals_get_a_column() -> None:
    text = printed(terminal.comparison([done(spec(unseen=("c",)), {"a": 0.7, "b": 0.7, "c": 0.55})]))
    assert "at unseen hospitals" in text
    assert "0.550 (0.500-0.600)" in text


def test_nothing_undefined_is_shown_as_a_number() -> None:
    undefined = NotMeasured("undefined: one class at this site")
    text = row(printed(terminal.comparison([done(spec(arm="local"), {"a": undefined, "b": undefined})])), "local")
    assert text == "local logistic undefined undefined 1.0 none nothing"


def test_one_seed_says_how_far_a_single_hospital_can_be_trusted() -> None:
    first = done(spec(), {"a": 0.7, "b": 0.6})
    figures = {
        "a": {"auroc": 0.7, "positives": 31.0, "auroc_low": 0.6, "auroc_high": 0.8},
        "b": {"auroc": 0.6, "positives": 12.0, "auroc_low": 0.44, "auroc_high": 0.76},
        "c": {"auroc": NotMeasured("one class"), "positives": 0.0, "auroc_low": NotMeasured("one class")},
    }
    assert first.result is not None
    one = replace(first, result=replace(first.result, per_site=figures))
    other = replace(one, spec=spec(seed=1), result=replace(one.result, spec=spec(seed=1)))
    said = (
        "One seed, and 0 to 31 test patients with the outcome per hospital: a single hospital's AUROC, the worst one's"
    )
    text = " ".join(printed(terminal.comparison([one]), width=400).split())
    assert f"{said} too, is known to within 0.10 to 0.16 either way" in text
    assert "One seed" not in printed(terminal.comparison([one, other]), width=400)
    assert "One seed" not in printed(terminal.comparison([first]), width=400)


def test_a_generators_fit_is_told_apart_from_the_seconds_of_a_cell() -> None:
    plain, other = (
        done(spec("synthetic", model=model), {"a": 0.7}, seconds=0.4)
        for model in (ModelSpec("logistic"), ModelSpec("mlp", 32))
    )
    fitted, again = (
        replace(cell, result=replace(cell.result, metrics={**cell.result.metrics, "cost/fit_seconds": 3.21}))
        for cell in (plain, other)
        if cell.result is not None
    )
    assert "A generator is fitted once" in printed(terminal.comparison([fitted, again]))
    assert "A generator is fitted once" not in printed(terminal.comparison([fitted]))
    assert "A generator is fitted once" not in printed(terminal.comparison([plain, other]))
    assert "fitting the generators, once for all models: 3.2 in all" in printed(terminal.blocks([fitted]))
    assert "0.4 of training, scoring aside" in printed(terminal.blocks([plain]))


def test_a_guarantee_has_both_adjacencies_and_never_stands_without_its_collusion_figure() -> None:
    cells = [done(spec(dp=DpSpec(3.0)), {"a": 0.7}, privacy=private(3.0)), done(spec("pooled"), {"a": 0.7})]
    text = printed(terminal.comparison(cells), width=200)
    assert (
        "epsilon 3 (replace-one 6.7); 3.5 against one curious hospital; 6 if coordinator and a hospital collude"
    ) in row(text, "federated")
    assert row(text, "pooled") == "pooled logistic 0.700 (0.650-0.750) a 0.700 1.0 none nothing"


def test_on_120_columns_figures_stay_whole_and_no_word_is_cut() -> None:
    dp = DpSpec(3.0, noise="shared")
    sites = {"B-unknown": 0.601}
    long = spec("encrypted_aggregation", sites=tuple(sites), dp=dp, model=ModelSpec("mlp", 32))
    text = printed(terminal.comparison([done(long, sites, privacy=private(3.0), sent=8_010_000)]), width=120)
    for whole in ("encrypted_aggregation", "0.601 (0.551-0.651)", "B-unknown 0.601", "epsilon 3 (replace-one 6.7)"):
        assert whole in text
    words = set(text.split())
    assert words >= {"curious", "collude", "coordinator", "hospital", "mlp-32", "8.01", "MB:", "update"}


def test_what_varies_within_an_arms_budget_gets_a_column_and_its_epsilon_does_not() -> None:
    budgets = (DpSpec(1.0, batch=64), DpSpec(1.0), DpSpec(3.0))
    cells = [done(spec(dp=dp), {"a": 0.7}, privacy=private(dp.epsilon)) for dp in budgets]
    assert row(printed(terminal.comparison(cells)), "arm").startswith("arm, model dp.batch AUROC")


def test_arms_with_different_noise_need_no_column() -> None:
    cells = [
        done(spec(dp=DpSpec(1.0, noise="local")), {"a": 0.7}, privacy=private(1.0)),
        done(spec("pooled", dp=DpSpec(1.0, noise="central")), {"a": 0.7}, privacy=private(1.0)),
    ]
    assert row(printed(terminal.comparison(cells)), "arm").startswith("arm, model AUROC")


def test_what_all_cells_add_up_to_stands_below_the_table() -> None:
    cells = [done(spec(), {"a": 0.7})]
    assert "they add up" in printed(terminal.comparison(cells, (), "they add up"))
    assert "add up" not in printed(terminal.comparison(cells))


def test_what_went_wrong_stands_below_each_reason_once() -> None:
    failed = [CellReport(spec(seed=seed), "failed", reason="hospital a: no answer [/red]") for seed in (0, 1)]
    out = CellReport(spec("synthetic"), "excluded", reason="no differential privacy")
    text = printed(terminal.comparison([*failed, out]))
    assert "No cell is finished yet." in text
    assert "failed: federated fedavg, logistic (2 cells): hospital a: no answer [/red]" in text
    assert "excluded: synthetic marginals, logistic (1 cell): no differential privacy" in text


def test_a_block_says_the_three_columns_apart() -> None:
    text = printed(terminal.blocks([done(spec(), {"a": 0.7, "b": 0.6}, sent=1000, privacy=private(3.0))]))
    assert "federated fedavg, logistic" in text
    for words in (
        "update (1 kB per hospital)",
        "whom one must trust",
        "nobody",
        "epsilon 3 (replace-one 6.7); 3.5 against one curious hospital; 6 if coordinator and a hospital collude",
        "delta 1e-05; unit:",
        "Gaussian; accountant: PLD",
        "1: 3.5, 2: 4.5 (so many together; each knows its own noise, no coordinator helps)",
        "patients are counted; hospitals are honest",
        "does not cover",
        "tuning",
        "not measured: no attacks were run",
        "a 0.700, b 0.600",
    ):
        assert words in text


def test_a_block_without_a_guarantee_says_why() -> None:
    text = printed(terminal.blocks([done(spec("local"), {"a": 0.7})]))
    assert "none (no differential privacy)" in text
    assert "what left the hospital  nothing" in text


def test_the_plan_lists_cells_and_counts_them() -> None:
    cells = [
        PlannedCell(spec(seed=0), "finished"),
        PlannedCell(spec(seed=1), "stale", "the table of a changed"),
        PlannedCell(spec(seed=2, model=ModelSpec("mlp", 32)), "to run"),
    ]
    text = printed(terminal.plan(cells))
    assert "stale" in text
    assert "the table of a changed" in text
    assert "mlp-32" in text
    assert text.splitlines()[-1].strip() == "3 cells: 1 finished, 1 stale, 1 to run"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "nothing"),
        (999, "999 B"),
        (999.9, "1 kB"),
        (1234, "1.23 kB"),
        (12.3e6, "12.3 MB"),
        (5e9, "5 GB"),
        (5e13, "5e+04 GB"),
    ],
)
def test_bytes_are_humanised(count: float, text: str) -> None:
    assert terminal.humanised(count) == text


def test_json_has_a_cell_for_each_with_the_names_of_the_design() -> None:
    cells = [done(spec(), {"a": 0.7, "b": 0.6}), CellReport(spec("pooled"), "failed", reason="why")]
    data = json.loads(json.dumps(listing.as_json("x", cells), allow_nan=False))
    first, second = data["cells"]
    assert data["experiment"] == "x"
    assert {"arm", "params", "status", "metrics", "privacy", "exposure", "run_id"} <= first.keys()
    assert first["metrics"]["utility/auroc"] == pytest.approx(0.65)
    assert (first["params"]["variant"], first["params"]["epsilon"]) == ("fedavg", "inf")
    assert first["privacy"]["guarantee"] == {"not_measured": "no differential privacy"}
    assert (second["status"], second["metrics"], second["reason"]) == ("failed", {}, "why")


def test_progress_without_a_terminal_is_a_line_each() -> None:
    out = io.StringIO()
    with terminal.progress(Console(file=out, width=80)) as say:
        say("pooled logistic seed 0", 1, 5)
    assert out.getvalue() == "[1/5] pooled logistic seed 0\n"


def test_subgroups_stand_with_the_gap_between_them_over_the_seeds() -> None:
    tiny = NotMeasured("undefined: 3 positives")
    cells = []
    for seed, (f, m) in enumerate(((0.6, 0.7), (0.62, 0.74))):
        cell = done(spec(seed=seed), {"a": 0.7})
        assert cell.result is not None
        found = {"sex": {"f": f, "m": m, "x": tiny}, "ward": {"icu": tiny}}
        cells.append(replace(cell, result=replace(cell.result, subgroups=found)))
    text = printed(terminal.blocks(cells))
    assert "AUROC by sex            f: 0.610, m: 0.720; gap 0.110" in text
    assert "ward" not in text
