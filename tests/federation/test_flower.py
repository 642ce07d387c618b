"""The contract with Flower's private parts: if one of these fails, look at federation/flower.py first."""

import logging
import subprocess
import sys

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.logger import FLOWER_LOGGER

from pettoolkit.federation import flower

CONTENT = RecordDict({"config": ConfigRecord({"a": 1, "b": "ü"}), "arrays": ArrayRecord([np.arange(3.0)])})


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_messages_can_be_made_outside_a_server_app():
    code = (
        "from pettoolkit.federation import flower; from flwr.app import Message, RecordDict; flower.identify();"
        "m = Message(RecordDict(), 3, 'query').metadata; print(m.run_id, m.src_node_id, m.dst_node_id)"
    )
    assert run_python(code).stdout.split() == ["1", "0", "3"]


def test_an_identity_that_flower_gave_is_kept():
    code = (
        "from pettoolkit.federation import flower; from flwr.supercore.task_identity import TaskIdentity as T;"
        "T.run_id, T.node_id, T.task_id = 77, 1, 5; flower.identify(); print(T.run_id, T.node_id, T.task_id)"
    )
    assert run_python(code).stdout.split() == ["77", "1", "5"]


def test_importing_the_package_switches_telemetry_off_before_flower_reads_it():
    code = "import pettoolkit.federation.wire, flwr.supercore.telemetry as t; print(t.FLWR_TELEMETRY_ENABLED)"
    assert run_python(code).stdout.split() == ["0"]


def test_a_message_id_reaches_the_reply():
    flower.identify()
    message = Message(CONTENT, 2, "query")
    flower.set_message_id(message, "message-9")
    assert message.metadata.message_id == "message-9"
    assert Message(CONTENT, reply_to=message).metadata.reply_to_message_id == "message-9"


def test_packing_keeps_everything_and_shares_nothing():
    flower.identify()
    message = Message(CONTENT, 2, "train.step", group_id="4")
    back = flower.unpack(flower.pack(message))
    assert back.metadata.message_type == "train.step"
    assert back.metadata.group_id == "4"
    assert back.content == message.content
    assert back.content is not message.content


def test_an_error_survives_packing():
    flower.identify()
    message = Message(CONTENT, 2, "query")
    back = flower.unpack(flower.pack(flower.error_reply(message, flower.RAISED, "ValueError")))
    assert back.has_error()
    assert (back.error.code, back.error.reason, back.metadata.src_node_id) == (flower.RAISED, "ValueError", 2)


def test_our_error_codes_are_flowers():
    assert flower.RAISED == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert flower.UNAVAILABLE == ErrorCode.NODE_UNAVAILABLE


def test_content_size_is_the_length_of_the_bytes_and_needs_no_metadata():
    flower.identify()
    small, large = (Message(CONTENT, 2, "query", group_id=group) for group in ("1", "a much longer group"))
    assert flower.content_size(small.content) == flower.content_size(large.content)
    assert 0 < flower.content_size(CONTENT) < len(flower.pack(small))


def test_silence_keeps_errors():
    flower.silence()
    assert not FLOWER_LOGGER.isEnabledFor(logging.WARNING)
    assert FLOWER_LOGGER.isEnabledFor(logging.ERROR)
