"""Anonymised: central training on the generalised records of all hospitals."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pettoolkit.arms.central import ask_validation, received, table_fault
from pettoolkit.arms.common import contract_of, train_here
from pettoolkit.arms.exchange import Reply, ask
from pettoolkit.arms.released import table_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy (k-anonymity is no bound on what rows reveal)"),
    trust="everyone who gets the table: it holds real patients, generalised and otherwise as they are",
    leaks_if_collude="two tables on the same patients can single out people whom each hides among k",
    reversible="whoever knows enough of a patient finds the group of k, and what its members have in common",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect anonymised rows and train on them; the hospitals' validation patients choose the epoch."""
    began = time.perf_counter()
    contract = contract_of(spec)
    check(spec, contract)
    replies = ask(
        grid,
        spec,
        "records",
        "training",
        wants="anonymised_records",
        sites=spec.sites,
        fault=table_fault(contract),
    )
    rows = received(replies, contract)
    model, _ = train_here(spec, contract, rows, lambda made: ask_validation(grid, spec, made))
    figures, notes = achieved(replies)
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=PRIVACY,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        released_table=table_of([reply.table for reply in replies.values()], "anonymised_records", guaranteed=False),
        figures=figures,
        notes=notes,
    )


def check(spec: RunSpec, contract: Contract) -> None:
    """See that there is something to generalise.

    Raises
    ------
    BadInput
        If only quasi-identifiers are to be generalised and the contract has none.
    """
    if spec.options["scope"] == "quasi_identifiers" and not any(c.quasi_identifier for c in contract.feature_columns):
        raise BadInput(
            f"anonymised: contract {contract.name} has no feature with quasi_identifier: true "
            "(mark some, or write scope: all)"
        )


def achieved(replies: Mapping[str, Reply]) -> tuple[dict[str, float], tuple[str, ...]]:
    """The least that any hospital achieved, as metrics and in words.

    Returns
    -------
    figures, notes
        ``anonymity/k`` and ``anonymity/l_diversity`` are the smallest, ``anonymity/t_closeness`` the largest over
        hospitals and columns (the outcome, and sensitive columns that were not generalised).
    """
    least, ell = min(_named(replies, "k")), min(_named(replies, "l/"))
    close = max(_named(replies, "t/"))
    groups = sum(reply.figures["groups"] for reply in replies.values())
    widths = [v for reply in replies.values() for name, v in reply.figures.items() if name.startswith("width/")]
    figures = {
        "anonymity/k": least[0],
        "anonymity/l_diversity": ell[0],
        "anonymity/t_closeness": close[0],
        "anonymity/groups": groups,
        "anonymity/interval_width": sum(widths) / len(widths),
    }
    notes = (
        f"k = {least[0]:.0f} achieved (smallest group, hospital {least[2]}), {groups:.0f} groups in all",
        f"l-diversity {ell[0]:.0f} ({ell[1]}, hospital {ell[2]}): the fewest different values in a group",
        f"t-closeness {close[0]:.2f} ({close[1]}, hospital {close[2]}): 0 is each group like its hospital",
    )
    return figures, notes


def _named(replies: Mapping[str, Reply], prefix: str) -> list[tuple[float, str, str]]:
    """Figures whose name starts so, as (value, column, hospital)."""
    return [
        (value, name.removeprefix(prefix), site)
        for site, reply in replies.items()
        for name, value in reply.figures.items()
        if name.startswith(prefix)
    ]
