"""What is in a message: names of records and keys, and the ways to write and read them.

A request is a ``ConfigRecord`` "config" and perhaps an ``ArrayRecord`` "arrays". A reply is a
``ConfigRecord`` "envelope", and an ``ArrayRecord`` "arrays" or a ``MetricRecord`` "metrics" or both.
Nothing is ever pickled or unpickled.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from pettoolkit.federation import flower

if TYPE_CHECKING:
    import pandas as pd

NDArray = npt.NDArray[Any]
Scalar = bool | int | float | str | bytes

CONFIG = "config"
ENVELOPE = "envelope"
ARRAYS = "arrays"
METRICS = "metrics"

ARM = "arm"
ACTION = "action"
KIND = "kind"
PURPOSE = "purpose"
SPEC = "spec"
ROUND = "round"
SERVER_ROUND = "server-round"
"""What Flower's strategies write instead of ``round``."""
SITE = "site"
WANTS = "wants"
"""The kind that the reply must have; optional."""
NUM_EXAMPLES = "num-examples"
"""The metric by which Flower's FedAvg weights a hospital."""
HELLO = "hello"
"""The action that asks a hospital for its name: answered by kind ``metrics``, purpose ``setup``."""

REQUEST_KEYS = frozenset({ARM, ACTION, KIND, PURPOSE, SPEC, ROUND, SERVER_ROUND, WANTS})

RECORD_KINDS = frozenset({"raw_records", "anonymised_records", "synthetic_records"})
KINDS = RECORD_KINDS | {"model", "update", "ciphertext", "statistics", "metrics", "predictions"}
REQUEST = "request"
"""Kind of a request that carries no payload."""
PURPOSES = frozenset({"training", "validation", "release", "setup", "evaluation", "audit"})

STYPE_NUMPY = "numpy.ndarray"
STYPE_CKKS = "pettoolkit.ckks"
STYPE_ARROW = "pettoolkit.arrow"


@dataclass(frozen=True)
class Request:
    """A request as a hospital reads it. ``extra`` holds the free scalar keys."""

    arm: str
    action: str
    kind: str
    purpose: str
    spec: str
    round: int
    wants: str
    extra: Mapping[str, Scalar | list[Any]]


@dataclass(frozen=True)
class Envelope:
    """What a reply says about itself."""

    kind: str
    purpose: str
    site: str
    round: int


def request(
    *,
    action: str,
    purpose: str,
    arm: str = "",
    kind: str = REQUEST,
    spec_json: str = "{}",
    round: int = 0,
    arrays: Mapping[str, NDArray] | None = None,
    blobs: Sequence[bytes] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    extra: Mapping[str, Scalar] | None = None,
    wants: str = "",
) -> RecordDict:
    """Build the content of a request.

    Parameters
    ----------
    kind
        Kind of what the request itself carries; ``request`` if it carries nothing.
    wants
        Kind that the reply must have; empty if any will do.
    arrays, blobs, tables
        Named numpy arrays, ciphertexts, or named tables; one of them.

    Raises
    ------
    ValueError
        If a kind, a purpose or an extra key is not one that may be used.
    """
    _check_words(kind, purpose, kinds=KINDS | {REQUEST})
    if wants and wants not in KINDS:
        raise ValueError(f"wants: '{wants}' is not one of {sorted(KINDS)}")
    if clash := REQUEST_KEYS & set(extra or {}):
        raise ValueError(f"extra: {sorted(clash)} are keys of every request")
    config: dict[str, Any] = {ARM: arm, ACTION: action, KIND: kind, PURPOSE: purpose, SPEC: spec_json, ROUND: round}
    if wants:
        config[WANTS] = wants
    records: dict[str, Any] = {CONFIG: ConfigRecord({**config, **(extra or {})})}
    payload = _payload(arrays, blobs, tables)
    if payload is not None:
        records[ARRAYS] = payload
    return RecordDict(records)


def reply(
    *,
    site: str,
    kind: str,
    purpose: str,
    round: int = 0,
    arrays: Mapping[str, NDArray] | None = None,
    blobs: Sequence[bytes] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    metrics: Mapping[str, float | int | list[float] | list[int]] | None = None,
) -> RecordDict:
    """Build the content of a reply: its envelope and its payload.

    Raises
    ------
    ValueError
        If the kind or the purpose is unknown, or two payloads of arrays are given.
    """
    _check_words(kind, purpose, kinds=KINDS)
    records: dict[str, Any] = {ENVELOPE: ConfigRecord({KIND: kind, PURPOSE: purpose, SITE: site, ROUND: round})}
    payload = _payload(arrays, blobs, tables)
    if payload is not None:
        records[ARRAYS] = payload
    if metrics is not None:
        records[METRICS] = MetricRecord(dict(metrics))
    return RecordDict(records)


