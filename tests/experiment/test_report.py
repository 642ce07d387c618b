"""`pettoolkit report`: rows are compared on the same patients, and nothing is compared that does not match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pettoolkit.evaluation.predictions import SitePredictions, to_bytes
from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.report import differences
from pettoolkit.records import Cost, DpSpec, Exposure, ModelSpec, NotMeasured, PrivacyStatement, RunResult, RunSpec
from pettoolkit.report.comparison.rows import rows
from pettoolkit.report.lines import lines

SITES = ("north", "south")
PRIVACY = PrivacyStatement(NotMeasured("no differential privacy"), "nobody", "nothing", "no")
FILES: dict[str, bytes] = {}


def cell(arm: str, seed: int, sees: float, **changed: object) -> CellReport:
    """A cell whose scores see the outcome by ``sees`` standard deviations, on the same noise for every arm."""
    spec = RunSpec("sepsis-landmark", arm, {}, ModelSpec("logistic"), "compact", seed, SITES)
    spec = replace(spec, **changed)  # type: ignore[arg-type]
    name = f"{arm} {seed} {sees} {changed}"
    y = (np.arange(400) % 8 == 0).astype(np.int8)
    made = {}
    for i, site in enumerate(SITES):
        noise = np.random.default_rng([seed, i]).normal(size=400)
        made[site] = SitePredictions(np.arange(400), y, (1 / (1 + np.exp(-noise - sees * y))).astype(np.float32))
    FILES[name] = to_bytes(made)
    result = RunResult(
        spec, name, {"utility/auroc": 0.7}, {}, {}, NotMeasured("shared"), {}, PRIVACY, Exposure(()), Cost(1.0)
    )
    return CellReport(spec, "done", result, name)


def compared(*cells: CellReport) -> dict[tuple[str, str], str]:
    table = rows(lines(cells))
    names = {row.number: row.name for row in table}
    return {(names[d.row], d.role): d.state for d in differences(table, cells, FILES.__getitem__)[0]}


def test_a_technology_is_compared_with_pooled_and_with_alone() -> None:
    made = [("pooled", 1.5), ("local", 1.5), ("federated", 1.5), ("synthetic", 0.2)]
    found = compared(*(cell(arm, seed, sees) for arm, sees in made for seed in range(3)))
    assert found == {
        ("local, logistic", "pooled"): "no difference",
        ("federated, logistic", "pooled"): "no difference",
        ("federated, logistic", "local"): "no difference",
        ("synthetic, logistic", "pooled"): "worse",
        ("synthetic, logistic", "local"): "worse",
    }


def test_every_other_pair_is_a_family_of_its_own() -> None:
    made = [("pooled", 1.5), ("local", 1.5), ("federated", 1.5), ("synthetic", 0.2), ("anonymised", 1.5)]
    cells = [cell(arm, seed, sees) for arm, sees in made for seed in range(3)]
    table = rows(lines(cells))
    first, second = differences(table, cells, FILES.__getitem__)
    pairs = [frozenset((d.row, d.other)) for d in (*first, *second)]
    assert len(pairs) == len(set(pairs)) == 10
    states = {(table[d.row - 1].line.spec.arm, table[d.other - 1].line.spec.arm): d.state for d in second}
    assert states == {
        ("federated", "synthetic"): "better",
        ("federated", "anonymised"): "no difference",
        ("synthetic", "anonymised"): "worse",
    }


def test_one_seed_decides_nothing() -> None:
    assert compared(cell("pooled", 0, 2.0), cell("federated", 0, 0.0)) == {
        ("federated, logistic", "pooled"): "undecided"
    }


def test_other_models_and_other_seeds_are_not_compared() -> None:
    other = {"model": ModelSpec("mlp", 32)}
    assert compared(cell("pooled", 0, 1.0), cell("federated", 1, 1.0), cell("federated", 0, 1.0, **other)) == {}


def test_pooled_with_privacy_is_compared_with_pooled_without() -> None:
    private = [cell("pooled", seed, 0.0, dp=DpSpec(3.0)) for seed in range(3)]
    found = compared(*(cell("pooled", seed, 2.0) for seed in range(3)), *private)
    assert found == {("pooled + DP, epsilon 3, logistic", "pooled"): "worse"}


def test_more_comparisons_widen_every_interval() -> None:
    few = [cell(arm, seed, 1.0 - 0.1 * i) for i, arm in enumerate(("pooled", "federated")) for seed in range(3)]
    more = [*few, *(cell("local", seed, 0.8) for seed in range(3))]
    widths = []
    for cells in (few, more):
        found = differences(rows(lines(cells)), cells, FILES.__getitem__)[0][0]
        widths.append(found.interval.high - found.interval.low)
    assert widths[1] > widths[0]
