"""Differential privacy as every arm uses it: one budget for the whole run, calibrated before the first event.

What an arm trains under DP is fixed in advance by (epsilon, noise mode, model): no early stopping, no best
round, and nothing of validation patients is read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.arms.common import start
from pettoolkit.arms.exchange import Reply, ask, lacks
from pettoolkit.arms.registry import ENCRYPTED
from pettoolkit.errors import Refused
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.accounts import known_ledger, ledger_of, noise_of
from pettoolkit.hospital.envelope import Arrays, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.models.training import Rows
from pettoolkit.privacy import conditions
from pettoolkit.privacy.gradients import engine_for
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.noise import SeededNoise, SystemNoise
from pettoolkit.privacy.optimiser import DpTraining, PrivateRows, train_private
from pettoolkit.privacy.settings import DpPlan, plan_for, settings_for
from pettoolkit.privacy.statement import COORDINATOR, guarantee
from pettoolkit.records import DpSpec, Json, ModelSpec, PrivacyStatement, RunSpec

SURE = 6.0
"""SDs of noise that have to fit: none of ten thousand values is beyond, but once in 50,000 runs."""


def budget_of(spec: RunSpec) -> DpSpec:
    """The budget of a run that has one."""
    if spec.dp is None:
        raise ValueError("this run has no differential privacy")
    return spec.dp


def mode_of(spec: RunSpec) -> str:
    """Who adds noise, in the words of the privacy room: a hospital that trains alone has its own mode."""
    return "alone" if spec.arm == "local" else budget_of(spec).noise


def training_of(spec: RunSpec, patients: int) -> DpTraining:
    """Steps, clipping and rate by the documented rule; what the experiment file says goes first.

    Parameters
    ----------
    patients
        Public number of training patients of all hospitals together.
    """
    rule = _rule(spec, patients)
    steps, rate = _written_steps(spec), spec.options.get("learning_rate")
    return replace(
        rule,
        steps=rule.steps if steps is None else steps,
        learning_rate=rule.learning_rate if rate is None else float(rate),
    )


def most_steps(spec: RunSpec) -> int:
    """Most steps that the rule can ask for, however many patients there turn out to be."""
    full = replace(spec, dp=replace(budget_of(spec), batch=None))  # batches are louder, and never take more steps
    return _written_steps(spec) or max(_rule(full, 10**k).steps for k in range(9))


def _rule(spec: RunSpec, patients: int) -> DpTraining:
    """What the documented rule says; every hospital and the coordinator read it at the same (public) place."""
    dp, mode = budget_of(spec), mode_of(spec)
    places = 1 if mode == "central" else len(spec.sites)
    q = 1.0 if dp.batch is None else min(1.0, dp.batch * places / max(patients, 1))
    return settings_for(dp.epsilon, mode, spec.model, len(spec.sites), patients, q=q, delta=dp.delta)


def at_hospital(site: Site, spec: RunSpec, patients: int) -> tuple[PrivateRows, Ledger, DpPlan, int]:
    """What a hospital needs to answer with noise: its rows, its ledger, the run's plan, its own public count.

    Raises
    ------
    Refused
        If the request would not mean what it says (delta too large, shared noise with local steps, ...).
    """
    dp, mode = budget_of(spec), mode_of(spec)
    if dp.noise == "shared" and spec.arm not in ENCRYPTED:
        raise Refused(
            f"dp.noise: {spec.arm} sends each hospital's part in the clear, and a part of the noise protects only the "
            "sum; use arm: encrypted_aggregation, or noise: local"
        )
    rows = site.part(spec, "train")
    patient, here = site.training_patients(spec)
    check_total(site, patients, here)
    conditions.check(
        dp,
        sites=len(spec.sites),
        patients=here,
        local_steps=spec.options.get("strategy") not in (None, "fedsgd"),
        patient_known=site.patients_known,
    )
    plan = _plan(spec, mode, patients, here)
    net, _ = start(spec, site.narrowed(spec))
    ledger = ledger_of(site, spec.run_id, Budget(dp.epsilon, dp.delta), plan.mechanism)
    noise = noise_of(site, spec.seed, mode)
    return PrivateRows(engine_for(net, dp.gradients), rows.x, rows.y, noise, mode, patient), ledger, plan, here


def not_under_dp(site: Site, spec: RunSpec, what: str) -> None:
    """Refuse what is answered without noise and no ledger covers, whatever the coordinator's own half would ask.

    Raises
    ------
    Refused
        If the run has a budget.
    """
    if spec.dp is not None:
        raise Refused(f"hospital {site.name}: a run with differential privacy gets no exact {what}")


def check_room(site: Site, spec: RunSpec, largest: float, sd: float, room: float) -> None:
    """Refuse a budget whose noise leaves the range of an encryption: by public numbers, before rows are read.

    Were it left to the encryption, a refusal would depend on one hospital's rows and its own part of the noise alone.

    Parameters
    ----------
    largest
        Largest exact value that rows of any patients here can give.
    sd
        Of this hospital's own noise on each value.
    room
        Largest value that can be encrypted.

    Raises
    ------
    Refused
        If :data:`SURE` SDs of noise would not fit beside the largest value.
    """
    if largest + SURE * sd > room:
        raise Refused(
            f"hospital {site.name}: dp.epsilon: {budget_of(spec).epsilon:g} takes noise of SD {sd:.3g} on sums that "
            f"can be encrypted up to {room:.3g}; write a larger epsilon, or train on more patients"
        )


def check_total(site: Site, patients: int, here: int) -> None:
    """Refuse a number of all hospitals' patients that this hospital's own (public) count shows to be wrong.

    Divided by a number that is too small, a hospital's part leaves the range of an encryption, or does not, as its
    patients have it; and the rule for settings would be read at the wrong place.
    """
    if patients < here:
        raise Refused(
            f"hospital {site.name}: the run says that {patients} patients train in all, and {here} do so here alone"
        )


def train_at_hospital(site: Site, spec: RunSpec, patients: int) -> tuple[Params, int]:
    """A hospital trains by itself, privately, in one piece."""
    rows, ledger, plan, here = at_hospital(site, spec, patients)
    _, initial = start(spec, site.narrowed(spec))
    return train_private(rows, ledger, initial, plan.mechanism, plan.training, here), here


def train_at_coordinator(
    spec: RunSpec,
    net: DenseNet,
    initial: Params,
    rows: Rows,
    patient: Tensor | None = None,
    *,
    simulated: bool = True,
) -> tuple[Params, Ledger]:
    """The coordinator trains privately on rows that it holds; its ledger covers the patients of all hospitals.

    Parameters
    ----------
    patient
        Whose each row is, shape (n,); None: each row is a unit of its own (synthetic rows).
    simulated
        Whether noise comes from the run's seed; the system's entropy otherwise.
    """
    dp, patients = budget_of(spec), len(rows) if patient is None else len(torch.unique(patient))
    conditions.check(dp, sites=len(spec.sites), patients=patients)
    plan = _plan(spec, "central", patients, patients)
    ledger = Ledger(COORDINATOR, spec.run_id, Budget(dp.epsilon, dp.delta), plan.mechanism)
    noise = SeededNoise(spec.seed, COORDINATOR, "central") if simulated else SystemNoise()
    private = PrivateRows(engine_for(net, dp.gradients), rows.x, rows.y, noise, "central", patient)
    return train_private(private, ledger, initial, plan.mechanism, plan.training, patients), ledger


def _written_steps(spec: RunSpec) -> int | None:
    rounds = spec.options.get("rounds")
    return None if rounds is None else int(rounds) * int(spec.options.get("local_epochs") or 1)


def _plan(spec: RunSpec, mode: str, patients: int, here: int) -> DpPlan:
    """The run's plan, for a place with ``here`` of all ``patients``.

    Poisson batches under shared noise: all hospitals sample with one probability, so that they calibrate to one sigma.
    With a probability of its own each would add its part of another noise, and the sum would carry too little for some.
    """
    training = training_of(spec, patients)
    if mode == "shared":
        here = patients // len(spec.sites)
    return _calibrated(budget_of(spec), spec.model, len(spec.sites), mode, patients, here, training)


@functools.lru_cache(maxsize=256)
def _calibrated(
    dp: DpSpec, model: ModelSpec, sites: int, mode: str, patients: int, here: int, training: DpTraining
) -> DpPlan:
    return plan_for(dp, model, sites, noise=mode, patients=patients, site_patients=here, training=training)


def count(site: Site, request: Request) -> Envelope:
    """The number of training patients, which is public (without DP of their rows, which then weigh)."""
    spec = request.spec
    n = len(site.index(spec, "train")) if spec.dp is None else site.training_patients(spec)[1]
    return Envelope("metrics", "setup", Figures({"num-examples": n}))


def ask_patients(grid: MeteredGrid, spec: RunSpec) -> int:
    """Public number of training patients of all hospitals together."""
    return sum(ask_counts(grid, spec).values())


def ask_counts(grid: MeteredGrid, spec: RunSpec) -> dict[str, int]:
    """Public number of training patients of each hospital."""
    counts = ask(grid, spec, "count", "setup", wants="metrics", sites=spec.sites, fault=_count_fault)
    return {site: int(reply.figures["num-examples"]) for site, reply in counts.items()}


def _count_fault(reply: Reply) -> str:
    return lacks(reply, "num-examples") or (
        "" if reply.figures["num-examples"].is_integer() else "metric 'num-examples' is no count"
    )


def ledger_summary(site: Site, request: Request) -> Envelope:
    """What this hospital's ledger of the run may tell: mechanisms, spent and budget, as JSON in an array of bytes."""
    return summary_of(site, request, request.spec.run_id)


