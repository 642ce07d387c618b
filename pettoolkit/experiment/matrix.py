"""From an experiment file to its cells, and what makes a cell the same cell again.

Cells are the product of the matrix, the arms, the unseen hospitals (``each`` counts one by one) and the seeds.
A cell that can't exist is an error where it is written, and an excluded cell where a matrix made it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from pettoolkit.arms.keys import ArmKeys
from pettoolkit.errors import BadInput
from pettoolkit.experiment.cells import Cell
from pettoolkit.experiment.config import EACH, CellKeys, DpKeys, EvaluationKeys, ExperimentConfig
from pettoolkit.privacy.conditions import NOBODYS_ROWS
from pettoolkit.records import DpSpec, Json, RunSpec, digest_of, to_json

Sites = Sequence[str] | None
Loc = tuple[str | int, ...]

SAME = "the same as an earlier cell: what the matrix varies makes no difference here"


def expand(config: ExperimentConfig, sites: Sites) -> tuple[Cell, ...]:
    """All cells of an experiment, the excluded ones with their reason.

    Parameters
    ----------
    sites
        The hospitals of the loaded cohort. ``spec.sites`` of a cell are those that train in it and
        ``spec.unseen`` those that are only tested on. None while the cohort is not loaded, to count cells:
        ``spec.sites`` are empty then, and ``unseen: each`` counts once.

    Raises
    ------
    BadInput
        If the file names a hospital that is not there, or writes a cell that can't exist.
    """
    lines = (sites is not None and unknown_sites(config, sites)) or refusals(config, sites)
    if lines:
        raise BadInput(lines)
    cells: list[Cell] = []
    seen: set[str] = set()
    for keys in variants(config):
        for _, arm in config.written_arms:
            for unseen, seed in itertools.product(_unseen(keys.evaluation, sites), config.seeds):
                spec = _spec(config, keys, arm, sites, unseen, seed)
                refused = _refusal(keys, arm, spec, sites)
                reason = refused[1] if refused else _excluded(config, spec, keys)
                if reason is None and sites is not None:
                    identity = digest_of(to_json(spec))
                    reason = SAME if identity in seen else None
                    seen.add(identity)
                cells.append(Cell(spec, reason))
    return tuple(cells)


def without_nobodys_rows(config: ExperimentConfig, cells: Sequence[Cell], patients_known: bool) -> tuple[Cell, ...]:
    """Exclude differential privacy for patients from a table that does not say whose its rows are.

    Raises
    ------
    BadInput
        If the file writes it for all of its cells.
    """
    reason = NOBODYS_ROWS.removeprefix("dp: ")
    refused = [not patients_known and c.spec.dp is not None and c.spec.dp.target == "patients" for c in cells]
    if cells and all(refused):
        raise BadInput([config.finding(("dp",), reason)])
    pairs = zip(cells, refused, strict=True)
    return tuple(replace(c, excluded=c.excluded or (reason if nobodys else None)) for c, nobodys in pairs)


def config_hash(spec: RunSpec, digests: Mapping[str, str], contract_digest: str, result_version: int) -> str:
    """SHA-256 (hex) of all that decides a cell's numbers; a finished cell with the same hash is not run again.

    Covers the resolved spec, the digest of each of its hospitals' tables, the resolved contract and the version of the
    results; not paths, engine, the experiment's name, or tracking.

    Parameters
    ----------
    digests
        Hospital to digest of its table; those of other cells' hospitals do not count.

    Raises
    ------
    KeyError
        If a hospital of the cell has no digest.
    """
    resolved = spec.wire()
    for name in ("contract", "contract_digest", "experiment", "schema_version"):
        del resolved[name]
    tables = {site: digests[site] for site in (*spec.sites, *spec.unseen)}
    return digest_of(
        {"spec": resolved, "tables": tables, "contract": contract_digest, "result_version": result_version}
    )


def spec_hash(spec: RunSpec) -> str:
    """Digest of a cell's settings, data and contract aside."""
    return digest_of(replace(spec, contract={}, contract_digest="").wire())


def refusals(config: ExperimentConfig, sites: Sites = None) -> list[str]:
    """Findings for arms that can't exist as they are written (whatever the matrix says).

    ``sites`` is None while the cohort is not loaded; what depends on the number of hospitals is not judged then.
    """
    lines: dict[str, None] = {}
    plain = _without_matrix(config)
    everywhere = list(variants(config))
    for entry, arm in config.written_arms:
        found = _first_refusal(config, plain, arm, sites) if plain else None
        if found and all(_first_refusal(config, keys, arm, sites) for keys in everywhere):
            loc, reason = found
            lines[config.finding(loc or ("arms", entry), reason)] = None
    return list(lines)


def unknown_sites(config: ExperimentConfig, sites: Sequence[str]) -> list[str]:
    """Findings for hospitals that ``evaluation.unseen`` (or the matrix) names and the cohort does not have."""
    from pettoolkit.cohort.yamlmessages import did_you_mean

    named: list[tuple[Loc, Any]] = [(("evaluation", "unseen"), config.evaluation.unseen)]
    named += [(("matrix", "evaluation.unseen", i), v) for i, v in enumerate(config.matrix.get("evaluation.unseen", ()))]
    lines = []
    for loc, value in named:
        for site in () if value == EACH else value or ():
            if site not in sites:
                hint = did_you_mean(site, sites) or f"there are {', '.join(sites)}"
                lines.append(config.finding(loc, f"there is no hospital {site} ({hint})"))
    return lines


def put(data: Any, key: str, value: Any) -> dict[str, Any]:
    """Copy a mapping with ``value`` at a dotted key; a model written as a word becomes its name."""
    step, _, rest = key.partition(".")
    if isinstance(data, str):
        data = {"name": data}
    inside = dict(data) if isinstance(data, Mapping) else {}
    return {**inside, step: put(inside.get(step), rest, value) if rest else value}


