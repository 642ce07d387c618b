"""Synthetic data: central training on the pooled synthetic rows of all hospitals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from pettoolkit.arms import private
from pettoolkit.arms.central import ask_validation, encoded, offset_of, received, shifted, table_fault, train_shifted
from pettoolkit.arms.common import contract_of, start, train_fixed
from pettoolkit.arms.encrypted import TRUST
from pettoolkit.arms.exchange import ask
from pettoolkit.arms.released import added_of, figures_of, notes_of, table_of
from pettoolkit.arms.synthetic.pooling import rows_of_all
from pettoolkit.arms.synthetic.summing import rows_of_sums
from pettoolkit.cohort.contract import Contract
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import Rows, to_arrays
from pettoolkit.privacy.statement import COORDINATOR, DOWNSTREAM
from pettoolkit.records import Cost, Json, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="everyone who gets the table: what its rows reveal is measured, not guaranteed",
    leaks_if_collude="the tables of all hospitals together are what everyone already has",
    reversible="rows are made up; rows that resemble a patient too closely can still reveal them",
)


PRIVATE = replace(
    PRIVACY,
    trust="nobody: the rows have the guarantee by themselves, and so has everything trained on them",
    reversible="rows are made up from noisy counts: what they can reveal is bounded by the guarantee",
)

NEEDS_TRUST = "the coordinator, fully: it holds every record (needs trust; one generator on pooled records)"
"""Of ``scope: one_on_pooled``, with or without noise."""

COLLUDE = "the coordinator and any one hospital together can read every hospital's counts"
"""Of ``scope: secure_sum``."""


@dataclass(frozen=True)
class _Collected:
    """Synthetic rows of all hospitals, what is said of them, and the ledgers behind them."""

    tables: tuple[pd.DataFrame, ...]
    rows: Rows
    reported: tuple[Mapping[str, float], ...]
    ledgers: Mapping[str, Mapping[str, Json]]
    encryption: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect synthetic rows (or make them from raw records) and train on them in one place.

    Without DP the epoch is chosen on the hospitals' validation patients. With it (in the generator) they
    are not read: the model of a fixed epoch is taken. With ``dp.target: downstream`` only the training is
    private, with the synthetic rows as unit: that guarantees nothing to patients, and the statement says so.
    """
    began = time.perf_counter()
    contract = contract_of(spec)
    made = _collect(grid, spec, contract)
    private_rows = spec.dp is not None and spec.dp.target == "patients"
    privacy = _trust(spec, PRIVATE if private_rows else PRIVACY)
    figures = figures_of(made.reported)
    offset = offset_of(made.rows, *added_of(figures))
    if spec.dp is None:
        model, _ = train_shifted(spec, contract, made.rows, lambda found: ask_validation(grid, spec, found), offset)
    elif spec.dp.target == "downstream":
        net, initial = start(spec, contract)
        params, _ = private.train_at_coordinator(spec, net, initial, made.rows)
        model = shifted(to_arrays(params), offset)
        privacy = replace(privacy, guarantee=DOWNSTREAM)
    else:
        model = shifted(train_fixed(spec, contract, made.rows), offset)
        privacy = private.stated(privacy, spec, made.ledgers)
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=privacy,
        exposure=grid.exposure(out_of_band=("keys",) if made.encryption else ()),
        cost=Cost(time.perf_counter() - began, extra=made.cost),
        encryption=made.encryption,
        released_table=table_of(made.tables, "synthetic_records", guaranteed=private_rows),
        figures=figures,
        notes=notes_of(figures),
    )


def _collect(grid: MeteredGrid, spec: RunSpec, contract: Contract) -> _Collected:
    if spec.options["scope"] == "one_on_pooled":
        drawn, ledger = rows_of_all(grid, spec, contract)
        ledgers = {} if ledger is None else {COORDINATOR: ledger.summary()}
        reported = ({"rows": float(len(drawn.rows)), **drawn.figures},)
        return _Collected((drawn.rows,), encoded(drawn.rows, contract), reported, ledgers)
    encryption: Mapping[str, float] = {}
    cost: Mapping[str, float] = {}
    if spec.options["scope"] == "secure_sum":
        replies, encryption, cost = rows_of_sums(grid, spec, contract)
    else:
        replies = ask(
            grid,
            spec,
            "rows",
            "training",
            wants="synthetic_records",
            sites=spec.sites,
            fault=table_fault(contract),
        )
    rows = received(replies, contract)
    private_rows = spec.dp is not None and spec.dp.target == "patients"
    return _Collected(
        tuple(reply.table for reply in replies.values()),
        rows,
        tuple(reply.figures for reply in replies.values()),
        private.ask_ledgers(grid, spec) if private_rows else {},
        encryption,
        cost,
    )


def _trust(spec: RunSpec, statement: PrivacyStatement) -> PrivacyStatement:
    if spec.options["scope"] == "one_on_pooled":
        return replace(statement, trust=NEEDS_TRUST, leaks_if_collude="the coordinator alone already has everything")
    if spec.options["scope"] == "secure_sum":
        honest = (
            "" if spec.dp is None else f"; {spec.dp.honest_sites or len(spec.sites)} hospitals add their part of noise"
        )
        return replace(statement, trust=f"{TRUST}{honest}; the table: {statement.trust}", leaks_if_collude=COLLUDE)
    return statement
