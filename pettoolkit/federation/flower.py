"""The one place that touches Flower's private parts; its tests say what is relied upon, and flwr is pinned.

Private in Flower 1.41 are the identity of the task that creates messages, the id of a message (a SuperLink
sets it), the protobuf form of a message, what a record keeps in its ``__dict__``, and the logger. The environment
that keeps Flower from calling home is set in this package's ``__init__``.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.app.message.message import make_message
from flwr.common.serde import recorddict_to_proto
from flwr.common.serde_utils import error_from_proto, error_to_proto, metadata_from_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.logger import FLOWER_LOGGER
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
COORDINATOR_NODE_ID = 0
"""Node id of the coordinator on our own grids; hospitals are 1..n."""

HEARTBEAT = 15
"""Seconds between a SuperNode's signs of life; after two that are missing, a restarted one is let in again."""

STARTS = 120
"""Seconds that a process of Flower's may take to start, or be silent, before it counts as dead (Flower: 30)."""

LOCKED = 60_000
"""Milliseconds that a SuperLink waits for its own database; Flower's 5,000 fail a call on a busy machine."""

SUPEREXEC = (sys.executable, "-m", "pettoolkit.federation.superexec")
"""What is started in place of the program ``flower-superexec``."""

UNAVAILABLE = 5
"""Flower's ``ErrorCode.NODE_UNAVAILABLE``: the hospital could not be asked."""
CRASHED = 8
"""Flower's ``ErrorCode.CLIENT_APP_CRASHED``: the hospital's process for this message died, or was silent for long."""
RAISED = 2
"""Flower's ``ErrorCode.CLIENT_APP_RAISED_EXCEPTION``: the hospital was asked and failed."""


def identify() -> None:
    """Let this process create messages, unless Flower has already said who it is (in a ServerApp)."""
    if TaskIdentity._run_id is None:
        TaskIdentity.run_id = RUN_ID
        TaskIdentity.node_id = COORDINATOR_NODE_ID
        TaskIdentity.task_id = 0


def silence() -> None:
    """Keep Flower's progress lines off the screen; errors still show."""
    FLOWER_LOGGER.setLevel(logging.ERROR)


def empty_run() -> Run:
    """Flower's description of a run, with nothing in it but the id."""
    return Run.create_empty(RUN_ID)


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id


def set_reply_to(message: Message, message_id: str) -> None:
    """Let a reply to a repeated message be the reply to its first sending."""
    message.metadata.__dict__["_reply_to_message_id"] = message_id


def unreachable(reply: Message) -> bool:
    """Whether it is a SuperLink that says, in a hospital's place, that there is no reply (Flower's codes 3 to 5)."""
    return reply.has_error() and 3 <= reply.error.code <= UNAVAILABLE


def crashed(reply: Message) -> bool:
    """Whether the hospital's process for this message died, so that asking again may bring an answer."""
    return reply.has_error() and reply.error.code == CRASHED


def passing(error: Exception) -> bool:
    """Whether a call to a SuperLink failed for a reason that may pass: it was busy, out of reach or being restarted.

    A wrong certificate does not pass; a connection that ended during its handshake may.
    """
    busy = isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500
    return busy or (isinstance(error, httpx.TransportError) and "certificate" not in str(error).lower())


class Packed(NamedTuple):
    """A message as bytes: metadata or error, and content (``None`` if it has none)."""

    head: bytes
    content: bytes | None


def pack(message: Message) -> Packed:
    """Bytes of a whole message."""
    return Packer().pack(message)


class Packer:
    """Packs messages; a content that the message before carried too is written once, and must not change meanwhile."""

    def __init__(self) -> None:
        self._content: RecordDict | None = None
        self._data: bytes | None = None

    def pack(self, message: Message) -> Packed:
        """Bytes of a whole message."""
        content = message.content if message.has_content() else None
        if content is not self._content:
            self._content, self._data = content, None if content is None else dump_content(content)
        error = error_to_proto(message.error) if message.has_error() else None
        head = ProtoMessage(metadata=metadata_to_proto(message.metadata), error=error)
        return Packed(head.SerializeToString(), self._data)


def unpack(packed: Packed) -> Message:
    """Inverse of :func:`pack`; shares nothing with the message that was packed."""
    return _message(packed, None if packed.content is None else load_content(packed.content))


class Unpacker:
    """Unpacks messages; a content that came with the message before is read once, and every message has its own."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._content = RecordDict()

    def unpack(self, packed: Packed) -> Message:
        """Inverse of :func:`pack`."""
        if packed.content is None:
            return _message(packed, None)
        if packed.content != self._data:
            self._data, self._content = packed.content, load_content(packed.content)
        return _message(packed, _twin(self._content))


def _message(packed: Packed, content: RecordDict | None) -> Message:
    head = ProtoMessage.FromString(packed.head)
    error = error_from_proto(head.error) if head.HasField("error") else None
    message = make_message(metadata_from_proto(head.metadata), content, error)
    if packed.content is not None:
        message.__dict__[_SIZE] = content, len(packed.content)
    return message


_SIZE = "pettoolkit_size"


def content_size(message: Message) -> int:
    """Length in bytes of a message's serialised content, the same on all grids (metadata is not counted)."""
    content, size = message.__dict__.get(_SIZE, (None, 0))
    return size if content is message.content else len(dump_content(message.content))