def read_request(content: RecordDict) -> Request:
    """Read the "config" record of a request.

    Raises
    ------
    ValueError
        If there is none, or it lacks kind or purpose.
    """
    config = _config(content, CONFIG)
    spoken = {key: value for key, value in config.items() if key not in REQUEST_KEYS}
    return Request(
        arm=_text(config, ARM, default=""),
        action=_text(config, ACTION, default=""),
        kind=_text(config, KIND),
        purpose=_text(config, PURPOSE),
        spec=_text(config, SPEC, default="{}"),
        round=_round(config),
        wants=_text(config, WANTS, default=""),
        extra=cast("Mapping[str, Scalar | list[Any]]", spoken),
    )


def read_envelope(content: RecordDict) -> Envelope:
    """Read the "envelope" record of a reply.

    Raises
    ------
    ValueError
        If there is none, or a key is missing or of the wrong type.
    """
    config = _config(content, ENVELOPE)
    return Envelope(_text(config, KIND), _text(config, PURPOSE), _text(config, SITE), _round(config))


def arrays_of(content: RecordDict) -> dict[str, NDArray]:
    """Named numpy arrays of a message, empty if it carries none."""
    return from_record(_array_record(content))


def blobs_of(content: RecordDict) -> list[bytes]:
    """Ciphertexts of a message, in the order in which they were sent.

    Raises
    ------
    ValueError
        If an array is not a ciphertext.
    """
    record = _array_record(content)
    _check_stype(record, STYPE_CKKS)
    return [array.data for array in record.values()]


def tables_of(content: RecordDict) -> dict[str, pd.DataFrame]:
    """Tables of a message by name.

    Raises
    ------
    ValueError
        If an array is not a table.
    """
    record = _array_record(content)
    _check_stype(record, STYPE_ARROW)
    return {name: array_to_table(array) for name, array in record.items()}


def metrics_of(content: RecordDict) -> dict[str, float | int | list[float] | list[int]]:
    """Metrics of a message by name, empty if it carries none."""
    record = content.get(METRICS)
    return dict(record.items()) if isinstance(record, MetricRecord) else {}


def to_record(arrays: Mapping[str, NDArray]) -> ArrayRecord:
    """Named numpy arrays as an ArrayRecord (``np.save`` format, never pickled)."""
    return ArrayRecord({name: encode(np.asarray(array)) for name, array in arrays.items()})


def from_record(record: ArrayRecord) -> dict[str, NDArray]:
    """Inverse of :func:`to_record`; the arrays are new and may be written to.

    Raises
    ------
    ValueError
        If an array is of another serialisation, or its bytes are not what it says it is.
    """
    _check_stype(record, STYPE_NUMPY)
    return {name: decode(name, array) for name, array in record.items()}


def encode(array: NDArray) -> Array:
    """One numpy array as Flower's ``Array(array)`` writes it (``np.save``, never pickled); headers are made once.

    Raises
    ------
    ValueError
        If it holds Python objects.
    """
    fortran = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
    head, dtype = _head(array.dtype, array.shape, fortran)
    return Array(dtype, array.shape, STYPE_NUMPY, head + array.tobytes("F" if fortran else "C"))


@functools.lru_cache(maxsize=4096)
def _head(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> tuple[bytes, str]:
    """A ``.npy`` header, and the dtype's name."""
    if dtype.hasobject:
        raise ValueError("an array of Python objects can't be sent")
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)  # type: ignore[no-untyped-call]
    said = {"descr": descr, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, said)  # type: ignore[no-untyped-call]
    return stream.getvalue(), str(dtype)


def decode(name: str, array: Array) -> NDArray:
    """One numpy array, checked against the shape and dtype that it declares.

    Raises
    ------
    ValueError
        If the bytes can't be read, or are of another shape or dtype than declared.
    """
    begins = _NPY + int.from_bytes(array.data[8:_NPY], "little")
    try:
        shape, fortran, dtype, called = _header(array.data[:begins])
    except Exception:  # numpy hands the header to Python's own tokenizer and parser, which raise what they like
        raise ValueError(f"array '{name}': its bytes can't be read") from None
    # Compared before anything is read: a header may promise more than memory holds, and bytes may follow the numbers.
    promised = math.prod(shape) * dtype.itemsize
    if shape != tuple(array.shape) or called != array.dtype or len(array.data) - begins != promised:
        raise ValueError(f"array '{name}': its bytes are not the {array.dtype}{list(array.shape)} that it declares")
    flat = np.frombuffer(array.data, dtype=dtype, offset=begins) if promised else np.empty(math.prod(shape), dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


_NPY = 10
"""Bytes before the text of a ``.npy`` header of version 1.0, whose length is in the last two of them."""


@functools.lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], str]:
    """Shape, order, dtype and the dtype's name of a ``.npy`` header; the same ones come in every round."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):  # type: ignore[no-untyped-call]
        raise ValueError("this version of the format is not written here")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)  # type: ignore[no-untyped-call]
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError("objects, or a negative shape")
    return tuple(shape), bool(fortran), dtype, str(dtype)


def blobs_to_record(blobs: Sequence[bytes]) -> ArrayRecord:
    """Ciphertexts as an ArrayRecord; Flower's FedAvg raises TypeError on them, as it should."""
    return ArrayRecord(
        {f"{i:05d}": Array(dtype="uint8", shape=(len(b),), stype=STYPE_CKKS, data=b) for i, b in enumerate(blobs)}
    )


