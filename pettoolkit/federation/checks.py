"""Whether a reply may be used: who answered, what was asked for, finite numbers, right shapes and dtypes.

Pure functions; the first violation of a reply is a sentence that names the array. What happens then
(fail, or go on without the hospital) is decided in :mod:`.metered`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from pettoolkit.errors import SiteFailed
from pettoolkit.federation import wire

LARGEST = {"metrics": 2**20}
"""Bytes that a reply of a kind may have; :data:`LARGEST_OTHER` where the kind is not named."""
LARGEST_OTHER = 2**31
"""No message of this package comes near it: whoever sends more would only fill the coordinator's memory."""
REASON_LIMIT = 500
"""Characters of a hospital's error text that are shown."""


@dataclass(frozen=True)
class Shape:
    """Shape of an array, and its dtype (``float32``) if that is known."""

    shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a reply must be.

    ``arrays`` are its arrays by name, all of them; ``None`` if any will do.
    ``wants`` is the kind, empty if any will do.
    """

    purpose: str
    round: int
    wants: str = ""
    arrays: Mapping[str, Shape] | None = None


def expected_of(request: RecordDict, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Expected:
    """Say what the reply to a request must be.

    Parameters
    ----------
    request
        Content of the request.
    shapes
        Shape of each array by name. Where none are given and the request carries a model, a reply of
        kind ``model`` or ``update`` must have the model's names, shapes and dtypes.

    Raises
    ------
    ValueError
        If the request does not say its kind and purpose.
    """
    asked = wire.read_request(request)
    record = request.get(wire.ARRAYS)
    sent = record if asked.kind == "model" and isinstance(record, ArrayRecord) else ArrayRecord()
    arrays: dict[str, Shape] | None = None
    if shapes is not None:
        arrays = {n: Shape(tuple(s), sent[n].dtype if n in sent else None) for n, s in shapes.items()}
    elif len(sent):
        arrays = {name: Shape(tuple(array.shape), array.dtype) for name, array in sent.items()}
    # Shapes that a caller states hold for every kind; those of the model only for what is averaged with it.
    return Expected(asked.purpose, asked.round, asked.wants, arrays if shapes is not None or _averaged(asked) else None)


def _averaged(asked: wire.Request) -> bool:
    return asked.wants in ("", "model", "update")


def sort_replies(
    asked: Mapping[int, str], replies: Iterable[Message], ids: Mapping[str, int], gone: Container[int] = ()
) -> tuple[dict[str, Message], set[str]]:
    """Put replies in sorted order of their sites.

    Parameters
    ----------
    asked
        Node id -> site name of everybody who was asked.
    replies
        Messages as they came.
    ids
        Message id -> node id of the requests: an error may come from a SuperLink in a hospital's place.
    gone
        Nodes that were dropped before: what they send late is nobody's answer.

    Returns
    -------
    found, twice
        The first reply of each site, and the sites that answered more than once.

    Raises
    ------
    SiteFailed
        If somebody answered who was not asked.
    """
    found: dict[str, Message] = {}
    twice: set[str] = set()
    for reply in replies:
        node = reply.metadata.src_node_id
        if node not in asked and reply.has_error():
            node = ids.get(reply.metadata.reply_to_message_id, node)
        if node in asked:
            if asked[node] in found:
                twice.add(asked[node])
            found.setdefault(asked[node], reply)
        elif node not in gone:
            raise SiteFailed(_foreign_name(reply), f"node {node} answered and was not asked")
    return dict(sorted(found.items())), twice


def fault_of(site: str, reply: Message, expected: Expected) -> str:
    """Say what is wrong with a reply, in one sentence that names the array; empty if nothing is."""
    if reply.has_error():
        reason = " ".join((reply.error.reason or "failed without a reason").split())
        return reason.removeprefix(f"hospital {site}: ")[:REASON_LIMIT]
    if not reply.has_content():
        return "the reply is empty"
    content = reply.content
    try:
        envelope = wire.read_envelope(content)
    except ValueError as error:
        return str(error)
    record = content.get(wire.ARRAYS, ArrayRecord())
    if not isinstance(record, ArrayRecord):
        return f"the record '{wire.ARRAYS}' holds no arrays"
    return (
        _envelope_fault(site, envelope, expected)
        or _size_fault(content, envelope.kind)
        or _stray_fault(content)
        or _arrays_fault(record, envelope.kind, expected.arrays)
        or _metrics_fault(content, envelope.kind)
    )


def _envelope_fault(site: str, envelope: wire.Envelope, expected: Expected) -> str:
    if envelope.site != site:
        return f"the reply says that it comes from hospital {envelope.site}"
    if envelope.kind not in wire.KINDS:
        return f"the reply's kind '{envelope.kind}' is unknown"
    if expected.wants and envelope.kind != expected.wants:
        return f"the reply's kind is '{envelope.kind}', asked for was '{expected.wants}'"
    if envelope.purpose != expected.purpose:
        return f"the reply's purpose is '{envelope.purpose}', asked for was '{expected.purpose}'"
    if envelope.round != expected.round:
        return f"the reply is for round {envelope.round}, asked for was {expected.round}"
    return ""


def _size_fault(content: RecordDict, kind: str) -> str:
    record, metrics = content.get(wire.ARRAYS, ArrayRecord()), content.get(wire.METRICS, MetricRecord())
    size = sum(len(a.data) for a in record.values()) if isinstance(record, ArrayRecord) else 0
    size += sum(len(name) + 8 * (len(v) if isinstance(v, list) else 1) for name, v in metrics.items())
    largest = LARGEST.get(kind, LARGEST_OTHER)
    return f"the reply has {size} bytes, and one of kind '{kind}' may have {largest}" if size > largest else ""


def _stray_fault(content: RecordDict) -> str:
    """Find a record under another name: Flower's strategies would average it without anybody having looked at it."""
    stray = sorted(set(content) - {wire.ENVELOPE, wire.ARRAYS, wire.METRICS})
    return f"the reply has a record '{stray[0]}' that nobody reads" if stray else ""


