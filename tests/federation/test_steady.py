"""A SuperNode that does not fall silent: calls that fail, an answer that never comes, a worker that died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from pettoolkit.federation import flower
from pettoolkit.federation.steady import Listening, Unanswered, Worker, survived

RUN = 1


@pytest.fixture
def state() -> InMemoryNodeState:
    found = InMemoryNodeState(ObjectStoreFactory().store())
    found.set_node_id(7)
    return found


def question(state: InMemoryNodeState) -> tuple[int, Message]:
    """A message that waits in a node, and the task for it, which a process has begun."""
    flower.identify()
    message = Message(RecordDict({"c": ConfigRecord({"x": 1})}), 7, "query")
    flower.set_message_id(message, message.object_id)
    task = state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="")
    assert task is not None
    state.store_message(message)
    assert state.claim_task(task)
    assert state.activate_task(task)
    return task, message


def test_an_answer_is_handed_on(state: InMemoryNodeState) -> None:
    task, message = question(state)
    reply = Message(RecordDict(), reply_to=message)
    flower.set_message_id(reply, reply.object_id)
    state.store_message(reply)
    state.finish_task(task, SubStatus.COMPLETED, "")

    assert list(Listening(state, lambda: None).get_messages_legacy(is_reply=True)) == [reply]


def test_a_process_that_works_is_waited_for(state: InMemoryNodeState) -> None:
    question(state)

    assert list(Listening(state, lambda: None).get_messages_legacy(is_reply=True)) == []


def test_a_process_that_ended_without_an_answer_is_not_waited_for(state: InMemoryNodeState) -> None:
    """Flower waits for ever here: the lost answer to one call of the process is enough."""
    task, _ = question(state)
    state.finish_task(task, SubStatus.FAILED, "Failed to start task.")

    with pytest.raises(Unanswered):
        Listening(state, lambda: None).get_messages_legacy(is_reply=True)


def test_the_rest_of_the_state_is_flowers(state: InMemoryNodeState) -> None:
    assert Listening(state, lambda: None).get_node_id() == 7


def test_a_call_that_fails_is_no_end() -> None:
    def locked() -> bool:
        request = httpx.Request("POST", "https://127.0.0.1/v1/fleet/send-node-heartbeat")
        raise httpx.HTTPStatusError("database is locked", request=request, response=httpx.Response(500))

    assert survived(locked, "no sign of life", False) is False
    assert survived(lambda: True, "no sign of life", False) is True


def test_a_worker_that_died_is_started_again() -> None:
    worker = Worker([sys.executable, "-c", "input()"])
    worker.PAUSE = 0.0
    worker.keep()  # none yet
    first = worker.start(["flower-superexec", "--insecure"])
    worker.keep()
    assert worker.running is first
    first.kill()
    first.wait()

    worker.keep()

    try:
        assert worker.running is not first
        assert worker.running is not None
        assert worker.running.args == first.args == [sys.executable, "-c", "input()", "--insecure"]
    finally:
        worker.running.kill()  # type: ignore[union-attr]
        worker.running.wait()  # type: ignore[union-attr]


def test_a_late_handshake_is_no_wrong_certificate() -> None:
    """Flower ends the process that starts all others at the first such error."""
    code = """
import httpx
from flwr.supercore.retry import http_retry
from pettoolkit.federation import flower
flower._patient()
made = http_retry.make_simple_http_retry_invoker()
made.wait_function = lambda seconds: None
late, wrong = httpx.ConnectTimeout("_ssl.c:989: The handshake operation timed out"), httpx.ConnectError("certificate")
errors = [late, late]
def call():
    if errors: raise errors.pop()
    return "answer"
assert made.invoke(call) == "answer"
errors = [late, wrong]
try: made.invoke(call)
except httpx.ConnectError: pass
assert errors == [late]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_supernode_is_steady() -> None:
    """What is put in the place of Flower's own, in a process that can be spoilt."""
    code = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.corestate.in_memory_corestate import InMemoryCoreState
from flwr.supernode import fleet_http_connection, start_client_internal as node
from pettoolkit.federation import flower
pull, push = node._pull_and_store_message, node._push_messages
flower._steady()
def fails(): raise RuntimeError("the SuperLink does not recognise it")
assert fleet_http_connection.HeartbeatSender(fails).heartbeat_fn() is False
def receive(): raise RuntimeError("500")
assert node._pull_and_store_message(state=None, object_store=None, node_config={}, receive=receive, get_run=None,
    get_fab=None, pull_object=None, confirm_message_received=None, trusted_entities=None) is None
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from flwr.supercore.constant import TaskType
from flwr.supercore.date import now
store = ObjectStoreFactory().store()
state = InMemoryNodeState(store)
flower.identify()
node._insert_message(Message(RecordDict({"model": ConfigRecord({"x": 1})}), 7, "query"), state, store)
assert len(store) > 1
node._push_messages(state=state, object_store=store, send=None, push_object=None)  # Flower's waits for ever
assert len(store) == 0  # else each such message keeps its model in memory
task = state.create_task(task_type=TaskType.CLIENT_APP, run_id=1, fab_hash="")
assert state.claim_task(task)
assert (state.task_token_store[task].active_until - now()).total_seconds() > 140
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_supernode_says_that_it_was_let_in_and_not_before(tmp_path: Path) -> None:
    code = """
import sys
from contextlib import contextmanager
from pathlib import Path
from flwr.supernode import cli, start_client_internal as node
from pettoolkit.federation import flower
said = Path(sys.argv[1])
@contextmanager
def connect(refused):
    assert not said.exists()
    if refused: raise RuntimeError("401")
    yield tuple(range(8))
def flower_supernode():
    try:
        with node.http_request_response(True): pass
    except RuntimeError: pass
    assert not said.exists()
    with node.http_request_response(False) as parts: assert len(parts) == 8
node.http_request_response, cli.flower_supernode = connect, flower_supernode
flower.run_supernode(b"", None, said)
assert said.exists()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "let_in")], check=True, timeout=120)
