"""From a fitted generator to the table that may leave: rows drawn, physiology restored, a rare group filled up.

All of it looks at drawn rows and public rules only, so that under differential privacy it is post-processing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.protocol import Generator
from pettoolkit.synthesis.rows import PRESSURES, number, violations

TRIES = 30
"""Times the table's size that are drawn at most to find rows of a rare group."""


@dataclass(frozen=True)
class Balance:
    """Add rows of a group until it has this share of the table.

    Parameters
    ----------
    column
        The outcome, or a feature.
    to
        Share of the table's rows, between 0 and 1.
    level
        The class or level of a binary column or category; None: the one that is rarest in the drawn rows.
    at_least
        For a number column: the group are rows with this value or more.
    """

    column: str
    to: float
    level: str | int | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.to < 1:
            raise BadInput(f"balance.to: must lie between 0 and 1 (got {self.to})")

    def check(self, contract: Contract) -> None:
        """See that the contract has such a group.

        Raises
        ------
        BadInput
            If it does not; the line says what is there.
        """
        known = {c.name: c for c in (*contract.feature_columns, contract.outcome)}
        column = known.get(self.column)
        if column is None:
            raise BadInput(f"balance.column: no feature or outcome {self.column} (there are {', '.join(known)})")
        if column.kind == "number":
            if self.at_least is None or self.level is not None:
                raise BadInput(f"balance: {self.column} is a number; say where its group begins (at_least: VALUE)")
            return
        levels: tuple[object, ...] = (0, 1) if column.kind == "binary" else column.levels
        if self.at_least is not None:
            raise BadInput(f"balance: {self.column} is no number; name a level (one of {_listed(levels)})")
        if self.level is not None and self.level not in levels:
            raise BadInput(f"balance.level: {self.column} has levels {_listed(levels)} (got {self.level})")

    def resolved(self, rows: pd.DataFrame, contract: Contract) -> Balance:
        """The same with its level: the rarest of the drawn rows if none is written."""
        if self.at_least is not None or self.level is not None:
            return self
        column = next(c for c in (*contract.feature_columns, contract.outcome) if c.name == self.column)
        levels: tuple[str | int, ...] = (0, 1) if column.kind == "binary" else column.levels
        return replace(self, level=min(levels, key=lambda level: int((rows[self.column] == level).sum())))

    def members(self, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows are of the group, shape (n,)."""
        if self.at_least is not None:
            return np.asarray(number(rows, self.column) >= self.at_least)
        return (rows[self.column] == self.level).to_numpy(dtype=bool)

    @property
    def group(self) -> str:
        """Name of the group."""
        return f"{self.column} >= {self.at_least:g}" if self.at_least is not None else f"{self.column} = {self.level}"


@dataclass(frozen=True)
class Drawn:
    """A table with what must be said of it.

    ``figures`` count values or rows: ``drawn/<rule>`` are rules of contract and physiology that drawn rows broke,
    ``left/<rule>`` those that the table still breaks, ``clipped`` values that lay beyond the bounds, ``added`` rows of
    the group of ``balance``, ``added_positive`` those of them with the outcome 1.
    """

    rows: pd.DataFrame
    figures: Mapping[str, float]
    notes: tuple[str, ...] = field(default=())


def draw(generator: Generator, contract: Contract, n: int, *, seed: int, balance: Balance | None = None) -> Drawn:
    """Draw ``n`` rows, and more of the group that ``balance`` names.

    Pressures whose order is impossible (MAP not between DBP and SBP) are put in order within their row; how many rows
    broke that rule as they were drawn is counted.
    """
    rows = generator.sample(n, seed=seed)
    figures: dict[str, float] = {name: float(count) for name, count in generator.counts.items()}
    notes: list[str] = []
    if balance is not None:
        more, note = _wanted(generator, rows, contract, balance, seed)
        figures |= {"added": float(len(more)), "added_positive": float((more[contract.outcome.name] == 1).sum())}
        rows = pd.concat([rows, more], ignore_index=True)
        notes.append(note)
    figures |= {f"drawn/{rule}": float(count) for rule, count in violations(rows, contract).items()}
    rows = order_pressures(rows, contract)
    figures |= {f"left/{rule}": float(count) for rule, count in violations(rows, contract).items()}
    return Drawn(rows, figures, tuple(notes))


def order_pressures(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Put each row's present pressures in order, DBP <= MAP <= SBP: values are kept, only swapped within the row.

    Rows in order stay as they are, and so do missing values. Where a swapped value would break its new column's
    bounds, the row is left alone and goes on being counted.
    """
    known = {c.name: c for c in contract.feature_columns}
    if not set(PRESSURES) <= set(known):
        return rows
    values = np.column_stack([number(rows, name) for name in PRESSURES])
    present = ~np.isnan(values)
    ordered = np.full_like(values, np.nan)
    # sorted values (NaN last) go to the present columns from left to right
    place = np.cumsum(present, axis=1) - 1
    ranked = np.sort(values, axis=1)
    ordered[present] = np.take_along_axis(ranked, np.maximum(place, 0), axis=1)[present]
    low = np.array([known[name].low for name in PRESSURES], dtype=np.float64)
    high = np.array([known[name].high for name in PRESSURES], dtype=np.float64)
    fits = (~present | ((ordered >= low) & (ordered <= high))).all(axis=1)
    changed = fits & (present & (ordered != values)).any(axis=1)
    values[changed] = ordered[changed]
    return rows.assign(**{name: values[:, j] for j, name in enumerate(PRESSURES)})


def _wanted(
    generator: Generator, rows: pd.DataFrame, contract: Contract, balance: Balance, seed: int
) -> tuple[pd.DataFrame, str]:
    """Draw more rows of the group; with g of n rows, ``(to n - g) / (1 - to)`` more make the share ``to``."""
    balance.check(contract)
    chosen = balance.resolved(rows, contract)
    inside = chosen.members(rows)
    wanted = max(0, round((balance.to * len(rows) - inside.sum()) / (1 - balance.to)))
    found: list[pd.DataFrame] = []
    missing = wanted
    for turn in range(TRIES):
        if missing <= 0:
            break
        more = generator.sample(len(rows), seed=seed + 1 + turn)
        hits = more[chosen.members(more)].iloc[:missing]
        found.append(hits)
        missing -= len(hits)
    added = wanted - missing
    note = f"{added} rows of {chosen.group} added for a share of {balance.to:g}"
    if missing:
        note += f" ({missing} more were wanted: the generator hardly makes any)"
    return pd.concat([rows.iloc[:0], *found], ignore_index=True).astype(rows.dtypes), note


def _listed(levels: tuple[object, ...]) -> str:
    return ", ".join(map(str, levels))
