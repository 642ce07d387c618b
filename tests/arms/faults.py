"""What can go wrong with one hospital's answer, done to it on the way: for the fault-injection suite."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from pettoolkit.arms.app import build_app
from pettoolkit.federation import flower, wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.hospital.site import Site

VICTIM = "north"
PATIENT = "patient 123 has lactate 9.7"
Change = Callable[[RecordDict], RecordDict]


def _array(content: RecordDict) -> tuple[str, Array]:
    return next(iter(content[wire.ARRAYS].items()))  # type: ignore[union-attr,return-value]


def _with_array(content: RecordDict, name: str, array: Array) -> RecordDict:
    return RecordDict({**content, wire.ARRAYS: ArrayRecord({**content[wire.ARRAYS], name: array})})  # type: ignore[arg-type]


def not_a_number(value: float) -> Change:
    """Put ``value`` where a number is: in an array, in a column, or (of ciphertexts, which show none) in a metric."""

    def change(content: RecordDict) -> RecordDict:
        name, array = _array(content)
        if array.stype == wire.STYPE_ARROW:
            table = wire.array_to_table(array)
            column = "lactate"
            table[column] = table[column].astype(float)
            table.loc[3, column] = value if np.isinf(value) else np.inf  # NaN in a row is a value not measured
            return _with_array(content, name, wire.table_to_array(table))
        if array.stype == wire.STYPE_CKKS:
            return RecordDict({**content, wire.METRICS: MetricRecord({"num-examples": value})})
        numbers = wire.decode(name, array).copy()
        numbers.reshape(-1)[0] = value
        return _with_array(content, name, Array(numbers))

    return change


def other_shape(content: RecordDict) -> RecordDict:
    """A number more, a column less, or a ciphertext less."""
    name, array = _array(content)
    if array.stype == wire.STYPE_ARROW:
        return _with_array(content, name, wire.table_to_array(wire.array_to_table(array).drop(columns="pulse")))
    if array.stype == wire.STYPE_CKKS:
        kept = dict(list(content[wire.ARRAYS].items())[:-1])  # type: ignore[union-attr]
        return RecordDict({**content, wire.ARRAYS: ArrayRecord(kept)})  # type: ignore[arg-type]
    return _with_array(content, name, Array(np.append(wire.decode(name, array), 1).astype(array.dtype)))


def oversized(content: RecordDict) -> RecordDict:
    """A megabyte behind what was asked for: bytes that no header speaks of, or an array that nobody wants."""
    name, array = _array(content)
    grown = dataclasses.replace(array, data=array.data + bytes(2**20))
    return _with_array(content, name, grown)


def garbled(content: RecordDict) -> RecordDict:
    """Bits that flipped on the way."""
    name, array = _array(content)
    data = bytearray(array.data)
    for place in range(0, min(len(data), 96), 7):
        data[place] ^= 0xFF
    return _with_array(content, name, dataclasses.replace(array, data=bytes(data)))


def late(content: RecordDict) -> RecordDict:
    """The answer to an earlier round."""
    envelope = ConfigRecord({**content[wire.ENVELOPE], wire.ROUND: -1})  # type: ignore[dict-item]
    return RecordDict({**content, wire.ENVELOPE: envelope})


def other_kind(content: RecordDict) -> RecordDict:
    """Something that was not asked for."""
    envelope = ConfigRecord({**content[wire.ENVELOPE], wire.KIND: "statistics"})  # type: ignore[dict-item]
    return RecordDict({**content, wire.ENVELOPE: envelope})


CHANGES: Mapping[str, Change] = {
    "nan": not_a_number(float("nan")),
    "inf": not_a_number(float("inf")),
    "shape": other_shape,
    "oversized": oversized,
    "garbled": garbled,
    "late": late,
    "kind": other_kind,
}
FAULTS = (*CHANGES, "raises", "dies", "silent", "twice")
"""``dies`` is what a grid says of a hospital whose process is gone, ``silent`` an answer that never came."""


class FaultyGrid(InProcessGrid):
    """Hospitals in this process, one of which fails ``times`` times, ``after`` so many good answers to training."""

    def __init__(self, hosted: Mapping[str, Site], fault: str, after: int = 0, times: int = 10**6) -> None:
        super().__init__(build_app, hosted)
        self.fault, self.after, self.last, self.injected = fault, after, after + times, 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """See :class:`InProcessGrid`."""
        sent = {m.metadata.dst_node_id: m for m in messages}
        out: list[Message] = []
        for reply in super().send_and_receive(sent.values(), timeout=timeout):
            node = reply.metadata.src_node_id
            out += self._spoiled(reply, sent[node]) if self._counts(sent[node]) else [reply]
        return out

    def _counts(self, asked: Message) -> bool:
        if self.site_of[asked.metadata.dst_node_id] != VICTIM:
            return False
        request = wire.read_request(asked.content)
        if request.purpose == "setup" or request.wants in ("metrics", ""):
            return False
        self.injected += 1
        return self.after < self.injected <= self.last

    def _spoiled(self, reply: Message, asked: Message) -> list[Message]:
        if self.fault == "silent":
            return []
        if self.fault == "twice":
            return [reply, reply]
        if self.fault == "dies":
            return [flower.error_reply(asked, flower.UNAVAILABLE, "its worker died")]
        if self.fault == "raises":
            raise AssertionError("a hospital that raises is a BrokenSite")
        changed = Message(CHANGES[self.fault](reply.content), reply_to=asked)
        flower.set_message_id(changed, reply.metadata.message_id)
        return [changed]


class DyingSite(Site):
    """A hospital whose process ends as soon as it is to train."""

    def part(self, *_: object) -> object:  # type: ignore[override]
        """Die."""
        os._exit(1)


class HangingSite(Site):
    """A hospital that never answers once it is to train."""

    def part(self, *_: object) -> object:  # type: ignore[override]
        """Wait for a signal that nobody sends."""
        return threading.Event().wait()

    table = part  # type: ignore[assignment]


class BrokenSite(Site):
    """A hospital whose own code fails, with a patient's values in the text of the error."""

    def part(self, *_: object) -> object:  # type: ignore[override]
        """Fail."""
        raise ValueError(PATIENT)

    index = training_patients = part  # type: ignore[assignment]