def _arrays_fault(record: ArrayRecord, kind: str, expected: Mapping[str, Shape] | None) -> str:
    if expected is not None:
        if missing := sorted(set(expected) - set(record)):
            return f"array '{missing[0]}' is missing"
        if extra := sorted(set(record) - set(expected)):
            return f"array '{extra[0]}' was not asked for"
    for name, array in record.items():
        fault = _array_fault(name, array, kind) or _shape_fault(name, array, (expected or {}).get(name))
        if fault:
            return fault
    return ""


def _array_fault(name: str, array: Array, kind: str) -> str:
    if (array.stype == wire.STYPE_CKKS) != (kind == "ciphertext"):
        return f"array '{name}': is serialised as '{array.stype}' in a reply of kind '{kind}'"
    if array.stype == wire.STYPE_CKKS:
        return f"array '{name}': the ciphertext is empty" if not array.data else ""
    try:
        if array.stype == wire.STYPE_ARROW:
            wire.array_to_table(array)
            return ""
        if array.stype != wire.STYPE_NUMPY:
            return f"array '{name}': its serialisation '{array.stype}' is unknown"
        return _value_fault(name, wire.decode(name, array), kind)
    except ValueError as error:
        text = str(error)
        return text if text.startswith("array") else f"array '{name}': {text}"


def _value_fault(name: str, value: wire.NDArray, kind: str) -> str:
    if value.dtype.kind not in "fbiuSU":
        return f"array '{name}': dtype {value.dtype} is not allowed"
    if value.dtype.kind != "f":
        return ""
    # In rows NaN is a value that was not measured; everywhere else it would spoil what it is added to.
    wrong = np.isinf(value) if kind in wire.RECORD_KINDS else ~np.isfinite(value)
    count = int(wrong.sum())
    return f"array '{name}': {count} of {value.size} numbers are not finite (NaN or infinity)" if count else ""


def _shape_fault(name: str, array: Array, expected: Shape | None) -> str:
    if expected is None:
        return ""
    if tuple(array.shape) != expected.shape:
        return f"array '{name}': shape {tuple(array.shape)}, asked for was {expected.shape}"
    if expected.dtype is not None and array.dtype != expected.dtype:
        return f"array '{name}': dtype {array.dtype}, asked for was {expected.dtype}"
    return ""


def _metrics_fault(content: RecordDict, kind: str) -> str:
    record = content.get(wire.METRICS, MetricRecord())
    if not isinstance(record, MetricRecord):
        return f"the record '{wire.METRICS}' holds no metrics"
    for name, value in record.items():
        if not all(math.isfinite(number) for number in (value if isinstance(value, list) else [value])):
            return f"metric '{name}' is not finite (NaN or infinity)"
    examples = record.get(wire.NUM_EXAMPLES)
    if isinstance(examples, (int, float)) and (examples < 0 or (examples == 0 and kind in ("model", "update"))):
        return f"metric '{wire.NUM_EXAMPLES}' is {examples}: a hospital can't weigh that in an average"
    return ""


def _foreign_name(reply: Message) -> str:
    try:
        return wire.read_envelope(reply.content).site
    except ValueError:
        return f"at node {reply.metadata.src_node_id}"
