"""The one place that touches Flower's private parts; its tests say what is relied upon, and flwr is pinned.

Four things are private in Flower 1.41: the identity of the task that creates messages, the id of a
message (a SuperLink sets it), the protobuf form of a message, and the logger. The environment that
keeps Flower from calling home is set in this package's ``__init__``.
"""

from __future__ import annotations

import logging

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.logger import FLOWER_LOGGER
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
COORDINATOR_NODE_ID = 0
"""Node id of the coordinator on our own grids; hospitals are 1..n."""

UNAVAILABLE = 5
"""Flower's ``ErrorCode.NODE_UNAVAILABLE``: the hospital could not be asked."""
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


def pack(message: Message) -> bytes:
    """Bytes of a whole message, content included."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def unpack(data: bytes) -> Message:
    """Inverse of :func:`pack`; shares nothing with the message that was packed."""
    return message_from_proto(ProtoMessage.FromString(data))


def content_size(content: RecordDict) -> int:
    """Length in bytes of the serialised content, the same on all grids (metadata is not counted)."""
    size: int = recorddict_to_proto(content).ByteSize()
    return size


def copy_content(content: RecordDict) -> RecordDict:
    """Copy a content by way of its bytes."""
    return recorddict_from_proto(ProtoRecordDict.FromString(recorddict_to_proto(content).SerializeToString()))


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