def dump_content(content: RecordDict) -> bytes:
    """Bytes of a content."""
    data: bytes = recorddict_to_proto(content).SerializeToString()
    return data


def load_content(data: bytes) -> RecordDict:
    """Inverse of :func:`dump_content`.

    As Flower's ``recorddict_from_proto``, which checks once more the type of every value that protobuf has just given
    that type; with many small messages that is most of what a message costs.

    Raises
    ------
    ValueError
        If a record is of a kind that Flower doesn't know.
    """
    content = RecordDict()
    held = content.__dict__["_data"]
    for item in ProtoRecordDict.FromString(data).items:
        match item.WhichOneof("value"):
            case "array_record":
                record: Any = ArrayRecord()
                values = {each.key: _array(each.value) for each in item.array_record.items}
            case "metric_record":
                record = MetricRecord()
                values = {each.key: _value(each.value) for each in item.metric_record.items}
            case "config_record":
                record = ConfigRecord()
                values = {each.key: _value(each.value) for each in item.config_record.items}
            case _:
                raise ValueError("the message has a record of an unknown kind")
        record.__dict__["_data"].update(values)
        held[item.key] = record
    return content


def _array(proto: Any) -> Array:
    array = Array.__new__(Array)
    array.__dict__.update(dtype=proto.dtype, shape=tuple(proto.shape), stype=proto.stype, data=proto.data)
    return array


def _value(proto: Any) -> Any:
    field = proto.WhichOneof("value")
    if field is None:
        raise ValueError("the message has a key without a value")
    value = getattr(proto, field)
    return list(value.vals) if field.endswith("list") else value


def _twin(content: RecordDict) -> RecordDict:
    """The same content in records of its own; what can't be changed (texts, bytes) is shared."""
    twin = RecordDict()
    for name, record in content.items():
        mine: Any = type(record)()
        mine.__dict__["_data"].update({key: _own(value) for key, value in record.items()})
        twin.__dict__["_data"][name] = mine
    return twin


def _own(value: Any) -> Any:
    if isinstance(value, Array):
        array = Array.__new__(Array)
        array.__dict__.update(value.__dict__)
        return array
    return list(value) if isinstance(value, list) else value


def site_context(node_id: int, site: str) -> Context:
    """Make what Flower hands to a hospital's app beside the message; survives rounds."""
    return Context(
        run_id=RUN_ID,
        node_id=node_id,
        node_config={"site": site},
        state=RecordDict(),
        run_config={},
    )


def error_reply(message: Message, code: int, reason: str) -> Message:
    """Answer ``message`` with an error; ``reason`` must not hold anything about a patient."""
    return Message(Error(code=code, reason=reason), reply_to=message)


def bundle(app: Path) -> bytes:
    """A Flower app's folder as the bundle that Flower sends about."""
    from flwr.cli.build import build_fab_from_disk

    return build_fab_from_disk(app)


def run_superlink() -> None:
    """Be Flower's SuperLink, with the arguments of this process, behind :class:`.gate.Gate`."""
    from flwr.supercore import sql_mixin
    from flwr.supercore.corestate import sql_corestate
    from flwr.superlink import extensions
    from flwr.superlink.cli import flower_superlink
    from flwr.superlink.servicer.fleet import fleet_handlers
    from starlette.middleware import Middleware

    from pettoolkit.federation.gate import Gate, of_its_own
    from pettoolkit.federation.steady import Worker

    _patient()
    worker = Worker(SUPEREXEC)
    started = SimpleNamespace(Popen=worker.start, TimeoutExpired=subprocess.TimeoutExpired)
    vars(sys.modules[flower_superlink.__module__])["subprocess"] = started
    worker.watched()
    vars(sql_corestate)["HEARTBEAT_DEFAULT_INTERVAL"] = STARTS
    pragmas = {**dict(vars(sql_mixin)["SQLITE_PRAGMAS"]), "busy_timeout": str(LOCKED)}
    vars(sql_mixin)["SQLITE_PRAGMAS"] = tuple(pragmas.items())
    vars(fleet_handlers)["push_messages"] = of_its_own(fleet_handlers.push_messages)
    theirs = extensions.get_middleware
    vars(extensions)["get_middleware"] = lambda: (Middleware(Gate), *theirs())
    flower_superlink()


def run_superexec() -> None:
    """Be Flower's SuperExec, with the arguments of this process."""
    from flwr.supercore.cli.flower_superexec import flower_superexec

    _patient()
    flower_superexec()


