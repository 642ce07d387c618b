"""Encrypted aggregation: the coordinator adds ciphertexts. It holds no key, so it can do nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pettoolkit.arms import private
from pettoolkit.arms.adding import Additions
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.exchange import Reply, ask
from pettoolkit.arms.rounds import settings_of
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="no hospital colludes with the coordinator; all hospitals share one secret key",
    leaks_if_collude="the coordinator and any one hospital together can read every hospital's update",
    reversible="ciphertexts: by whoever holds the hospitals' key; the released model: as any model",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Rounds of: collect ciphertexts, add, hand the sum back; then one hospital releases a model.

    Without DP that of the round that validation patients like best; under DP the mean over the last half.
    """
    began = time.perf_counter()
    scheme, layout = scheme_of(spec, contract_of(spec))
    patients, noisy = private.ask_patients(grid, spec), spec.dp is not None
    rounds, extra = int(settings_of(spec, patients)["rounds"]), {"patients": patients}
    additions = Additions(grid, spec, scheme, "training" if noisy else "validation")
    replies = [additions.round(number, extra) for number in range(1, rounds + 1)]
    losses = [] if noisy else [_mean_loss(answers.values()) for answers in replies]
    best = rounds if noisy else int(np.argmin(losses)) + 1
    first = min(spec.sites)
    released = ask(
        grid,
        spec,
        "release",
        "release",
        wants="model",
        sites=(first,),
        extra={"best": best, **extra},
        expect=dict(zip(layout.names, layout.shapes, strict=True)),
    )
    chosen = f"mean over the last half of {rounds} rounds" if noisy else f"round {best} of {rounds} kept"
    return Outcome(
        models=Models({Models.SHARED: Weights.of(released[first].arrays)}),
        privacy=_statement(grid, spec),
        exposure=grid.exposure(out_of_band=("keys",)),
        cost=Cost(time.perf_counter() - began, extra=additions.cost()),
        rounds=rounds,
        round_metrics={"round/validation_loss": tuple(losses)} if losses else {},
        encryption=additions.parameters(released[first].figures["flooding_sd"]),
        notes=(f"{chosen}; released by hospital {first} with flooding noise",),
    )


def _mean_loss(answers: Iterable[Reply]) -> float:
    """Validation loss per patient over all hospitals."""
    found = list(answers)
    return sum(r.figures["loss"] for r in found) / max(1.0, sum(r.figures["num-examples"] for r in found))


def _statement(grid: MeteredGrid, spec: RunSpec) -> PrivacyStatement:
    if spec.dp is None:
        return PRIVACY
    statement = private.stated(PRIVACY, spec, private.ask_ledgers(grid, spec))
    if spec.dp.noise != "shared":
        return replace(statement, trust="nobody: each hospital's updates have the guarantee even when decrypted")
    honest = spec.dp.honest_sites or len(spec.sites)
    return replace(
        statement, trust=f"{PRIVACY.trust}; {honest} of {len(spec.sites)} hospitals add their part of the noise"
    )
