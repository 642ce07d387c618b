"""One table of synthetic rows from one table of patients, with what is guaranteed about it."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.tables import DEFAULT_CONTRACT, load_tables
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput, Refused
from pettoolkit.records import DpSpec
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.drawing import Drawn, draw
from pettoolkit.synthesis.protocol import DpBudget, Generator
from pettoolkit.synthesis.release_filter import release_filter as release_filter_of

if TYPE_CHECKING:
    from pettoolkit.records import Json

EPOCHS = ("ctgan", "tvae")
"""Generators that are fitted in epochs."""

FILTERS = ("none", "exact", "close")

DELTA = 1e-5
"""Of differential privacy, if not written."""

SEED_UNUSED = "Note: --seed is not used with --epsilon: noise that a seed repeats would protect nobody."

RESAMPLES = 20
"""Of the patients whom a filter's loss is scored on; only the figure itself is shown."""

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
    delta: float = DELTA,
    rows: int | None = None,
    seed: int | None = None,
    fit_epochs: int | None = None,
    release_filter: str = "none",
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
    fit_epochs
        Of ``ctgan`` and ``tvae``: passes over the patients.
    release_filter
        ``exact`` holds back rows that repeat a patient, ``close`` also those too close to one; not with ``epsilon``.

    Raises
    ------
    BadInput
        If something asked for is not possible, or ``out`` is there already.
    Refused
        If the patients are too few, or have several rows under differential privacy.
    """
    _check_asked(out, generator, epsilon, rows, seed)
    _check_dials(generator, epsilon, fit_epochs, release_filter)
    if epsilon is None and delta != DELTA:
        raise BadInput("--delta: belongs to --epsilon; give both, or none of them")
    maker = protocol.create(generator, **({} if fit_epochs is None else {"epochs": fit_epochs}))
    patients, described = _patients(real, contract)
    budget = None if epsilon is None else _budget(patients, described, epsilon, delta)
    narrowed = described.select("full")
    unused = seed is not None and budget is not None
    seed = secrets.randbits(32) if seed is None or unused else seed
    maker.fit(patients, narrowed, seed=seed, dp=budget)
    drawn = draw(maker, narrowed, len(patients) if rows is None else rows, seed=seed + 1)
    made, held_back = _filtered(drawn.rows, patients, narrowed, release_filter)
    guarantee = _guarantee(maker, generator, epsilon, delta, len(patients))
    _write(made, guarantee, out)
    lines = [*_lines(made, maker, drawn, guarantee, out), *held_back]
    return Synthesized(made, guarantee, (*lines, *([SEED_UNUSED] if unused else [])))


def _check_asked(out: Path, generator: str, epsilon: float | None, rows: int | None, seed: int | None) -> None:
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
    if seed is not None and seed < 0:
        lines.append(f"--seed: must be at least 0 (got {seed})")
    if out.suffix.lower() != ".parquet":
        lines.append(f"--out: must end in .parquet, which keeps the guarantee beside the rows (got {out})")
    if out.exists():
        lines.append(f"{out}: is there already (move it away, or choose another name)")
    elif not out.parent.is_dir():
        lines.append(f"--out: there is no folder {out.parent} (make it first)")
    if lines:
        raise BadInput(lines)


def _check_dials(generator: str, epsilon: float | None, fit_epochs: int | None, release_filter: str) -> None:
    lines = []
    if epsilon is None and generator in protocol.ONLY_DP:
        lines.append(f"--generator: {generator} exists with differential privacy only; give --epsilon")
    if fit_epochs is not None and generator not in EPOCHS:
        lines.append(f"--fit-epochs: belongs to {' and '.join(EPOCHS)}, not to {generator}")
    if fit_epochs is not None and fit_epochs < 1:
        lines.append(f"--fit-epochs: must be at least 1 (got {fit_epochs})")
    if release_filter not in FILTERS:
        lines.append(f"--filter: must be one of {', '.join(FILTERS)} (got {release_filter})")
    elif release_filter != "none" and epsilon is not None:
        lines.append("--filter: reads real rows to decide, which no --epsilon covers; leave one of them out")
    if lines:
        raise BadInput(lines)


def _filtered(
    made: pd.DataFrame, patients: pd.DataFrame, contract: Contract, wanted: str
) -> tuple[pd.DataFrame, list[str]]:
    if wanted == "none":
        return made, []
    kept = release_filter_of(made, patients, contract, "close" if wanted == "close" else "exact")
    if kept.rows.empty:
        raise Refused("--filter: holds back every row (take a less faithful generator, or --filter exact)")
    before, after = (_utility(table, patients, contract) for table in (made, kept.rows))
    return kept.rows, [
        f"Held back: {kept.exact} rows that repeat a patient, {kept.close} too close to one",
        f"Utility before: {before}; after: {after} (a logistic regression trained on the rows, scored on the patients "
        "that they were made from)",
    ]


def _utility(table: pd.DataFrame, patients: pd.DataFrame, contract: Contract) -> str:
    """What a simple model learns from a table about the patients."""
    from pettoolkit.evaluation.quality.scores import HeldOut, scored_classes, scored_number
    from pettoolkit.evaluation.quality.tables import Table, checked, classes_of, labelled, task_of
    from pettoolkit.evaluation.quality.utility import train_and_answer

    rows, test = (Table.of(checked(frame, contract, "a table", 1), contract) for frame in (table, patients))
    test = test.take(np.flatnonzero(labelled(test.y)))
    answers = train_and_answer("logistic", rows, test, contract, seed=0)
    if answers is None:
        return "no model can be trained on the rows"
    number = task_of(contract) == "number"
    held_out = HeldOut(test.y, np.arange(len(test)), classes_of(contract), RESAMPLES)
    scored = (
        scored_number(held_out, answers.probabilities)
        if number
        else scored_classes(held_out, answers.probabilities, answers.decided)
    )
    name = "R2" if number else "AUROC"
    return f"{name} {scored.headline:.3f}" if isinstance(scored.headline, float) else f"{name} {scored.headline.reason}"


def _check_outcome(contract: Path) -> None:
    """See that the outcome is yes or no, before each of its values is called wrong."""
    if not contract.exists():
        return  # whoever reads the table says so
    outcome = parse(Contract, contract).outcome
    if outcome.kind != "binary":
        raise BadInput(
            f"{contract}: {outcome.name}: the outcome is a {outcome.kind}; rows are made for outcomes of kind binary, "
            "0 or 1 (`pettoolkit declare` takes any)"
        )


def _patients(real: Path, contract: Path | None) -> tuple[pd.DataFrame, Contract]:
    _check_outcome(contract or real.parent / DEFAULT_CONTRACT)
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
    conditions.check(DpSpec(epsilon, delta), sites=1, patients=len(patients), patient_known=name is not None)
    return DpBudget.for_epsilon(epsilon, delta, SystemNoise().generator(Draw("synthetic rows")), len(patients))


def _guarantee(maker: Generator, generator: str, epsilon: float | None, delta: float, patients: int) -> dict[str, Json]:
    said: dict[str, Json] = {"generator": generator, "synthetic": True, "schema_version": 1}
    if epsilon is None:
        return said | {"differential_privacy": None}
    from pettoolkit.privacy.accounting import REPLACE_ONE, compose

    replaced = compose([protocol.one_mechanism(maker.events)], delta, REPLACE_ONE)
    return said | {
        "differential_privacy": {
            "epsilon": epsilon,
            "epsilon_replace_one": replaced,
            "delta": delta,
            "unit": "patient",
            "adjacency": "add or remove one patient",
            "mechanism": "sums over patients with Gaussian noise of the system's entropy",
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


def _lines(made: pd.DataFrame, maker: Generator, drawn: Drawn, guarantee: dict[str, Json], out: Path) -> list[str]:
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
    lines += [f"Note: {note}" for note in drawn.notes]
    for when, what in (("drawn/", "Rules broken by rows as they were drawn"), ("left/", "Rules broken by the table")):
        broken = {n.removeprefix(when): v for n, v in drawn.figures.items() if n.startswith(when) and v}
        lines += [f"{what}: {rule}: {count:.0f}" for rule, count in broken.items()]
    if clipped := drawn.figures.get("clipped"):
        lines.append(f"Values clipped to the contract's bounds: {clipped:.0f}")
    return lines
