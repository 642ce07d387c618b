"""Questions and answers between an arm's two halves, as messages."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import pandas as pd
from flwr.app import ConfigRecord, RecordDict

from pettoolkit.arms.common import contract_of, predictor_of
from pettoolkit.federation import wire
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures, Scores, Table
from pettoolkit.hospital.request import Request
from pettoolkit.records import Models, RunSpec, Weights, from_json

TABLE = "table"


@dataclass(frozen=True)
class Reply:
    """One hospital's answer, read off the wire."""

    kind: str
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The table of an answer that carries one."""
        return self.tables[TABLE]


def ask(
    grid: MeteredGrid,
    spec: RunSpec,
    action: str,
    purpose: str,
    *,
    wants: str,
    sites: Sequence[str],
    number: int = 0,
    kind: str = wire.REQUEST,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    blobs: Sequence[bytes] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    extra: Mapping[str, int | float | str] | None = None,
    expect: Mapping[str, tuple[int, ...]] | None = None,
    fault: Callable[[Reply], str] | None = None,
) -> dict[str, Reply]:
    """Ask the same of several hospitals and wait for all.

    Parameters
    ----------
    action, purpose
        What is asked, and what for.
    wants
        Kind that the answers must have.
    number
        Round.
    kind, arrays, blobs, extra
        What the question itself carries.
    tables
        Hospital to the rows that it is sent (each its own); ``kind`` says what they are.
    expect
        Name -> shape of each array that an answer must have.
    fault
        Says what else is wrong with an answer, empty if nothing is; the fault policy decides what happens then.

    Returns
    -------
    dict
        Site name to answer, sorted by name.

    Raises
    ------
    SiteFailed
        Naming the first hospital that failed, refused, was missing or answered something unusable; with
        ``faults.on_failure: drop`` only if too few remain.
    """

    def content(rows: pd.DataFrame | None) -> RecordDict:
        return wire.request(
            arm=spec.arm,
            action=action,
            kind=kind,
            purpose=purpose,
            spec_json=spec_text(spec),
            round=number,
            arrays=arrays,
            blobs=blobs,
            tables=None if rows is None else {TABLE: rows},
            extra=extra,
            wants=wants,
        )

    same = content(None) if tables is None else None
    contents = {site: same or content(None if tables is None else tables[site]) for site in sites}
    timeout = float(spec.faults.get("round_timeout", 600))

    def judge(site: str, content: RecordDict) -> str:
        try:
            reply = _read(content)
        except ValueError as error:
            return str(error)
        return "" if fault is None else fault(reply)

    # Rows for attacks are a favour: a hospital that does not grant them has not failed in the technology.
    replies = grid.ask(
        contents, timeout=timeout, expect=expect, judge=judge, missing="fail" if purpose == "audit" else None
    )
    return {site: _read(reply) for site, reply in replies.items()}


def model_fault(spec: RunSpec) -> Callable[[Reply], str]:
    """What is wrong with a hospital's own model: see ``fault`` of :func:`ask`."""
    predictor = predictor_of(spec, contract_of(spec))

    def fault(reply: Reply) -> str:
        try:
            predictor.check(reply.arrays)
        except ValueError as error:
            return f"its model can't be used: {error}"
        return ""

    return fault


def models_of(replies: Mapping[str, Reply]) -> Models:
    """Each hospital's model, which :func:`model_fault` has looked at."""
    return Models({site: Weights.of(reply.arrays) for site, reply in replies.items()})


def config_record(spec: RunSpec, action: str, purpose: str, *, wants: str, patients: int | None = None) -> ConfigRecord:
    """What Flower's strategies hand on to the hospitals with every message of a run, beside the model."""
    content = wire.request(
        arm=spec.arm,
        action=action,
        kind="model",
        purpose=purpose,
        spec_json=spec_text(spec),
        wants=wants,
        extra={} if patients is None else {"patients": patients},
    )
    record = ConfigRecord(dict(content.config_records[wire.CONFIG]))
    del record[wire.ROUND]  # Flower writes its own
    return record


def spec_text(spec: RunSpec) -> str:
    """The spec as it travels."""
    return json.dumps(spec.wire(), separators=(",", ":"), sort_keys=True)


def read_request(content: RecordDict) -> Request:
    """What a hospital is asked."""
    asked = wire.read_request(content)
    ciphertexts, records = asked.kind == "ciphertext", asked.kind in wire.RECORD_KINDS
    return Request(
        action=asked.action,
        purpose=asked.purpose,
        spec=spec_of(asked.spec),
        round=asked.round,
        arrays={} if ciphertexts or records else wire.arrays_of(content),
        blobs=tuple(wire.blobs_of(content)) if ciphertexts else (),
        table=wire.tables_of(content).get(TABLE) if records else None,
        extra={k: v for k, v in asked.extra.items() if isinstance(v, bool | int | float | str)},
    )


@functools.lru_cache(maxsize=256)
def spec_of(text: str) -> RunSpec:
    """The spec of a run: the same text in all of its messages.

    Raises
    ------
    ValueError
        If the text is no spec.
    """
    try:
        return from_json(RunSpec, json.loads(text))
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("the message's spec is no spec of a run") from None


def write_reply(site: str, number: int, envelope: Envelope) -> RecordDict:
    """An envelope that passed the door, as message content."""
    payload = envelope.payload
    metrics = {name: float(value) for name, value in envelope.figures.items()}
    arrays = blobs = tables = None
    match payload:
        case Arrays(named, examples):
            arrays, metrics = named, metrics | {wire.NUM_EXAMPLES: float(examples)}
        case Ciphertexts(chunks, examples):
            blobs, metrics = chunks, metrics | {wire.NUM_EXAMPLES: float(examples)}
        case Figures(values):
            metrics |= {name: float(value) for name, value in values.items()}
        case Scores(named):
            arrays = named
        case Table(rows):
            tables = {TABLE: rows}
    return wire.reply(
        site=site,
        kind=envelope.kind,
        purpose=envelope.purpose,
        round=number,
        arrays=arrays,
        blobs=blobs,
        tables=tables,
        metrics=metrics or None,
    )


def _read(content: RecordDict) -> Reply:
    kind = wire.read_envelope(content).kind
    rows = kind in wire.RECORD_KINDS
    tables = wire.tables_of(content) if rows else {}
    if rows and TABLE not in tables:
        raise ValueError(f"the reply has no table '{TABLE}'")
    return Reply(
        kind=kind,
        arrays={} if rows or kind == "ciphertext" else wire.arrays_of(content),
        blobs=tuple(wire.blobs_of(content)) if kind == "ciphertext" else (),
        tables=tables,
        figures={k: float(v) for k, v in wire.metrics_of(content).items() if not isinstance(v, list)},
    )


def lacks(reply: Reply, *figures: str) -> str:
    """Say which of these figures a reply does not have; empty if none is missing."""
    missing = [name for name in figures if name not in reply.figures]
    return f"metric '{missing[0]}' is missing" if missing else ""
