"""`pettoolkit declare`: the quality declaration of anybody's synthetic tables, from files to text or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.columns import Findings, Reader
from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.tablefile import TableFile, read_table, sha256_of, table_files
from pettoolkit.cohort.tables import DEFAULT_CONTRACT, load_tables
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.cohort.yamlmessages import did_you_mean
from pettoolkit.errors import BadInput
from pettoolkit.experiment.synthesize import MARK
from pettoolkit.records import to_json

if TYPE_CHECKING:
    from pettoolkit.evaluation.quality.figures import Declaration
    from pettoolkit.records import Json

Names = npt.NDArray[np.object_]

_STATES_NOTHING = "not stated"
_SEEDED = "; its noise comes from a seed, so that this table protects nobody"


@dataclass(frozen=True)
class Read:
    """Rows of one or several files with the contract's columns, and the hospital of each row where it is known."""

    rows: pd.DataFrame
    hospital: Names | None


def declare(
    real: Path,
    synthetic: Sequence[Path],
    *,
    contract: Path | None = None,
    holdout: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    quick: bool = False,
    models: bool = False,
    say: Callable[[str, int, int], None] | None = None,
) -> Declaration:
    """Measure synthetic tables against the real one, and write the declaration.

    Nothing is repaired: values out of bounds and unknown levels are counted, in the real table as in the others.

    Parameters
    ----------
    real
        CSV or Parquet of real patients, or a folder of one file per hospital; hourly rows if the contract is hourly.
    synthetic
        CSV or Parquet files with one row per made-up patient; a patient id or a hospital is not needed.
    contract
        YAML contract; ``contract.yaml`` beside the real table if not given.
    holdout
        Real patients that were not used to make the synthetic tables.
    out
        JSON file to write, which must not exist.
    models
        Whether eight models are ranked on each table.
    say
        Gets what is being done, and how many of how many steps are done.

    Raises
    ------
    BadInput
        With all findings about the files.
    """
    from pettoolkit.evaluation.quality.declaration import Given
    from pettoolkit.evaluation.quality.declaration import declare as measured
    from pettoolkit.evaluation.quality.mode import FULL, QUICK, Steps

    _check_asked(synthetic, out)
    contract = contract or _beside(real)
    described = _with_outcome_kind(parse(Contract, contract))
    findings: list[str] = []
    ours, described = _patients(real, described, contract, findings)
    held = None if holdout is None else _patients(holdout, described, contract, findings)[0]
    if held is not None:
        findings += _same_patients(ours.rows, held.rows, described, holdout)
    made = {name: _made(path, described, findings) for name, path in _named(synthetic).items()}
    if findings:
        raise BadInput(findings)
    given = Given(
        real=ours.rows,
        candidates={name: rows for name, (rows, _) in made.items()},
        contract=described,
        real_name=str(real),
        hospital=ours.hospital,
        holdout=None if held is None else held.rows,
        holdout_hospital=None if held is None else held.hospital,
        guarantees={name: said for name, (_, said) in made.items()},
        hashes={name: sha256_of(path) for name, path in _named(synthetic).items()},
    )
    found = measured(given, seed=seed, mode=QUICK if quick else FULL, ranks=models, steps=Steps(say))
    if out is not None:
        _write(as_json(found), out)
    return found


def as_json(declaration: Declaration, indent: int | None = 1) -> str:
    """Write a declaration as JSON; ``pettoolkit/evaluation/quality/declaration.schema.json`` describes it."""
    return json.dumps(_rounded(to_json(declaration)), indent=indent, ensure_ascii=False, allow_nan=False)