def _patient() -> None:
    """Let this process repeat a call whose TLS handshake was late.

    Flower ends for good whatever makes a call that fails with "ssl" in the error's text: a wrong certificate, but also
    "_ssl.c: The handshake operation timed out", as happens on a busy machine.
    """
    from flwr.supercore.retry import http_retry

    theirs = vars(http_retry)["RetryInvoker"]

    def invoker(*, should_giveup: Callable[[Exception], bool], **options: Any) -> Any:
        return theirs(should_giveup=lambda e: not isinstance(e, httpx.TimeoutException) and should_giveup(e), **options)

    vars(http_retry)["RetryInvoker"] = invoker


def run_supernode(own: bytes, parent: int | None = None, let_in: Path | None = None) -> None:
    """Be Flower's SuperNode, with the arguments of this process; it runs the app ``own`` and no other.

    Flower fetches the app of a run from the SuperLink, and would run whatever that sends. Here it gets this node's
    own bundle in its place. A run of another app is answered with Flower's error for an app that is not trusted, before
    anything is unpacked: its check of signatures, made for trusted publishers, is here one of the hash.

    Nor does it fall silent for good, as Flower's does where a call fails on a busy machine: see :func:`_steady`.

    Parameters
    ----------
    parent
        Process with which this one ends.
    let_in
        File that is made as soon as the SuperLink has let this node in.
    """
    from flwr.supercore.app_utils import start_parent_process_monitor
    from flwr.supercore.fab import Fab
    from flwr.supernode import start_client_internal as node
    from flwr.supernode.cli import flower_supernode

    connect, pull = vars(node)["http_request_response"], vars(node)["_pull_and_store_message"]
    name = hashlib.sha256(own).hexdigest()

    @contextmanager
    def connected(*arguments: Any, **options: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*arguments, **options) as parts:
            node_id, receive, send, get_run, _, *rest = parts
            if let_in is not None:
                let_in.touch()
            yield node_id, receive, send, get_run, lambda asked, _run: Fab(asked, own, {"valid_license": "own"}), *rest

    vars(node)["http_request_response"] = connected
    vars(node)["_pull_and_store_message"] = lambda **parts: pull(**{**parts, "trusted_entities": {"own": name}})
    vars(node)["_verify_fab"] = lambda fab, _trusted: fab.hash_str == name
    _steady()
    if parent is not None:
        start_parent_process_monitor(parent)
    try:
        flower_supernode()
    finally:
        _end_children()


def _steady() -> None:
    """Let a SuperNode outlive what ends Flower's, or makes it wait for ever for an answer that nobody will give.

    Flower's thread of heartbeats ends at the first call that fails on the SuperLink's side, and its main loop likewise:
    the node is then gone, or there and never asked again. Where the process for a message ends without an answer (its
    call was lost, or it was killed early), or the worker that starts such processes died, the node waits for ever.
    """
    from flwr.supercore import heartbeat
    from flwr.supercore.corestate.in_memory_corestate import InMemoryCoreState
    from flwr.supernode import fleet_http_connection
    from flwr.supernode import start_client_internal as node

    from pettoolkit.federation.steady import Listening, Unanswered, Worker, survived

    _patient()
    for module in (heartbeat, fleet_http_connection):
        vars(module)["HEARTBEAT_DEFAULT_INTERVAL"] = HEARTBEAT
    sender, pull, push = heartbeat.HeartbeatSender, vars(node)["_pull_and_store_message"], vars(node)["_push_messages"]
    claim, worker = InMemoryCoreState.claim_task, Worker(SUPEREXEC)

    def claimed(state: Any, task_id: int) -> str | None:
        if token := claim(state, task_id):
            with state.lock_task_store:
                state.task_token_store[task_id].active_until += timedelta(seconds=STARTS)
        return token

    def pulled(**parts: Any) -> Any:
        return survived(lambda: pull(**parts), "no message could be fetched", None)

    def pushed(state: Any, object_store: Any, **parts: Any) -> None:
        try:
            push(state=Listening(state, worker.keep), object_store=object_store, **parts)
        except Unanswered:
            FLOWER_LOGGER.error("a message was not answered: the process for it ended; it can be asked again")
            object_store.clear()  # it has one message at a time, and nothing else's contents
            state.delete_messages()

    vars(fleet_http_connection)["HeartbeatSender"] = lambda beat: sender(
        lambda: survived(beat, "no sign of life could be given", False)
    )
    setattr(InMemoryCoreState, "claim_task", claimed)  # noqa: B010 - Flower's, and typed as fixed
    vars(node)["_pull_and_store_message"], vars(node)["_push_messages"] = pulled, pushed
    vars(node)["subprocess"] = SimpleNamespace(Popen=worker.start)


def _end_children() -> None:
    """Flower's worker outlives a SuperNode that is refused, and would look for it for ever."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
