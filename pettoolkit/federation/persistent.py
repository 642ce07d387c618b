"""A grid over Flower's own that asks again: a hospital whose process died, or whose reply was lost, is asked anew.

Flower hands a message to a node once. A node that is killed after that never answers it, and a restarted one is not
asked again. Hospitals keep their answers (they say the same again), so asking twice costs nothing. A node that was out
of reach for a while is asked again as soon as it is back.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from pettoolkit.federation import flower

T = TypeVar("T")

POLL = 0.5
"""Seconds between two looks for replies."""

AGAIN = 45.0
"""Seconds after which a hospital that has not answered is asked again; then twice as many, and so on."""

BACK = 5.0
"""Seconds between two looks whether a hospital that was not there is back."""

CRASHES = 3
"""How often a hospital's process may die over one message before that is its answer."""

GATHERING = 120.0
"""Seconds to wait until all hospitals are connected."""


class PersistentGrid(Grid):
    """Carries messages over another grid, and repeats those that bring no answer.

    Parameters
    ----------
    inner
        Flower's grid over its SuperLink.
    nodes
        How many hospitals have to be connected before anybody is asked.
    again, gathering
        Seconds; see :data:`AGAIN` and :data:`GATHERING`.
    clock, sleep
        Of the system; tests bring their own.
    """

    def __init__(
        self,
        inner: Grid,
        nodes: int,
        *,
        again: float = AGAIN,
        gathering: float = GATHERING,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._nodes = nodes
        self._again = again
        self._gathering = gathering
        self._clock = clock
        self._sleep = sleep

    def set_run(self, run: Run) -> None:
        """As the inner grid's."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """As the inner grid's."""
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message to one hospital."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Nodes that are connected; waits a while until there are as many as there should be."""
        end = self._clock() + self._gathering
        while len(found := self._connected(end)) < self._nodes and self._clock() < end:
            self._sleep(POLL)
        return found

    def _connected(self, end: float) -> list[int]:
        return self._tried(lambda: sorted(self._inner.get_node_ids()), end)

    def _tried(self, call: Callable[[], T], end: float) -> T:
        """Result of a call to the SuperLink, which may fail for a while until ``end``."""
        while True:
            try:
                return call()
            except Exception as error:
                if not flower.passing(error) or self._clock() >= end:
                    raise
                self._sleep(BACK)

    def node_keys(self) -> dict[int, bytes]:
        """Public key (PEM) by which each connected node proves who it is, as the SuperLink has registered it."""
        of_flower: Any = self._inner
        nodes: list[Any] = self._tried(lambda: list(of_flower.get_nodes()), self._clock() + self._gathering)
        return {node.node_id: node.public_key for node in nodes}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the inner grid's: nothing is repeated."""
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As the inner grid's."""
        return self._inner.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Ask, and ask again, until each has answered or ``timeout`` seconds are over.

        Returns
        -------
        list of Message
            At most one reply to each message, as if to its first sending. What a SuperLink says in a hospital's place
            (that it is not there) is a reply only when the time is over: until then the hospital may come back. So is
            that the hospital's process died, unless it does so :data:`CRASHES` times. Where the SuperLink itself can't
            be called when the time is over, that is said in the place of whoever has not answered.
        """
        asked = list(messages)
        end = self._clock() + (math.inf if timeout is None else timeout)
        replies: dict[str, Message] = {}
        words: dict[str, Message] = {}  # why there is no reply yet, by the first sending
        silent: list[Message] = []
        try:
            self._gather(asked, end, replies, words)
        except Exception as error:
            if not flower.passing(error) or self._clock() < end:
                raise
            why = f"the SuperLink could not be called any more: {error}"
            missing = [m for m in asked if m.metadata.message_id not in {*replies, *words}]
            silent = [flower.error_reply(m, flower.UNAVAILABLE, why) for m in missing]
        return [*replies.values(), *words.values(), *silent]

    def _gather(self, asked: list[Message], end: float, replies: dict[str, Message], words: dict[str, Message]) -> None:
        """Fill in replies, and words for those that are still missing when the time is over."""
        start = self._clock()
        first = dict(zip(self._push(asked, end), asked, strict=True))
        open_ = {identifier: identifier for identifier in first}
        crashes: Counter[str] = Counter()
        wait, due, look = self._again, start + self._again, start
        while len(replies) < len(first):
            for reply in self._tried(lambda: list(self._inner.pull_messages(open_)), end):  # noqa: B023
                original = open_.pop(reply.metadata.reply_to_message_id)
                if original in replies:
                    continue
                flower.set_reply_to(reply, original)
                crashes[original] += flower.crashed(reply)
                if flower.unreachable(reply) or (flower.crashed(reply) and crashes[original] < CRASHES):
                    words[original] = reply
                else:
                    replies[original] = reply
                    words.pop(original, None)
            open_ = {sent: original for sent, original in open_.items() if original not in replies}
            now = self._clock()
            if now >= end:
                break
            missing = {i: m for i, m in first.items() if i not in replies}
            if missing and now >= due:
                wait, due = wait * 2, now + wait * 2
            elif now >= look and (silent := {i: m for i, m in missing.items() if i in words}):
                look, here = now + BACK, set(self._connected(end))
                missing = {i: m for i, m in silent.items() if m.metadata.dst_node_id in here}
            else:
                missing = {}
            if missing:
                open_ |= self._repeated(missing, end)
                for original in missing:
                    words.pop(original, None)
            if len(replies) < len(first):
                self._sleep(POLL)

    def _repeated(self, unanswered: dict[str, Message], end: float) -> dict[str, str]:
        """New identifiers of messages that are sent again, and whose they are."""
        again = [
            Message(m.content, m.metadata.dst_node_id, m.metadata.message_type, group_id=m.metadata.group_id)
            for m in unanswered.values()
        ]
        return dict(zip(self._push(again, end), unanswered, strict=True))

    def _push(self, messages: list[Message], end: float) -> list[str]:
        # Twice the same message is one to the SuperLink: its id is a digest of it.
        return self._tried(lambda: [str(identifier) for identifier in self._inner.push_messages(messages)], end)
