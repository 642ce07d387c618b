"""Encrypted aggregation: the coordinator adds ciphertexts. It holds no key, so it can do nothing else."""

from __future__ import annotations

import time
from dataclasses import replace

from pettoolkit.arms import private
from pettoolkit.arms.adding import Additions
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.exchange import ask
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

    Without DP that of the round that validation patients like best, which the hospitals find out among themselves (so
    there is one sum more, for the last loss); under DP the mean over the last half.
    """
    began = time.perf_counter()
    scheme, layout = scheme_of(spec, contract_of(spec))
    patients, noisy = private.ask_patients(grid, spec), spec.dp is not None
    rounds, extra = int(settings_of(spec, patients)["rounds"]), {"patients": patients}
    additions = Additions(grid, spec, scheme)
    for number in range(1, rounds + (1 if noisy else 2)):
        additions.round(number, extra)
    first = min(spec.sites)
    released = ask(
        grid,
        spec,
        "release",
        "release",
        wants="model",
        sites=(first,),
        extra=extra,
        expect=dict(zip(layout.names, layout.shapes, strict=True)),
    )
    figures = released[first].figures
    chosen = (
        f"mean over the last half of {rounds} rounds" if noisy else f"round {figures['round']:.0f} of {rounds} kept"
    )
    return Outcome(
        models=Models({Models.SHARED: Weights.of(released[first].arrays)}),
        privacy=_statement(grid, spec),
        exposure=grid.exposure(out_of_band=("keys",)),
        cost=Cost(time.perf_counter() - began, extra=additions.cost()),
        rounds=rounds,
        encryption=additions.parameters(figures),
        notes=(f"{chosen}; released by hospital {first} with flooding noise",),
    )


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
