import numpy as np
import pytest
from federation_app import PATIENT, make_app
from flwr.app import Message

from pettoolkit.errors import BadInput
from pettoolkit.federation import flower, memory, wire
from pettoolkit.federation.inprocess import InProcessGrid


def messages(grid, action, **parts):
    content = wire.request(action=action, purpose="training", **parts)
    return [grid.create_message(content, "query", node, "0") for node in grid.get_node_ids()]


def test_nodes_are_numbered_in_sorted_order_of_names():
    grid = InProcessGrid(make_app, {name: {} for name in ("zeta", "alpha", "mid")})
    assert grid.get_node_ids() == [1, 2, 3]
    replies = grid.send_and_receive(messages(grid, "hello"))
    assert [wire.read_envelope(reply.content).site for reply in replies] == ["alpha", "mid", "zeta"]


def test_replies_come_in_node_order_whatever_the_order_of_asking(inline):
    replies = inline.send_and_receive(reversed(messages(inline, "hello")))
    assert [reply.metadata.src_node_id for reply in replies] == [1, 2, 3, 4, 5]


def test_two_runs_give_the_same_bits(hosted):
    arrays = {"x": np.random.default_rng(0).normal(size=1000)}
    runs = []
    for _ in range(2):
        grid = InProcessGrid(make_app, hosted)
        replies = grid.send_and_receive(messages(grid, "total", arrays=arrays))
        runs.append([wire.arrays_of(reply.content)["sum"].tobytes() for reply in replies])
    assert runs[0] == runs[1]


def test_nobody_shares_an_array(inline):
    array = np.zeros((3, 4), dtype=np.float32)
    asked = messages(inline, "nan", kind="model", arrays={"w": array})
    replies = inline.send_and_receive(asked)
    assert np.isfinite(array).all()
    assert np.isfinite(wire.arrays_of(asked[0].content)["w"]).all()
    assert np.isnan(wire.arrays_of(replies[0].content)["w"]).sum() == 1


def test_state_belongs_to_a_site_and_survives_rounds(inline):
    inline.send_and_receive(messages(inline, "count")[:1])
    replies = inline.send_and_receive(messages(inline, "count"))
    assert [wire.metrics_of(reply.content)["asked"] for reply in replies] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(("action", "reason"), [("leak", "ValueError"), ("leave", "SystemExit")])
def test_of_an_error_only_the_type_leaves(inline, action, reason):
    replies = inline.send_and_receive(messages(inline, action))
    assert {reply.error.reason for reply in replies} == {reason}
    assert not any(PATIENT.encode() in part for reply in replies for part in flower.pack(reply) if part)


def test_the_text_of_our_own_errors_is_passed_on(inline):
    replies = inline.send_and_receive(messages(inline, "refuse"))
    assert replies[0].error.reason == "kind raw_records is not listed in this hospital's policy"


def test_an_action_that_is_not_registered_is_an_error_of_that_hospital(inline):
    content = wire.request(action="hello", purpose="setup")
    reply = inline.send_and_receive([Message(content, 1, "query.other")])[0]
    assert reply.error.reason == "ValueError"


def test_pushed_messages_are_pulled_once(inline):
    ids = inline.push_messages(messages(inline, "hello"))
    assert len(inline.pull_messages(ids)) == 5
    assert inline.pull_messages(ids) == []


@pytest.mark.parametrize("nodes", [[1, 1], [6], [0]])
def test_messages_to_nobody_or_twice_are_refused(inline, nodes):
    content = wire.request(action="hello", purpose="setup")
    with pytest.raises(ValueError, match=r"1\.\.5"):
        inline.send_and_receive([Message(content, node, "query") for node in nodes])


def test_a_grid_without_hospitals_is_refused():
    with pytest.raises(BadInput, match="no hospital"):
        InProcessGrid(make_app, {})


def test_cpu_seconds_are_kept_per_site(inline):
    inline.send_and_receive(messages(inline, "hello")[:2])
    seconds = inline.usage()["cpu_seconds"]
    assert seconds["alder"] > 0
    assert seconds["birch"] > 0
    assert seconds["fir"] == 0
    assert inline.usage()["peak_rss_mb"]["in-process"] > 10


@pytest.mark.skipif(not memory._CLEAR.exists(), reason="only Linux can reset a process's peak memory")
def test_peak_memory_is_counted_anew_for_each_cell(inline):
    inline.send_and_receive(messages(inline, "swell")[:1])
    first = inline.usage()["peak_rss_mb"]["in-process"]
    inline.reset_peaks()
    inline.send_and_receive(messages(inline, "hello")[:1])
    assert inline.usage()["peak_rss_mb"]["in-process"] < first - 100
