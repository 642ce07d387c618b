"""CPU seconds of the attacks on a released table: 10,000 rows of 23 columns, 5,000 attacks of each kind.

    python benchmarks/attacks_tables.py [--rows 10000] [--attacks 5000]

Half of the released rows are copies of members, the others are fresh; a third of the values are missing. The bar is 90
CPU seconds for all attacks together. The neighbour search is timed against anonymeter's own beside it (numba's
compilation apart), on the same columns.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch

from pettoolkit.attacks.protocol import Effort, Group, NotRun, People, TableView, attacks_for
from pettoolkit.attacks.tables.gower import nearest
from pettoolkit.attacks.tables.released import place, read_spans
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.landmark import row_contract
from pettoolkit.synthesis.rows import from_unit

BAR = 90.0
MISSING = 1 / 3


def patients(contract: Contract, n: int, seed: int) -> pd.DataFrame:
    """Made-up patients: numbers around the middle of their public range, some correlation, a third missing."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(n)
    out: dict[str, object] = {}
    for column in contract.feature_columns:
        if column.kind == "number":
            unit = np.clip(0.5 + 0.06 * severity + 0.12 * rng.standard_normal(n), 0, 1)
            values = np.round(from_unit(unit, column), 2)
        else:
            values = (rng.random(n) < 0.5).astype(float)
        if column.missing == "indicator":
            values[rng.random(n) < MISSING] = np.nan
        out[column.name] = values
    out[contract.outcome.name] = (rng.random(n) < 0.05).astype(np.int8)
    return pd.DataFrame(out)


def main() -> None:
    """Time each attack, then the search for neighbours against anonymeter's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--attacks", type=int, default=5_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    contract = row_contract(builtin_contract()).select("compact")
    n = asked.rows
    rows = [patients(contract, size, seed) for seed, size in enumerate((n, n, n // 2))]
    groups = [Group(r, np.arange(len(r)) + i * n, np.full(len(r), "*")) for i, r in enumerate(rows)]
    released = pd.concat([rows[0].iloc[: n // 2], patients(contract, n - n // 2, 9)], ignore_index=True)
    view = TableView(contract, releases={"released": released}, source="raw")
    total = 0.0
    for attack in attacks_for(view):
        start = time.process_time()
        try:
            (found,) = attack.run(view, People(*groups), Effort(attacks=asked.attacks))
        except NotRun as why:
            print(f"{attack.name:30} not run: {why}")
            continue
        seconds = time.process_time() - start
        total += seconds
        print(f"{attack.name:30} {seconds:6.2f} CPU s  {found.figure.achieved:6d} attacks  {found.figure.excess:5.2f}")
    print(f"{'all':30} {total:6.2f} CPU s  (bar {BAR:.0f})")
    print("\n".join(_neighbours(contract, rows[0], rows[1].iloc[:500])))


def _neighbours(contract: Contract, released: pd.DataFrame, asked: pd.DataFrame) -> list[str]:
    import anonymeter.evaluators  # noqa: F401  (before neighbors: they import each other)
    from anonymeter.neighbors.mixed_types_kneighbors import MixedTypeKNeighbors

    columns = tuple(c for c in contract.feature_columns if c.kind == "number")
    names = [c.name for c in columns]
    plain = [pd.DataFrame(np.nan_to_num(place(rows, columns), nan=0.5), columns=names) for rows in (released, asked)]
    search = MixedTypeKNeighbors(n_neighbors=1, n_jobs=1).fit(plain[0])
    search.kneighbors(plain[1].iloc[:5])  # numba compiles
    start = time.process_time()
    search.kneighbors(plain[1])
    theirs = time.process_time() - start
    values, spans = place(asked, columns), read_spans(released, columns)
    start = time.process_time()
    nearest(values, spans)
    ours = time.process_time() - start
    return [f"nearest of {len(released)} rows for {len(asked)} patients: {ours:.2f} CPU s, anonymeter {theirs:.2f}"]


if __name__ == "__main__":
    main()
