"""The contract with Flower's private parts: if one of these fails, look at federation/flower.py first."""

import logging
import subprocess
import sys

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.logger import FLOWER_LOGGER
from hypothesis import given
from hypothesis import strategies as st

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
    assert flower.CRASHED == ErrorCode.CLIENT_APP_CRASHED


def test_content_size_is_the_length_of_the_bytes_and_needs_no_metadata():
    flower.identify()
    small, large = (Message(CONTENT, 2, "query", group_id=group) for group in ("1", "a much longer group"))
    assert flower.content_size(small) == flower.content_size(large)
    assert 0 < flower.content_size(small) < sum(map(len, flower.pack(small)))


def test_content_size_of_a_message_that_came_follows_its_content():
    flower.identify()
    came = flower.unpack(flower.pack(Message(CONTENT, 2, "query")))
    assert flower.content_size(came) == len(flower.dump_content(CONTENT))
    came.content = RecordDict({**CONTENT, "more": ConfigRecord({"x": 1})})
    assert flower.content_size(came) == len(flower.dump_content(came.content))


def test_messages_with_one_content_come_with_a_content_each():
    flower.identify()
    shared = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(3.0))}),
            "config": ConfigRecord({"names": ["a", "b"], "x": 1}),
            "metrics": MetricRecord({"loss": [1.0]}),
        }
    )
    packer, unpacker = flower.Packer(), flower.Unpacker()
    one, two = (unpacker.unpack(packer.pack(Message(shared, node, "train"))) for node in (1, 2))
    assert (one.metadata.dst_node_id, two.metadata.dst_node_id) == (1, 2)
    assert one.content == two.content == shared

    one.content["config"]["names"].append("c")
    one.content["metrics"]["loss"][0] = 2.0
    one.content["arrays"]["w"].data = b"changed"
    del one.content["config"]["x"]

    assert two.content == shared
    assert unpacker.unpack(flower.pack(Message(shared, 3, "train"))).content == shared


def test_each_message_of_a_batch_has_its_own_content():
    flower.identify()
    contents = [RecordDict({"c": ConfigRecord({"n": n})}) for n in (1, 2, 1)]
    batch = [Message(content, 1, "train") for content in contents]
    batch.append(flower.error_reply(batch[0], flower.RAISED, "ValueError"))
    batch.append(Message(contents[0], 2, "train"))
    packer, unpacker = flower.Packer(), flower.Unpacker()
    back = [unpacker.unpack(packer.pack(message)) for message in batch]
    assert [m.content["c"]["n"] for m in back if m.has_content()] == [1, 2, 1, 1]
    assert back[3].error.reason == "ValueError"


SCALARS = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.booleans(), st.text(), st.binary(max_size=20)
)
LISTS = st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.text()), st.lists(st.booleans(), min_size=1))


@given(
    st.dictionaries(st.text(), SCALARS | LISTS),
    st.dictionaries(st.text(), st.floats(allow_nan=False) | st.lists(st.integers(0, 2**64 - 1), min_size=1)),
    st.dictionaries(st.text(), st.tuples(st.lists(st.integers(0, 9), max_size=3), st.binary(max_size=30))),
)
def test_contents_are_read_as_flower_reads_them(config, metrics, arrays):
    content = RecordDict(
        {
            "config": ConfigRecord(config),
            "metrics": MetricRecord(metrics),
            "arrays": ArrayRecord({k: Array("uint8", tuple(s), "any", d) for k, (s, d) in arrays.items()}),
        }
    )
    data = flower.dump_content(content)
    theirs, ours = recorddict_from_proto(ProtoRecordDict.FromString(data)), flower.load_content(data)
    assert ours == theirs == content
    for name in theirs:
        assert type(ours[name]) is type(theirs[name])
        assert {k: type(v) for k, v in ours[name].items()} == {k: type(v) for k, v in theirs[name].items()}
    assert flower.dump_content(ours) == data
    assert ours.object_id == theirs.object_id  # Flower's own hash of it all: of what a SuperLink would be sent


def test_silence_keeps_errors():
    flower.silence()
    assert not FLOWER_LOGGER.isEnabledFor(logging.WARNING)
    assert FLOWER_LOGGER.isEnabledFor(logging.ERROR)