def _rounded(value: Json) -> Json:
    """Keep six significant digits, more than any figure of patients deserves."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _check_asked(synthetic: Sequence[Path], out: Path | None) -> None:
    lines = []
    if not synthetic:
        lines.append("--synthetic: name at least one synthetic table")
    twice = [str(path) for path, times in Counter(path.resolve() for path in synthetic).items() if times > 1]
    lines += [f"--synthetic: {path}: is named twice" for path in twice]
    if out is not None and out.exists():
        lines.append(f"{out}: is there already (move it away, or choose another name)")
    if lines:
        raise BadInput(lines)


def _beside(real: Path) -> Path:
    beside = (real if real.is_dir() else real.parent) / DEFAULT_CONTRACT
    if not beside.exists():
        raise BadInput(f"{beside}: there is no contract; name it with --contract (`pettoolkit sites init` drafts one)")
    return beside


def _with_outcome_kind(contract: Contract) -> Contract:
    """Take an outcome that is written as a whole number between 0 and 1 for what it is: yes or no."""
    outcome = contract.outcome
    if outcome.kind != "number" or not outcome.integer or (outcome.low, outcome.high) != (0, 1):
        return contract
    binary = outcome.model_copy(update={"kind": "binary", "low": None, "high": None})
    return contract.model_copy(
        update={"columns": tuple(binary if c.name == outcome.name else c for c in contract.columns)}
    )


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Name tables by their files, with as much of the path as tells them apart."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(paths):
            break
    return dict(zip(names, paths, strict=True))


def _patients(path: Path, described: Contract, contract: Path | None, findings: list[str]) -> tuple[Read, Contract]:
    """Read real patients: one per row, or one per stay of an hourly table after its landmark."""
    if described.grain == "hour":
        rows_of, row = load_tables(path, contract)
        rows = pd.concat(rows_of.values(), ignore_index=True)
        return Read(rows, np.repeat(np.array(list(rows_of), dtype=object), [len(r) for r in rows_of.values()])), row
    files = [read_table(file) for file in table_files(path)]
    needed = [c for c in described.columns if c.role in ("feature", "outcome", "patient_id", "site")]
    wanted = [c for c in needed if c.role != "feature" or c.features != "none"]
    parts = [_columns(file, described, wanted, findings, real=True) for file in files]
    rows = pd.concat(parts, ignore_index=True)
    findings += _repeated(rows, described, path)
    site = described.named("site")
    if site is not None:
        return Read(rows, rows[site].astype(str).to_numpy(dtype=object)), described
    stems = np.array([file.path.stem for file in files], dtype=object)
    return Read(rows, np.repeat(stems, [len(part) for part in parts]) if len(files) > 1 else None), described


def _made(path: Path, described: Contract, findings: list[str]) -> tuple[pd.DataFrame, str]:
    """Read a synthetic table, and what its file states about its guarantee."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name one synthetic table (repeat --synthetic for several)")
    file = read_table(table_files(path)[0])
    wanted = [*described.feature_columns, described.outcome]
    return _columns(file, described, wanted, findings, real=False), _stated(file)


def _columns(
    file: TableFile, contract: Contract, wanted: Sequence[Column], findings: list[str], *, real: bool
) -> pd.DataFrame:
    """Read columns as they are written; what is absent, unknown or of another type is reported."""
    found = Findings()
    known, have = [c.name for c in contract.columns], file.table.column_names
    lines = []
    for name in have:
        if name not in known:
            free = [k for k in known if k not in have]
            hint = did_you_mean(name, free) or "list it in the contract, with role ignored if it is not to be used"
            lines.append(f"{file.header}: {name}: the contract has no such column ({hint})")
    lines += [f"{file.header}: {c.name}: the column is missing" for c in wanted if c.name not in have]
    if not file.table.num_rows:
        lines.append(f"{file.path}: there are no rows in it")
    found.add_lines("problems with columns", lines)
    reader, values = Reader(file, found), {}
    for column in wanted:
        if column.name not in have:
            values[column.name] = np.full(file.table.num_rows, np.nan)
            continue
        values[column.name], missing = reader.as_written(column)
        if real and column.role == "outcome":
            reader.missing(column.name, np.flatnonzero(missing), "a real patient needs an outcome")
    findings += found.lines()
    return pd.DataFrame(values)


def _repeated(rows: pd.DataFrame, contract: Contract, path: Path) -> list[str]:
    name = contract.named("patient_id")
    if name is None or name not in rows or not rows[name].duplicated().any():
        return []
    who = rows[name][rows[name].duplicated()].iloc[0]
    return [f"{path}: {name}: patient {who} is there twice; a declaration needs one row per patient"]


def _same_patients(real: pd.DataFrame, held: pd.DataFrame, contract: Contract, holdout: Path | None) -> list[str]:
    name = contract.named("patient_id")
    if name is None or name not in real or name not in held:
        return []
    shared = int(held[name].isin(real[name]).sum())
    if not shared:
        return []
    return [f"{holdout}: {shared} patients are in the real table too; a holdout must be other patients"]


def _stated(file: TableFile) -> str:
    """Read the guarantee that `pettoolkit synthesize`, or a run for a cell's table, writes into a file."""
    written = (file.table.schema.metadata or {}).get(MARK)
    try:
        said = {} if written is None else json.loads(written)
        private = said["guarantee"] if "guarantee" in said else said["differential_privacy"]
        if private is None or "not_measured" in private:
            return "none"
        seeded = _SEEDED if private.get("simulated_noise") else ""
        return f"epsilon {private['epsilon']:g} at delta {private['delta']:g} (stated in the file{seeded})"
    except (ValueError, TypeError, KeyError, AttributeError):  # somebody else's mark
        return _STATES_NOTHING


def _write(text: str, out: Path) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise BadInput(f"{out}: is there already (move it away, or choose another name)") from None
    except OSError as error:
        raise BadInput(f"{out}: can't be written ({error.strerror})") from None
