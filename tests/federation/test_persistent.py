"""A grid that asks again: a lost reply, a node that died, a reply that comes twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from pettoolkit.federation import flower
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.persistent import PersistentGrid
from tests.federation.test_gate import echo_app


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Lossy(InProcessGrid):
    """Loses replies, or gives a SuperLink's word in their place, as ``spoil`` says for (how often asked)."""

    def __init__(self, spoil: Callable[[int], str]) -> None:
        super().__init__(echo_app, {"a": 0, "b": 1})
        self._spoil = spoil
        self.asked: list[int] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        found = []
        for reply in super().pull_messages(message_ids):
            self.asked.append(reply.metadata.src_node_id)
            how = self._spoil(self.asked.count(reply.metadata.src_node_id)) if reply.metadata.src_node_id == 2 else ""
            if how == "lost":
                continue
            if how in ("gone", "crashed"):
                code = flower.UNAVAILABLE if how == "gone" else flower.CRASHED
                words = Message(Error(code, "not there"), reply_to=request(2))
                flower.set_reply_to(words, reply.metadata.reply_to_message_id)
                reply = words
            found.append(reply)
        return found


def request(node: int) -> Message:
    return Message(RecordDict({"config": ConfigRecord({"x": node})}), node, "query")


def persistent(inner: Lossy) -> tuple[PersistentGrid, Clock]:
    clock = Clock()
    return PersistentGrid(inner, 2, again=10, clock=clock, sleep=clock.sleep), clock


def test_whoever_answers_is_asked_once() -> None:
    inner = Lossy(lambda _: "")
    grid, _ = persistent(inner)

    replies = grid.send_and_receive([request(1), request(2)], timeout=100)

    assert sorted(r.metadata.src_node_id for r in replies) == [1, 2]
    assert sorted(inner.asked) == [1, 2]


def test_a_lost_reply_is_asked_for_again_and_belongs_to_the_first_question() -> None:
    inner = Lossy(lambda times: "lost" if times == 1 else "")
    grid, clock = persistent(inner)
    first = request(2)

    (reply,) = grid.send_and_receive([first], timeout=100)

    assert reply.metadata.reply_to_message_id == first.metadata.message_id
    assert inner.asked == [2, 2]
    assert 10 <= clock.now < 20


def test_a_superlinks_word_for_a_dead_node_is_no_answer() -> None:
    inner = Lossy(lambda times: "gone" if times < 3 else "")
    grid, _ = persistent(inner)

    (reply,) = grid.send_and_receive([request(2)], timeout=100)

    assert not reply.has_error()


def test_a_node_that_was_gone_is_asked_again_once_it_is_back_and_not_before() -> None:
    """Its heartbeats were late: the SuperLink takes it for dead, hands on nothing that it says, and then lets it in."""
    inner = Lossy(lambda times: "gone" if times == 1 else "")
    clock = Clock()
    grid = PersistentGrid(inner, 2, again=1000, clock=clock, sleep=clock.sleep)
    inner.get_node_ids = lambda: [1, 2] if clock.now > 70 else [1]  # type: ignore[method-assign]

    (reply,) = grid.send_and_receive([request(2)], timeout=600)

    assert not reply.has_error()
    assert inner.asked == [2, 2]
    assert 70 < clock.now < 80


def test_why_a_node_never_answered_is_said_when_the_time_is_over() -> None:
    inner = Lossy(lambda _: "gone")
    grid, clock = persistent(inner)
    first = request(2)

    ok, word = grid.send_and_receive([request(1), first], timeout=60)

    assert not ok.has_error()
    assert word.error.reason == "not there"
    assert word.metadata.reply_to_message_id == first.metadata.message_id
    assert clock.now >= 60


def test_a_process_that_died_once_is_asked_again_and_one_that_always_dies_has_failed() -> None:
    once, always = Lossy(lambda times: "crashed" if times == 1 else ""), Lossy(lambda _: "crashed")
    (well,) = persistent(once)[0].send_and_receive([request(2)], timeout=600)
    grid, clock = persistent(always)
    (ill,) = grid.send_and_receive([request(2)], timeout=600)

    assert not well.has_error()
    assert flower.crashed(ill)
    assert len(always.asked) == 3
    assert clock.now < 60


