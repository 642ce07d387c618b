"""Where the evidence is too thin, and what would make it thicker."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pettoolkit.advice.evidence import Technology
from pettoolkit.advice.noninferiority import ENOUGH_SEEDS
from pettoolkit.advice.situation import Situation
from pettoolkit.records import RunSpec

FEW = 20
"""Test patients with the outcome in all hospitals together, below which no interval says much."""
SHOWN = 4
"""Of what is missing, so many are named."""
TRAIN_TO_TEST = 55 / 20
"""Shares of a hospital's patients (DESIGN: 55 % train, 20 % test)."""


def no_reference(spec: RunSpec) -> str:
    """Why nothing can be said about *good enough*."""
    return (
        f"no pooled model of the same kind ({spec.model.name}, no differential privacy) was recorded: "
        "add {arm: pooled} to the experiment and run it"
    )


def thin(
    technologies: Sequence[Technology],
    situation: Situation,
    data: str,
    unfinished: Sequence[str],
    dropped: Sequence[str] = (),
) -> list[str]:
    """One sentence for each weakness of the evidence; none does not mean that it is strong."""
    found = []
    if data == "simulated":
        operation = "; nothing can be decided about operation from them" if situation.phase == "operation" else ""
        found.append(f"The hospitals are simulated: the figures say nothing about your patients{operation}.")
    if situation.data != "table":
        found.append(f"All figures are of tables; yours are {situation.data}: nothing here was measured on such data.")
    if unfinished:
        more = ", .." if len(unfinished) > SHOWN else ""
        said = ", ".join(unfinished[:SHOWN]) + more
        found.append(f"{len(unfinished)} cells of the experiment have no result: {said}.")
    if dropped:
        found.append(f"Not all hospitals are in every figure: {'; '.join(dict.fromkeys(dropped))}.")
    few_seeds = [t.name for t in technologies if len(t.seeds) < ENOUGH_SEEDS]
    if few_seeds:
        found.append(f"Fewer than {ENOUGH_SEEDS} seeds: {', '.join(few_seeds)}. Run with --set seeds=[0,1,2].")
    unattacked = [t.name for t in technologies if "not measured" in (t.verdict("release"), t.verdict("insider"))]
    if unattacked:
        found.append(f"No attacks were run on {', '.join(unattacked)}. Run with --set attacks=quick or full.")
    weak = [f"{t.name} ({'; '.join(t.untold)})" for t in technologies if t.untold]
    if weak:
        found.append(f"Not every attack could tell: {', '.join(weak)}. Run with --set attacks=full.")
    found += _patients(technologies, situation)
    return found


def _patients(technologies: Sequence[Technology], situation: Situation) -> list[str]:
    found = []
    counts = [
        positives for t in technologies for r in t.results if (positives := _positives(t, r.spec.seed)) is not None
    ]
    if counts and min(counts) < FEW:
        found.append(f"Only {min(counts):.0f} test patients in all hospitals have the outcome.")
    trained = [size for t in technologies if (size := _training_patients(t)) is not None]
    if situation.patients and trained and situation.patients < median(trained) / 2:
        found.append(
            f"A typical hospital of the recorded runs trained on about {median(trained):.0f} patients, yours has "
            f"{situation.patients}: expect less, most of all under differential privacy."
        )
    recorded = {len(t.spec.sites) for t in technologies}
    if situation.hospitals and situation.hospitals not in recorded:
        found.append(
            f"Recorded with {', '.join(map(str, sorted(recorded)))} hospitals, yours are {situation.hospitals}: noise "
            "that is shared out and what hospitals gain from each other depend on their number."
        )
    return found


def _positives(tech: Technology, seed: int) -> float | None:
    rows = tech.results[tech.seeds.index(seed)].per_site.values()
    known = [n for row in rows if isinstance(n := row.get("positives"), float)]
    return sum(known) if known else None


def _training_patients(tech: Technology) -> float | None:
    if tech.spec.patients_per_site is not None:
        return float(tech.spec.patients_per_site)
    result = tech.results[0]
    known = [n for site in result.spec.sites if isinstance(n := result.per_site.get(site, {}).get("patients"), float)]
    return median(known) * TRAIN_TO_TEST if known else None