def variants(config: ExperimentConfig) -> Iterator[CellKeys]:
    """The keys that vary, for each combination of the matrix in the order in which it is written."""
    base = _base(config)
    for values in itertools.product(*config.matrix.values()):
        data: dict[str, Any] = base
        for key, value in zip(config.matrix, values, strict=True):
            data = put(data, key, value)
        yield CellKeys.model_validate(data)


def facts(spec: RunSpec, keys: CellKeys) -> dict[str, Json]:
    """What an ``exclude`` entry can name, with this cell's values."""
    dp = to_json(spec.dp) if spec.dp else {}
    return {
        "arm": spec.arm,
        **spec.options,
        "seed": spec.seed,
        "features": spec.features,
        "model": spec.model.name,
        "model.name": spec.model.name,
        "model.hidden": spec.model.hidden or None,
        "dp": dp or None,
        **{f"dp.{name}": dp.get(name) for name in DpKeys.model_fields},
        "evaluation.unseen": list(spec.unseen),
        "evaluation.train_sites": keys.evaluation.train_sites,
        "evaluation.total_patients": keys.evaluation.total_patients,
    }


def _base(config: ExperimentConfig) -> dict[str, Any]:
    return config.model_dump(include=set(CellKeys.model_fields), exclude_unset=True)


def _without_matrix(config: ExperimentConfig) -> CellKeys | None:
    """The keys as they are written, without those that the matrix varies; None if the rest says nothing."""
    base = _base(config)
    for key in config.matrix:
        *way, last = key.split(".")
        inside: Any = base
        for step in way:
            inside = inside.get(step) if isinstance(inside, dict) else None
        if isinstance(inside, dict):
            inside.pop(last, None)
    try:
        return CellKeys.model_validate(base)
    except ValidationError:
        return None


def _unseen(evaluation: EvaluationKeys, sites: Sites) -> list[tuple[str, ...]]:
    if evaluation.unseen == EACH:
        return [(site,) for site in sorted(sites)] if sites else [()]
    return [tuple(sorted(evaluation.unseen))]


def _spec(
    config: ExperimentConfig, keys: CellKeys, arm: ArmKeys, sites: Sites, unseen: tuple[str, ...], seed: int
) -> RunSpec:
    model, trains = keys.model.spec(), _training_sites(keys.evaluation, sites, unseen, seed)
    dp = _dp(keys.dp, arm, len(trains))
    total, share = keys.evaluation.total_patients, len(trains) or keys.evaluation.train_sites
    return RunSpec(
        task=config.task,
        arm=arm.name,
        options=arm.options(model, dp),
        model=model,
        features=keys.features,
        seed=seed,
        sites=trains,
        unseen=unseen,
        dp=dp,
        patients_per_site=total // share if total and share else None,
        experiment=config.name,
        faults=config.faults.model_dump(),
        attacks=config.attacks,
        risk=config.risk.model_dump() if config.attacks != "none" else {},
    )


def _training_sites(evaluation: EvaluationKeys, sites: Sites, unseen: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """Draw in an order that only the seed decides, so that more hospitals include fewer."""
    others = [site for site in sites or () if site not in unseen]
    drawn = sorted(others, key=lambda site: digest_of([seed, site]))
    return tuple(sorted(drawn[: evaluation.train_sites]))


def _dp(keys: DpKeys | None, arm: ArmKeys, trains: int) -> DpSpec | None:
    if keys is None or keys.epsilon is None:
        return None
    noise = keys.noise or arm.noises(keys.target)[0]
    honest = (keys.honest_sites or trains or None) if noise == "shared" else None
    return DpSpec(keys.epsilon, keys.delta, noise, honest, keys.gradients, keys.batch, keys.target)


def _first_refusal(config: ExperimentConfig, keys: CellKeys, arm: ArmKeys, sites: Sites) -> tuple[Loc, str] | None:
    unseen = _unseen(keys.evaluation, sites)[0]
    return _refusal(keys, arm, _spec(config, keys, arm, sites, unseen, config.seeds[0]), sites)


def _refusal(keys: CellKeys, arm: ArmKeys, spec: RunSpec, sites: Sites) -> tuple[Loc, str] | None:
    """Where (empty: at the arm) and why a cell can't exist."""
    if keys.model.hidden and keys.model.name != "mlp":
        return ("model", "hidden"), f"belongs to model mlp ({keys.model.name} has no hidden layer)"
    if sites is not None:
        wanted, others = keys.evaluation.train_sites, len(sites) - len(spec.unseen)
        if not others:
            return ("evaluation", "unseen"), "names all hospitals: none is left to train"
        if wanted and wanted > others:
            return ("evaluation", "train_sites"), f"must be at most {others}, as many as can train (got {wanted})"
    if spec.patients_per_site == 0:
        total = keys.evaluation.total_patients
        return ("evaluation", "total_patients"), f"must be at least one patient per hospital (got {total})"
    if spec.dp and spec.dp.honest_sites and spec.sites and spec.dp.honest_sites > len(spec.sites):
        return ("dp", "honest_sites"), f"must be at most {len(spec.sites)}, the hospitals (got {spec.dp.honest_sites})"
    reason = arm.refuse_model(spec) or arm.refuse(spec) or arm.refuse_drop(spec)
    return ((), reason) if reason else None


def _excluded(config: ExperimentConfig, spec: RunSpec, keys: CellKeys) -> str | None:
    known = facts(spec, keys)
    for i, entry in enumerate(config.exclude):
        if all(name in known and known[name] == to_json(value) for name, value in entry.items()):
            return f"exclude.{i} leaves it out"
    return None
