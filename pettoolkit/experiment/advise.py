"""`pettoolkit advise`: recorded runs of one experiment, a situation, and the advice room between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pettoolkit.advice.decide import advise as decide
from pettoolkit.advice.evidence import Technology
from pettoolkit.advice.situation import Question, Situation, ask
from pettoolkit.cohort.yamlfile import Document, findings, read_value, read_yaml
from pettoolkit.errors import BadInput
from pettoolkit.experiment.cells import CellReport, Comparison
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.notes import DROPPED
from pettoolkit.records import Json, RunResult, RunSpec

ANSWERS = "--answer"


def situation(
    file: Path | None,
    answers: Sequence[str] = (),
    *,
    margin: float | None = None,
    question: Callable[[Question], str] | None = None,
) -> Situation:
    """Put a situation together from a file, options and, on a terminal, questions.

    Parameters
    ----------
    file
        YAML with the keys of :class:`~pettoolkit.advice.situation.Situation`.
    answers
        ``KEY=VALUE``, over the file.
    margin
        Over both.
    question
        Asks a person what is not answered; None asks nobody.

    Raises
    ------
    BadInput
        With all that is wrong.
    """
    document = Document(Path(ANSWERS), {}) if file is None else read_yaml(file)
    given: dict[str, Any] = dict(document.data or {}) if isinstance(document.data or {}, Mapping) else {}
    if document.data is not None and not isinstance(document.data, Mapping):
        raise BadInput(f"{file}:1: must be keys with values, such as may_process: yes")
    said: dict[str, Any] = {}
    for answer in answers:
        key, equals, value = answer.partition("=")
        if not equals:
            raise BadInput(f"{ANSWERS} {answer}: write it as KEY=VALUE, for example {ANSWERS} trusted_coordinator=no")
        said[key.strip()] = read_value(value)
    if margin is not None:
        said["margin"] = margin
    given |= said
    if question is not None:
        given = {key: read_value(v) if isinstance(v, str) else v for key, v in ask(given, question).items()}
    written = set(document.data or {}) - set(said)
    typed = Document(document.path, given, document.root, tuple((key,) for key in given if key not in written))
    try:
        return Situation.model_validate(given)
    except ValidationError as error:
        found = findings(error, typed, str(document.path), model=Situation)
        raise BadInput([line.replace("--set: ", f"{ANSWERS}: ", 1) for line in found]) from None


def recorded(config: ExperimentConfig) -> Comparison:
    """What was recorded for an experiment; nothing is run.

    Raises
    ------
    BadInput
        If nothing was recorded, or nothing that this version can read; with the reason of the first cell.
    """
    from pettoolkit.experiment import runner

    found = runner.show(config)
    if all(cell.result is None for cell in found.cells):
        why = next((f": {cell.reason}" for cell in found.cells if cell.status == "missing" and cell.reason), "")
        raise BadInput(f"{config.name}: no finished cell in {config.tracking.dir}{why} (run the experiment first)")
    return found


def advise(config: ExperimentConfig, answers: Situation, found: Comparison | None = None) -> dict[str, Json]:
    """Answer from what was recorded for an experiment; nothing is run.

    Parameters
    ----------
    found
        What :func:`recorded` returned; if not given, it is asked.

    Raises
    ------
    BadInput
        If nothing was recorded.
    """
    found = found or recorded(config)
    done = [cell for cell in found.cells if cell.result is not None]
    dropped = [n for c in done if c.result is not None for n in c.result.notes if n.startswith(DROPPED)]
    missing = [f"{c.spec.arm} seed {c.spec.seed}" for c in found.cells if c.result is None and c.status != "excluded"]
    return decide(
        technologies(config, done),
        answers,
        experiment=config.name,
        data=config.sites.source,
        unfinished=missing,
        dropped=dropped,
    )


def technologies(config: ExperimentConfig, cells: Sequence[CellReport]) -> list[Technology]:
    """Finished cells by row of the table, their seeds in order, with what was predicted."""
    from pettoolkit.evaluation.predictions import from_bytes
    from pettoolkit.evaluation.summary import summary_of
    from pettoolkit.tracking.names import variant_key
    from pettoolkit.tracking.store import Store

    rows: dict[str, list[tuple[RunResult, bytes]]] = {}
    with Store(Path(config.tracking.dir)) as store:
        for cell in sorted(cells, key=lambda cell: cell.spec.seed):
            if cell.result is not None and cell.run_id is not None:
                rows.setdefault(variant_key(cell.spec), []).append((cell.result, store.load_predictions(cell.run_id)))
    order = list(dict.fromkeys(variant_key(cell.spec) for cell in cells))
    found = []
    keys = sorted(rows, key=order.index)
    for key, name in zip(keys, names([rows[key][0][0].spec for key in keys]), strict=True):
        results, files = tuple(r for r, _ in rows[key]), [data for _, data in rows[key]]
        found.append(Technology(name, results, tuple(map(from_bytes, files)), summary_of(results, files)))
    return found


def names(specs: Sequence[RunSpec]) -> list[str]:
    """A name for each row of the table; where two would be the same, with the settings in which they differ."""
    from pettoolkit.tracking.names import summary_name

    plain = [summary_name(spec) for spec in specs]
    settings = [{**s.options, "features": s.features, "patients per site": s.patients_per_site} for s in specs]
    said = []
    for name, own in zip(plain, settings, strict=True):
        alike = [other for n, other in zip(plain, settings, strict=True) if n == name]
        differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        said.append(", ".join([name, *(f"{key} {own[key]}" for key in differing)]))
    return said
