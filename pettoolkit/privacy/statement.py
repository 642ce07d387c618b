"""From ledgers to the sentence that stands in a report: what is guaranteed, under which assumptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pettoolkit.errors import BadInput
from pettoolkit.privacy.accounting import accountant_of, compose
from pettoolkit.privacy.bounds import epsilon_if_coordinator_and_site_collude, epsilon_if_sites_collude
from pettoolkit.privacy.events import SUBSAMPLED, ZCDP, Mechanism, merged
from pettoolkit.records import Guarantee, Json, NotMeasured, from_json

COORDINATOR = "coordinator"
"""Name of the ledger that covers the patients of all hospitals, where the coordinator holds their records."""

SIMULATION = "simulation: epsilon is what a deployment would give"

SPLIT = (
    "the split of each hospital's patients into training and test is taken as fixed: the guarantee is for training "
    "patients given the split"
)
"""The split ranks patients within an outcome: one patient more, or another outcome, moves others over its edges."""

NOT_COVERED = (
    "tuning: settings were chosen with other runs in view, which no ledger here holds",
    "test metrics: scores of test patients are computed without noise",
    "other runs on the same patients: what they add up to is printed beside the table",
)

DOWNSTREAM = NotMeasured(
    "no guarantee for patients: only the training on synthetic rows was private, not the generator that saw patients"
)
"""Stands in place of a guarantee where ``dp.target`` is ``downstream``."""

Summaries = Mapping[str, Mapping[str, Json]]
"""Summaries of ledgers (:meth:`pettoolkit.privacy.ledger.Ledger.summary`) by hospital."""


def guarantee(ledgers: Summaries, *, noise: str, sites: int, simulated: bool) -> Guarantee:
    """State what a cell guarantees to each patient.

    Parameters
    ----------
    ledgers
        One summary per hospital, or one under :data:`COORDINATOR`. Each patient is in one hospital, so the
        system's epsilon is the largest, not the sum.
    noise
        Who added it: ``local``, ``shared``, ``central`` or ``alone``.
    sites
        How many hospitals took part.
    simulated
        Whether the noise came from a seed.

    Raises
    ------
    BadInput
        If there is no ledger, or ledgers have different deltas.
    """
    deltas = {float(s["budget"]["delta"]) for s in ledgers.values()}
    if len(deltas) != 1:
        raise BadInput(f"dp: one delta is needed for all hospitals' ledgers (got {sorted(deltas) or 'no ledger'})")
    delta = deltas.pop()
    per_site = {site: _mechanisms(summary) for site, summary in ledgers.items()}
    used = merged(m for mechanisms in per_site.values() for m in mechanisms)
    shared = noise == "shared"
    return Guarantee(
        epsilon=max(float(s["epsilon"]) for s in ledgers.values()),
        epsilon_replace_one=max(float(s["epsilon_replace_one"]) for s in ledgers.values()),
        delta=delta,
        accountant=accountant_of(used),
        mechanism="; ".join(dict.fromkeys(_words(m) for ms in per_site.values() for m in ms)) or "nothing was released",
        assumptions=_assumptions(used, noise, sites, simulated),
        not_covered=NOT_COVERED,
        epsilon_if_sites_collude=_worst_rows(per_site.values(), delta, sites) if shared else {},
        epsilon_if_coordinator_and_site_collude=(
            max(epsilon_if_coordinator_and_site_collude(ms, delta) for ms in per_site.values())
            if shared
            else NotMeasured("noise is not shared")
        ),
        simulated_noise=simulated,
        noise_multiplier=_only_sigma(used),
    )


def compose_cells(cells: Iterable[Summaries | None], delta: float) -> float:
    """Epsilon of all shown cells together, for the patient who is worst off.

    Parameters
    ----------
    cells
        The ledgers of each cell on the same patients; None for a cell without DP, which makes it infinite.
    delta
        Of the composition as a whole.
    """
    by_site: dict[str, list[Mechanism]] = {}
    for cell in cells:
        if cell is None:
            return float("inf")
        for site, summary in cell.items():
            by_site.setdefault(site, []).extend(_mechanisms(summary))
    everyone = by_site.pop(COORDINATOR, [])
    return max((compose([*own, *everyone], delta) for own in by_site.values()), default=compose(everyone, delta))


def _mechanisms(summary: Mapping[str, Json]) -> tuple[Mechanism, ...]:
    return tuple(from_json(Mechanism, m) for m in summary["mechanisms"])


def _worst_rows(per_site: Iterable[tuple[Mechanism, ...]], delta: float, sites: int) -> dict[str, float]:
    rows = [epsilon_if_sites_collude(mechanisms, delta, sites) for mechanisms in per_site]
    return {c: max(row[c] for row in rows) for c in rows[0]}


def _only_sigma(used: tuple[Mechanism, ...]) -> float | NotMeasured:
    sigmas = {m.sigma for m in used if m.kind != ZCDP}
    if len(sigmas) == 1 and all(m.kind != ZCDP for m in used):
        return sigmas.pop()
    return NotMeasured("the mechanism has several noise scales" if used else "nothing was released")


def _words(m: Mechanism) -> str:
    if m.kind == ZCDP:
        return f"{m.steps} x {m.rho:.4g}-zCDP"
    if m.replace_factor not in (2, math.sqrt(2)):  # clipped gradients of a generator, and its class counts
        return (
            f"Gaussian noise of SD {m.sigma:.4g} / sqrt(share) on class counts and clipped sums, which share the budget"
        )
    if m.replace_factor != 2:  # histograms: replacing a patient moves one count down and one up
        return f"Gaussian noise of SD {m.sigma:.4g} / sqrt(share) on histograms of patients, which share the budget"
    batch = f"Poisson samples with q = {m.q:.4g}" if m.kind == SUBSAMPLED else "full batch"
    return f"Gaussian noise of {m.sigma:.4g} x C on clipped sums, C = {m.sensitivity:g}, {batch}, {m.steps} steps"


def _assumptions(used: tuple[Mechanism, ...], noise: str, sites: int, simulated: bool) -> tuple[str, ...]:
    lines = [
        "the number of training patients in each hospital is public",
        "each patient is in one hospital only",
        SPLIT,
    ]
    if noise == "shared":
        honest = min((m.honest_sites for m in used), default=sites)
        lines += [
            f"at least {honest} of {sites} hospitals are honest: they add their part of the noise and keep it secret",
            "the headline is against outsiders and the coordinator; a hospital knows its own part of the noise",
            "no collusion: no hospital gives the coordinator its key or a decrypted sum's parts",
        ]
    elif noise == "central":
        lines.append("the coordinator holds all records and is trusted with them and with the noise")
    else:
        lines.append("each hospital is honest towards its own patients: it adds its noise and keeps it secret")
    if any(m.kind == SUBSAMPLED for m in used):
        lines.append("which patients were sampled in a step stays secret")
    if simulated:
        lines.append(SIMULATION)
    return tuple(lines)