def table_to_array(table: pd.DataFrame) -> Array:
    """Write a table as an Arrow IPC stream; the index is dropped.

    Raises
    ------
    ValueError
        If a column holds things that are no numbers, texts, categories or times.
    """
    import pyarrow as pa

    try:
        arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        # Arrow quotes the offending cell in its first argument: only the name of the error is safe.
        raise ValueError(f"table: a column can't be sent ({type(error).__name__})") from None
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return Array(dtype="table", shape=table.shape, stype=STYPE_ARROW, data=sink.getvalue())


def array_to_table(array: Array) -> pd.DataFrame:
    """Inverse of :func:`table_to_array`.

    Raises
    ------
    ValueError
        If the bytes are no Arrow stream, or hold another number of rows or columns than declared.
    """
    import pyarrow as pa

    source = pa.BufferReader(array.data)
    try:
        table = pa.ipc.open_stream(source).read_all()
        table.validate(full=True)  # offsets beyond a buffer, text that is no UTF-8
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError):
        raise ValueError("its bytes are no Arrow table") from None
    if source.tell() != len(array.data):
        raise ValueError(f"{len(array.data) - source.tell()} bytes follow the table")
    if table.shape != tuple(array.shape):
        raise ValueError(f"the table has shape {table.shape} and declares {tuple(array.shape)}")
    return cast("pd.DataFrame", table.to_pandas(ignore_metadata=True))


def serialised_bytes(content: RecordDict) -> int:
    """Length in bytes of the serialised RecordDict, the same on all grids."""
    return len(flower.dump_content(content))


def dump(content: RecordDict) -> bytes:
    """Bytes of a content, to be kept."""
    return flower.dump_content(content)


def load(data: bytes) -> RecordDict:
    """Inverse of :func:`dump`."""
    return flower.load_content(data)


def digest(content: RecordDict) -> str:
    """SHA-256 (hex) of what a message says, whatever the order of its records and keys."""
    found = hashlib.sha256()
    for name in sorted(content):
        record = content[name]
        for key in sorted(record):
            value = record[key]
            said = (
                f"{value.dtype} {list(value.shape)} {value.stype}".encode() + b"\0" + value.data
                if isinstance(value, Array)
                else f"{type(value).__name__} {value!r}".encode()
            )
            for part in (name.encode(), key.encode(), said):
                found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def _payload(
    arrays: Mapping[str, NDArray] | None,
    blobs: Sequence[bytes] | None,
    tables: Mapping[str, pd.DataFrame] | None,
) -> ArrayRecord | None:
    if sum(part is not None for part in (arrays, blobs, tables)) > 1:
        raise ValueError("a message carries arrays, ciphertexts or tables: one of them")
    if arrays is not None:
        return to_record(arrays)
    if blobs is not None:
        return blobs_to_record(blobs)
    if tables is not None:
        return ArrayRecord({name: table_to_array(table) for name, table in tables.items()})
    return None


def _check_words(kind: str, purpose: str, *, kinds: frozenset[str]) -> None:
    if kind not in kinds:
        raise ValueError(f"kind: '{kind}' is not one of {sorted(kinds)}")
    if purpose not in PURPOSES:
        raise ValueError(f"purpose: '{purpose}' is not one of {sorted(PURPOSES)}")


def _config(content: RecordDict, name: str) -> dict[str, Any]:
    record = content.get(name)
    if not isinstance(record, ConfigRecord):
        raise ValueError(f"the message has no '{name}' record")
    return dict(record.items())


def _array_record(content: RecordDict) -> ArrayRecord:
    record = content.get(ARRAYS)
    return record if isinstance(record, ArrayRecord) else ArrayRecord()


def _text(config: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = config.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"the message's '{key}' is missing or not a text")
    return value


def _round(config: Mapping[str, Any]) -> int:
    value = config.get(SERVER_ROUND, config.get(ROUND, 0))
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the message's '{ROUND}' is not an integer")
    return value


def _check_stype(record: ArrayRecord, stype: str) -> None:
    for name, array in record.items():
        if array.stype != stype:
            raise ValueError(f"array '{name}': is serialised as '{array.stype}' and not as '{stype}'")
