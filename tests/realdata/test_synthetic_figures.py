"""What synthetic and anonymised rows cost, and where they help, on the real data: within the bands of prototypes on it.

Six natural sites, set ``compact``. A loss is the mean-site AUROC of pooled training on the real rows less that of the
arm, on the same splits.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pettoolkit.experiment import execute, runner
from pettoolkit.experiment.load import load
from pettoolkit.experiment.quality import Declared
from pettoolkit.records import Summary
from pettoolkit.synthesis import marginals

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

HEAD = """\
name: synthetic_figures
sites: {source: physionet2019, path: DATA, partition: unit}
engine: inline
tracking: {dir: DIR}
"""

MARGINALS = "{arm: synthetic, generator: marginals}"

Run = Callable[[str], list[Summary]]


@pytest.fixture(scope="module")
def _nothing_else() -> Iterator[None]:
    """Read the data once, and declare no table's quality: over 100 cells that would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "load_cohort", functools.cache(runner.load_cohort))
        patch.setattr(execute, "declared", lambda *_: Declared())
        yield


@pytest.fixture(scope="module")
def run(
    physionet2019: Path, _nothing_else: None, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    def run(body: str) -> list[Summary]:
        folder = tmp_path_factory.mktemp("synthetic_figures")
        shutil.copy(empty_database, folder)
        path = folder / "x.yaml"
        text = HEAD.replace("DATA", str(physionet2019)).replace("DIR", str(folder)) + body
        path.write_text(text, encoding="utf-8")
        found = runner.run(load(path))
        assert {cell.status for cell in found.cells} <= {"done", "excluded"}
        return list(found.summaries)

    return run


def auroc(summary: Summary) -> float:
    return summary.mean["utility/auroc"]


Losses = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def losses(run: Run) -> Losses:
    """Loss without differential privacy by (what, model), mean over three seeds."""
    arms = "{arm: pooled}, {arm: anonymised, k: 5}, {arm: anonymised, k: 5, scope: all}, " + MARGINALS
    found = run(f"arms: [{arms}]\nmatrix: {{model: [logistic, mlp]}}\nseeds: [0, 1, 2]\n")

    def named(s: Summary) -> tuple[str, str]:
        scope = s.spec.options["scope"] if s.spec.arm == "anonymised" else ""
        return f"{s.spec.arm} {scope}".strip(), s.spec.model.name

    each = {named(s): auroc(s) for s in found}
    out = {key: each["pooled", key[1]] - value for key, value in each.items()}
    print("\n".join(f"{' '.join(key)}: {loss:.4f}" for key, loss in sorted(out.items())))
    return out


@pytest.mark.parametrize(
    ("what", "model", "most"),
    [
        ("synthetic", "logistic", 0.02),
        ("synthetic", "mlp", 0.02),
        ("anonymised quasi_identifiers", "logistic", 0.01),
        ("anonymised quasi_identifiers", "mlp", 0.01),
        ("anonymised all", "logistic", 0.045),
        ("anonymised all", "mlp", 0.05),
    ],
)
def test_the_loss_is_within_its_band(losses: Losses, what: str, model: str, most: float) -> None:
    assert losses[what, model] <= most


def test_one_noise_for_all_hospitals_is_better_than_one_each(run: Run) -> None:
    arms = MARGINALS.replace("}", ", scope: [per_hospital, secure_sum]}")
    found = run(f"arms: [{arms}]\ndp: {{epsilon: 3, delta: 1.0e-5}}\nseeds: [0, 1, 2, 3, 4]\n")
    by_scope = {str(s.spec.options["scope"]): auroc(s) for s in found}
    print(by_scope)
    assert by_scope["secure_sum"] > by_scope["per_hospital"]


def test_small_hospitals_with_a_flexible_model_gain_from_the_others_rows(run: Run) -> None:
    found = run(
        "arms: [{arm: local}, {arm: augmented, generator: marginals}]\n"
        "model: mlp\nevaluation: {total_patients: 3000}\nseeds: [0, 1, 2, 3, 4]\n"
    )
    by_arm = {s.spec.arm: auroc(s) for s in found}
    print(by_arm)
    assert by_arm["augmented"] - by_arm["local"] >= 0.015


def test_pairs_are_asked_for_where_they_pay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each epsilon within .01 of the better of never and always, over ten seeds."""
    body = """\
arms: [{arm: synthetic, generator: marginals, scope: SCOPE}]
dp: {delta: 1.0e-5}
matrix: {dp.epsilon: [10, 3, 1]}
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""
    found: dict[str, dict[float, float]] = {}
    for name, threshold in (("chosen", marginals.PAIRS_FROM), ("never", math.inf), ("always", 0.0)):
        monkeypatch.setattr(marginals, "PAIRS_FROM", threshold)
        summaries = run(body.replace("SCOPE", "per_hospital"))
        found[name] = {s.spec.dp.epsilon: auroc(s) for s in summaries if s.spec.dp is not None}
    print(found)
    for epsilon, value in found["chosen"].items():
        assert value >= max(found["never"][epsilon], found["always"][epsilon]) - 0.01