@pytest.mark.parametrize("call", ["push_messages", "pull_messages", "get_node_ids"])
def test_a_superlink_that_is_busy_for_a_while_is_called_again(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Lossy(lambda times: "gone" if times == 1 else "")
    grid, clock = persistent(inner)
    theirs, busy = getattr(inner, call), [late_handshake, server_error, late_handshake]

    monkeypatch.setattr(inner, call, lambda *given: busy.pop()() if busy else theirs(*given))

    (reply,) = grid.send_and_receive([request(2)], timeout=100)

    assert not reply.has_error()
    assert busy == []
    assert clock.now < 60


def test_a_superlink_that_refuses_a_call_is_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Lossy(lambda _: "")
    grid, clock = persistent(inner)
    monkeypatch.setattr(inner, "pull_messages", lambda _: server_error(403))

    with pytest.raises(httpx.HTTPStatusError):
        grid.send_and_receive([request(2)], timeout=100)

    assert clock.now == 0


@pytest.mark.parametrize("call", ["pull_messages", "get_node_ids", "push_messages"])
def test_what_came_before_a_superlink_failed_for_good_is_kept(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever is missing is dropped, and the reason said, as where a hospital is out of reach."""
    inner = Lossy(lambda _: "gone" if call == "get_node_ids" else "lost")
    grid, clock = persistent(inner)
    theirs = getattr(inner, call)
    monkeypatch.setattr(inner, call, lambda *given: server_error(503) if clock.now >= 5 else theirs(*given))

    ok, word = grid.send_and_receive([request(1), request(2)], timeout=60)

    assert (ok.metadata.src_node_id, ok.has_error()) == (1, False)
    assert (word.metadata.src_node_id, flower.unreachable(word)) == (2, True)
    assert ("not there" if call == "get_node_ids" else "the SuperLink could not be called") in word.error.reason
    assert 60 <= clock.now < 70


def test_of_a_superlink_that_always_fails_it_is_said_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Lossy(lambda _: "")
    grid, clock = persistent(inner)
    monkeypatch.setattr(inner, "push_messages", lambda _: server_error())

    words = grid.send_and_receive([request(1), request(2)], timeout=60)

    assert [w.metadata.src_node_id for w in words] == [1, 2]
    assert all("the SuperLink could not be called" in w.error.reason for w in words)
    assert clock.now >= 60


def test_a_wrong_certificate_is_not_waited_out_and_a_broken_handshake_is(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Lossy(lambda _: "")
    grid, clock = persistent(inner)
    wrong = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
    monkeypatch.setattr(inner, "pull_messages", lambda _: raises(wrong))

    with pytest.raises(httpx.ConnectError):
        grid.send_and_receive([request(2)], timeout=100)

    assert clock.now == 0
    assert flower.passing(httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred (_ssl.c:983)"))


def raises(error: Exception) -> NoReturn:
    raise error


def late_handshake() -> NoReturn:
    raise httpx.ConnectTimeout("_ssl.c:983: The handshake operation timed out")


def server_error(code: int = 500) -> NoReturn:
    asked = httpx.Request("POST", "https://127.0.0.1/v1/runtime/pull-messages")
    raise httpx.HTTPStatusError("database is locked", request=asked, response=httpx.Response(code, request=asked))


def test_it_gives_up_when_the_time_is_over() -> None:
    inner = Lossy(lambda _: "lost")
    grid, clock = persistent(inner)

    replies = grid.send_and_receive([request(1), request(2)], timeout=60)

    assert [r.metadata.src_node_id for r in replies] == [1]
    assert 60 <= clock.now < 61
    assert inner.asked.count(2) == 3  # at once, after 10, after 30 seconds


def test_it_waits_for_hospitals_to_connect() -> None:
    inner = Lossy(lambda _: "")
    grid, clock = persistent(inner)
    late = [[1], [1], [1, 2]]
    inner.get_node_ids = lambda: late.pop(0) if late else [1, 2]  # type: ignore[method-assign]

    assert grid.get_node_ids() == [1, 2]
    assert clock.now > 0
