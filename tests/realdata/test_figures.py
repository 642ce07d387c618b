"""The whole path on the real data gives the figures that are known from elsewhere.

Six natural sites (hospital x ICU unit), set ``compact``, seeds 0-2, settings as in experiment files. ``AUROC`` is the
mean over sites of the AUROC within each. One site's test set has 25 to 112 patients with sepsis, so absolute bands
are wide, and differences on the same splits tight.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pettoolkit.experiment import runner
from pettoolkit.experiment.cells import Comparison
from pettoolkit.experiment.load import load
from pettoolkit.records import Summary

pytestmark = pytest.mark.realdata

LEAK = 0.77
"""No model of this kind gets so far without knowing the outcome."""

EXPERIMENT = """\
name: figures
sites: {source: physionet2019, path: DATA, partition: unit}
features: compact
model: MODEL
arms: [ARMS]
evaluation: {unseen: UNSEEN}
seeds: SEEDS
engine: inline
tracking: {dir: DIR}
"""
A, B = ("A-micu", "A-sicu", "A-unknown"), ("B-micu", "B-sicu", "B-unknown")
POOLED, FEDAVG = "{arm: pooled}", "{arm: federated, strategy: fedavg}"

Run = Callable[..., Comparison]


@pytest.fixture(scope="module")
def _read_once() -> Iterator[None]:
    """Read the data from disk once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "load_cohort", functools.cache(runner.load_cohort))
        yield


@pytest.fixture
def mlruns(tmp_path: Path, empty_database: Path) -> Path:
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return folder


@pytest.fixture
def run(physionet2019: Path, _read_once: None, tmp_path: Path, mlruns: Path) -> Run:
    def run(
        *arms: str, model: str = "logistic", seeds: tuple[int, ...] = (0, 1, 2), unseen: tuple[str, ...] = ()
    ) -> Any:
        text = EXPERIMENT
        words = {"DATA": physionet2019, "MODEL": model, "ARMS": ", ".join(arms), "DIR": mlruns}
        for name, value in (words | {"SEEDS": list(seeds), "UNSEEN": list(unseen)}).items():
            text = text.replace(name, str(value))
        path = tmp_path / "figures.yaml"
        path.write_text(text, encoding="utf-8")
        found = runner.run(load(path))
        assert {cell.status for cell in found.cells} <= {"done", "skipped"}
        return found

    return run


def by_arm(found: Comparison) -> dict[str, Summary]:
    """Arm (of ``federated`` the strategy) to its seeds put together."""
    return {str(s.spec.options["strategy"]) if s.spec.arm == "federated" else s.spec.arm: s for s in found.summaries}


def auroc(summary: Summary) -> float:
    return summary.mean["utility/auroc"]


def per_site(summary: Summary) -> Mapping[str, float]:
    """Mean over seeds of each site's AUROC."""
    return {n.split("/")[1]: v for n, v in summary.mean.items() if n.startswith("site/") and n.endswith("/auroc")}


def figures(found: Comparison) -> str:
    """All figures, for who reads a failure."""
    lines = (f"{arm}: {auroc(s):.4f}, {per_site(s)}" for arm, s in by_arm(found).items())
    return "\n".join(lines)


def test_logistic_regression(run: Run) -> None:
    fedsgd = "{arm: federated, strategy: fedsgd, rounds: 100}"  # half of the default: it is there by then
    found = run(POOLED, FEDAVG, fedsgd, "{arm: local}")

    arms, said = by_arm(found), figures(found)
    pooled = auroc(arms["pooled"])
    assert 0.67 <= pooled <= 0.72, said
    assert auroc(arms["fedsgd"]) >= pooled - 0.010, said
    assert auroc(arms["fedavg"]) >= pooled - 0.010, said
    for arm, summary in arms.items():
        assert len(per_site(summary)) == 6
        assert min(per_site(summary).values()) >= 0.58, (arm, said)
        assert auroc(summary) <= LEAK, (arm, said)


def test_large_sites_do_as_well_alone_with_logistic_regression_and_the_table_shows_it(run: Run) -> None:
    found = run(FEDAVG, "{arm: local}", seeds=(0,))
    arms = by_arm(found)
    assert auroc(arms["local"]) >= auroc(arms["fedavg"]) - 0.02, figures(found)


@pytest.mark.slow
def test_mlp(run: Run) -> None:
    found = run(POOLED, FEDAVG, "{arm: federated, strategy: fedsgd}", model="mlp")

    arms, said = by_arm(found), figures(found)
    pooled = auroc(arms["pooled"])
    assert 0.705 <= pooled <= 0.75, said
    assert auroc(arms["fedsgd"]) >= pooled - 0.015, said
    assert auroc(arms["fedavg"]) >= pooled - 0.025, said
    for arm, summary in arms.items():
        assert min(per_site(summary).values()) >= 0.62, (arm, said)
        assert auroc(summary) <= LEAK, (arm, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "model", "weight", "site", "mean"),
    [
        ("fedavg", "logistic", 1e-4, 1e-4, 1e-4),
        ("fedavg", "mlp", np.inf, 0.005, 0.002),
        ("fedadam", "logistic", 0.02, 0.005, 0.002),  # its step runs inside the hospitals, and divides by small numbers
        ("fedadam", "mlp", np.inf, 0.005, 0.002),
    ],
)
def test_encryption_changes_nothing(
    run: Run, mlruns: Path, strategy: str, model: str, weight: float, site: float, mean: float
) -> None:
    both = [f"{{arm: {arm}, strategy: {strategy}}}" for arm in ("federated", "encrypted_aggregation")]
    found = run(*both, model=model, seeds=(0,))

    arms, said = by_arm(found), figures(found)
    plain, encrypted = arms[strategy], arms["encrypted_aggregation"]
    assert abs(auroc(plain) - auroc(encrypted)) <= mean, said
    for name, value in per_site(plain).items():
        assert abs(per_site(encrypted)[name] - value) <= site, (name, said)
    ours, theirs = (weights(mlruns, str(cell.run_id)) for cell in found.cells)
    apart = max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
    print(f"{strategy} {model}: largest difference of a weight {apart:.2g}")
    assert apart <= weight


@pytest.mark.slow
def test_sdvs_gaussian_copula_is_better_than_chance(run: Run) -> None:
    found = run("{arm: synthetic, generator: gaussian_copula}")
    (synthetic,) = found.summaries
    assert 0.60 <= auroc(synthetic) <= LEAK, figures(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            "logistic",
            marks=pytest.mark.xfail(
                strict=True, reason="gains .0295 on these seeds, .028 over ten: misses the band of .03"
            ),
        ),
        "mlp",
    ],
)
def test_hospitals_that_took_part_are_served_better(run: Run, model: str) -> None:
    """Mean over the six sites, each tested with the model of all sites and with that of the other hospital's."""
    (with_it,) = run(FEDAVG, model=model).summaries
    present, absent = per_site(with_it), {}
    for away in (A, B):
        (without,) = run(FEDAVG, model=model, unseen=away).summaries
        absent |= {name: per_site(without)[name] for name in away}

    gain = np.mean([present[name] - absent[name] for name in (*A, *B)])
    assert gain >= 0.03, f"gain {gain:.4f}; trained with {present}, without {absent}"


def weights(mlruns: Path, run_id: str) -> dict[str, Any]:
    from safetensors.numpy import load_file

    (file,) = mlruns.glob(f"artifacts/*/{run_id}/**/weights.safetensors")
    return load_file(file)
