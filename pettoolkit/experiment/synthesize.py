"""One table of synthetic rows from one table of patients, with what is guaranteed about it."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.tables import load_tables
from pettoolkit.errors import BadInput, Refused
from pettoolkit.records import DpSpec
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.protocol import DpBudget, Generator
from pettoolkit.synthesis.rows import violations

if TYPE_CHECKING:
    from pettoolkit.records import Json

MARK = b"pettoolkit"
"""Key of the Parquet file's metadata under which the guarantee is written, as JSON."""


@dataclass(frozen=True)
class Synthesized:
    """Synthetic rows and what must be said with them.

    ``guarantee`` is what is written into the file; ``lines`` are for the person who made it.
    """

    rows: pd.DataFrame
    guarantee: dict[str, Json]
    lines: tuple[str, ...]


def synthesize(
    real: Path,
    out: Path,
    *,
    generator: str,
    contract: Path | None = None,
    epsilon: float | None = None,
    delta: float = 1e-5,
    rows: int | None = None,
    seed: int | None = None,
) -> Synthesized:
    """Fit a generator on a table and write synthetic rows.

    Parameters
    ----------
    real, contract
        See :func:`pettoolkit.cohort.tables.load_tables`; all hospitals of the table are taken together.
    out
        Parquet file, which must not exist.
    epsilon, delta
        Differential privacy of the rows for adding or removing one patient; None for none. Its noise comes from the
        system, never from a seed.
    rows
        How many to make; None makes as many as there are patients.
    seed
        Repeats the table if there is no differential privacy.

    Raises
    ------
    BadInput
        If something asked for is not possible, or ``out`` is there already.
    Refused
        If the patients are too few, or have several rows under differential privacy.
    """
    _check_asked(out, generator, epsilon, rows)
    maker = protocol.create(generator)
    patients, described = _patients(real, contract)
    budget = None if epsilon is None else _budget(patients, described, epsilon, delta)
    narrowed = described.select("full")
    seed = secrets.randbits(32) if seed is None or budget is not None else seed
    maker.fit(patients, narrowed, seed=seed, dp=budget)
    made = maker.sample(len(patients) if rows is None else rows, seed=seed + 1)
    guarantee = _guarantee(maker, generator, epsilon, delta, len(patients))
    _write(made, guarantee, out)
    return Synthesized(made, guarantee, tuple(_lines(made, maker, narrowed, guarantee, out)))


def _check_asked(out: Path, generator: str, epsilon: float | None, rows: int | None) -> None:
    lines = []
    if generator not in protocol.names():
        lines.append(f"--generator: must be one of {', '.join(protocol.names())} (got {generator})")
    if epsilon is not None and not (math.isfinite(epsilon) and epsilon > 0):
        lines.append(f"--epsilon: must be greater than 0 (got {epsilon})")
    elif epsilon is not None and generator in protocol.names() and generator not in protocol.WITH_DP:
        able = " or ".join(sorted(protocol.WITH_DP))
        lines.append(f"--epsilon: generator {generator} has no differential privacy; take --generator {able}")
    if rows is not None and rows < 1:
        lines.append(f"--rows: must be at least 1 (got {rows})")
    if out.suffix.lower() != ".parquet":
        lines.append(f"--out: must end in .parquet, which keeps the guarantee beside the rows (got {out})")
    if out.exists():
        lines.append(f"{out}: is there already (move it away, or choose another name)")
    if lines:
        raise BadInput(lines)


def _patients(real: Path, contract: Path | None) -> tuple[pd.DataFrame, Contract]:
    rows_of, described = load_tables(real, contract)
    return pd.concat(rows_of.values(), ignore_index=True), described


def _budget(patients: pd.DataFrame, contract: Contract, epsilon: float, delta: float) -> DpBudget:
    from pettoolkit.privacy import conditions
    from pettoolkit.privacy.noise import Draw, SystemNoise

    name = contract.named("patient_id")
    if name is not None and patients[name].duplicated().any():
        raise Refused(
            "--epsilon: some patients have several rows, and a generator protects one row (keep one row per patient)"
        )
    conditions.check(DpSpec(epsilon, delta), sites=1, smallest=len(patients), patient_known=name is not None)
    return DpBudget.for_epsilon(epsilon, delta, SystemNoise().generator(Draw("synthetic rows")))


def _guarantee(maker: Generator, generator: str, epsilon: float | None, delta: float, patients: int) -> dict[str, Json]:
    said: dict[str, Json] = {"generator": generator, "synthetic": True, "schema_version": 1}
    if epsilon is None:
        return said | {"differential_privacy": None}
    from pettoolkit.privacy.accounting import gaussian_epsilon

    mu = math.sqrt(2 * protocol.total_rho(maker.events))
    return said | {
        "differential_privacy": {
            "epsilon": epsilon,
            "epsilon_replace_one": gaussian_epsilon(mu * math.sqrt(2), delta),
            "delta": delta,
            "unit": "patient",
            "adjacency": "add or remove one patient",
            "mechanism": f"{len(maker.events)} sums with Gaussian noise of the system's entropy",
            "assumptions": [f"the number of patients ({patients}) is public", "each patient has one row"],
        }
    }


def _write(made: pd.DataFrame, guarantee: dict[str, Json], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(made, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), MARK: json.dumps(guarantee).encode()}
    try:
        with out.open("xb") as file:  # never over a table that appeared meanwhile
            pq.write_table(table.replace_schema_metadata(metadata), file)
    except FileExistsError:
        raise BadInput(f"{out}: is there already (move it away, or choose another name)") from None
    except OSError as error:
        raise BadInput(f"{out}: can't be written ({error.strerror})") from None


def _lines(
    made: pd.DataFrame, maker: Generator, contract: Contract, guarantee: dict[str, Json], out: Path
) -> list[str]:
    lines = [f"wrote {out}: {len(made)} synthetic rows, {len(made.columns)} columns"]
    private = guarantee["differential_privacy"]
    if private is None:
        lines.append("Guaranteed: nothing. Rows may resemble patients: keep the table internal until that is measured.")
    else:
        lines.append(
            f"Guaranteed: epsilon {private['epsilon']:g} at delta {private['delta']:g} for adding or removing one "
            f"patient ({private['epsilon_replace_one']:.3g} for replacing one), if "
            f"{' and '.join(private['assumptions'])}."
        )
        lines.append(
            "Each further table of the same patients adds to it; choices made by looking at them are not covered."
        )
    lines += [f"Note: {note}" for note in maker.notes]
    broken = {what: count for what, count in {**maker.counts, **violations(made, contract)}.items() if count}
    lines += [f"Rules broken: {what}: {count}" for what, count in broken.items()]
    return lines