def summary_of(site: Site, request: Request, run: str) -> Envelope:
    """The summary of one of this hospital's ledgers."""
    ledger = known_ledger(site, run)
    if ledger is None:
        raise Refused(f"hospital {site.name}: it has no ledger of this run (nothing private was asked of it)")
    text = json.dumps(ledger.summary(), sort_keys=True).encode()
    _, patients = site.training_patients(request.spec)
    return Envelope("statistics", request.purpose, Arrays({"ledger": np.frombuffer(text, dtype=np.uint8)}, patients))


def ask_ledgers(grid: MeteredGrid, spec: RunSpec, purpose: str = "release") -> dict[str, dict[str, Json]]:
    """Collect the summaries of all hospitals' ledgers."""
    replies = ask(grid, spec, "ledger", purpose, wants="statistics", sites=spec.sites, fault=_ledger_fault)
    return {site: json.loads(reply.arrays["ledger"].tobytes()) for site, reply in replies.items()}


def _ledger_fault(reply: Reply) -> str:
    try:
        said = json.loads(reply.arrays["ledger"].tobytes())
    except (KeyError, ValueError):
        return "what it says of its ledger can't be read"
    known = isinstance(said, dict) and {"mechanisms", "simulated_noise"} <= set(said)
    return "" if known else "what it says of its ledger is no summary of one"


def stated(statement: PrivacyStatement, spec: RunSpec, ledgers: Mapping[str, Mapping[str, Json]]) -> PrivacyStatement:
    """An arm's statement with the guarantee that its ledgers prove."""
    simulated = any(ledger["simulated_noise"] for ledger in ledgers.values())
    proved = guarantee(ledgers, noise=mode_of(spec), sites=len(spec.sites), simulated=simulated)
    return replace(statement, guarantee=proved, ledgers=ledgers)


def averaged(models: Sequence[Mapping[str, npt.NDArray[Any]]], training: DpTraining) -> dict[str, npt.NDArray[Any]]:
    """Mean of the models of the rounds after ``average_from``: post-processing that removes most of the noise."""
    chosen = models[int(training.average_from * len(models)) :] or models[-1:]
    return {name: np.mean([m[name] for m in chosen], axis=0, dtype=np.float64).astype(np.float32) for name in chosen[0]}
