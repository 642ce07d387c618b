"""Outside: one generator fitted on the raw records of all hospitals, which takes full trust in the coordinator.

The reference that shows what one generator per hospital costs. Under differential privacy the coordinator makes the
noise, and one ledger covers the patients of all hospitals.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from pettoolkit.arms.central import received, table_fault
from pettoolkit.arms.exchange import TABLE, ask
from pettoolkit.arms.generators import balance_of, generator_of
from pettoolkit.arms.private import budget_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import Refused
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.seeding import derived_seed
from pettoolkit.privacy import conditions
from pettoolkit.privacy.events import Identity
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.noise import Draw, SeededNoise, SystemNoise
from pettoolkit.privacy.statement import COORDINATOR
from pettoolkit.records import RunSpec
from pettoolkit.synthesis.drawing import Drawn, draw
from pettoolkit.synthesis.protocol import DpBudget, Generator, one_mechanism

PURPOSE = "synthetic rows"
LABEL = "on pooled records"


def rows_of_all(grid: MeteredGrid, spec: RunSpec, contract: Contract) -> tuple[Drawn, Ledger | None]:
    """Collect raw records, fit one generator, draw as many rows as there are records (or ``rows`` per hospital).

    Raises
    ------
    Refused
        Under differential privacy, if a patient has several rows.
    """
    name, tables = contract.named("patient_id"), {}
    replies = ask(
        grid,
        spec,
        "records",
        "training",
        wants="raw_records",
        sites=spec.sites,
        extra={"part": "train"},
        fault=table_fault(contract, name if spec.dp is not None else None),
    )
    for site, reply in replies.items():
        table = reply.table
        if spec.dp is not None and name is not None and name in table:
            if table[name].duplicated().any():
                raise Refused(
                    f"hospital {site}: some patients have several rows, and a generator protects one row "
                    "(keep one row per patient, or take arm: pooled)"
                )
            table = table.drop(columns=name)
        tables[site] = replace(reply, tables={TABLE: table})
    received(tables, contract)  # names the hospital whose table is unusable
    pooled = pd.concat([reply.table for reply in tables.values()], ignore_index=True)
    per_hospital = spec.options["rows"]
    n = len(pooled) if per_hospital is None else int(per_hospital) * len(tables)
    generator = generator_of(spec.options)
    seeds = tuple(derived_seed(spec.seed, what, LABEL) for what in ("fit", "sample"))
    if spec.dp is None or spec.dp.target != "patients":
        generator.fit(pooled, contract, seed=seeds[0], dp=None)
        return draw(generator, contract, n, seed=seeds[1], balance=balance_of(spec.options)), None
    simulated = not any(reply.figures.get("system_noise") for reply in replies.values())
    ledger = _fit_privately(generator, pooled, contract, spec, seeds[0], simulated=simulated)
    return draw(generator, contract, n, seed=seeds[1], balance=balance_of(spec.options)), ledger


def _fit_privately(
    generator: Generator, pooled: pd.DataFrame, contract: Contract, spec: RunSpec, seed: int, *, simulated: bool
) -> Ledger:
    dp = budget_of(spec)
    conditions.check(dp, sites=len(spec.sites), patients=len(pooled))
    noise = SeededNoise(spec.seed, COORDINATOR, "central") if simulated else SystemNoise()
    budget = DpBudget.for_epsilon(dp.epsilon, dp.delta, noise.generator(Draw(PURPOSE)), len(pooled))
    mechanism = one_mechanism(generator.plan(contract, budget))
    ledger = Ledger(COORDINATOR, spec.run_id, Budget(dp.epsilon, dp.delta), mechanism)

    def fit(_: int) -> bytes:
        generator.fit(pooled, contract, seed=seed, dp=budget)
        return b""  # the generator stays in this process

    ledger.answer(
        Identity(spec.run_id, COORDINATOR, 0, PURPOSE, spec.run_id), mechanism, fit, simulated=noise.simulated
    )
    return ledger
