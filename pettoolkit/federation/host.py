"""What runs where the hospitals are: one app answering for some sites, and the error texts that may leave.

The same code runs in this process (:mod:`.inprocess`) and in Ray's workers (:mod:`.ray_grid`). Messages
come in and go out as bytes, so that nobody shares an array and bytes on the wire are real.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from pettoolkit.errors import BadInput, PetError
from pettoolkit.federation import flower
from pettoolkit.federation.memory import peak_rss_mb, reset_peak_rss

AppFactory = Callable[[Mapping[str, Any]], ClientApp]
"""Builds the app of some hospitals from what they hold (site name -> payload). Module-level, to reach Ray's workers."""

Usage = dict[str, dict[str, float]]
"""``{"cpu_seconds": {site: seconds}, "peak_rss_mb": {worker: MB}}``."""

_log = logging.getLogger("pettoolkit.hospital")


def safe_reason(error: BaseException) -> str:
    """Say what may leave about an error inside a hospital.

    The text of our own errors is written for people and names no patient; of any other error only
    the type leaves, since its text can quote a patient's values.
    """
    return str(error) if isinstance(error, PetError) else type(error).__name__


def sanitised(message: Message, context: Context, app: Callable[[Message, Context], Message]) -> Message:
    """Answer with ``app``, or with a sanitised error. Also a Flower mod: ``ClientApp(mods=[sanitised])``."""
    try:
        reply = app(message, context)
    except (Exception, SystemExit) as error:
        _log.debug("a message to %s failed", context.node_config.get("site"), exc_info=True)
        return flower.error_reply(message, flower.RAISED, safe_reason(error))
    if not isinstance(reply, Message):
        return flower.error_reply(message, flower.RAISED, "its app answered with no message")
    return reply


@dataclass(frozen=True)
class Answer:
    """A packed reply, and the CPU seconds that it took."""

    reply: flower.Packed
    cpu_seconds: float


class Host:
    """Answers for some hospitals, one message at a time.

    Parameters
    ----------
    app_factory
        Builds the app from ``hosted``.
    hosted
        Site name -> payload; opaque here.
    node_ids
        Site name -> node id; more sites than are hosted may be named.
    """

    def __init__(self, app_factory: AppFactory, hosted: Mapping[str, Any], node_ids: Mapping[str, int]) -> None:
        flower.identify()
        flower.silence()
        self._app = app_factory(hosted)
        self._unpacker = flower.Unpacker()
        self._contexts = {node_ids[site]: flower.site_context(node_ids[site], site) for site in sorted(hosted)}

    def answer(self, request: flower.Packed) -> Answer:
        """Handle one packed message for one of the hosted sites."""
        start = time.process_time()
        message = self._unpacker.unpack(request)
        reply = sanitised(message, self._contexts[message.metadata.dst_node_id], self._app)
        packed = flower.pack(reply)
        return Answer(packed, time.process_time() - start)

    def reset_peak(self) -> float:
        """Count this process's peak memory from now on, where the system can; gives it as it is now (MB)."""
        reset_peak_rss()
        return peak_rss_mb()


class HostedGrid(Grid):
    """What our own grids have in common: node ids 1..n in sorted order of names, replies in node order.

    Parameters
    ----------
    sites
        Names of the hospitals.

    Raises
    ------
    BadInput
        If there is none.
    """

    def __init__(self, sites: Iterable[str]) -> None:
        self.node_ids = {site: index for index, site in enumerate(sorted(sites), start=1)}
        if not self.node_ids:
            raise BadInput("sites: there is no hospital to talk to (name at least one)")
        self.site_of = {node: site for site, node in self.node_ids.items()}
        flower.identify()
        flower.silence()
        self._run = flower.empty_run()
        self._sent = 0
        self._pushed: dict[str, Message] = {}
        self._cpu = dict.fromkeys(self.node_ids, 0.0)
        self._rss: dict[str, float] = {}

    def set_run(self, run: Run) -> None:
        """Set Flower's description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message to one hospital."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Node ids of all hospitals, sorted."""
        return sorted(self.site_of)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; they are answered at once and the replies kept for :meth:`pull_messages`."""
        messages = list(messages)
        self._pushed |= {reply.metadata.reply_to_message_id: reply for reply in self.send_and_receive(messages)}
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Collect the replies to pushed messages, each once."""
        return [self._pushed.pop(message_id) for message_id in list(message_ids) if message_id in self._pushed]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Ask hospitals and wait for their replies.

        Parameters
        ----------
        messages
            One per hospital.
        timeout
            Seconds to wait; ``None`` waits for ever.

        Returns
        -------
        list of Message
            In order of node ids. A hospital that failed answers with an error.

        Raises
        ------
        ValueError
            If a message goes to a node that is not on this grid, or two go to the same one.
        """
        outbox = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        nodes = [message.metadata.dst_node_id for message in outbox]
        if len(set(nodes)) < len(nodes) or not all(node in self.site_of for node in nodes):
            raise ValueError(f"messages to nodes {nodes}: each must be one of 1..{len(self.site_of)}, and only once")
        for message in outbox:
            self._sent += 1
            flower.set_message_id(message, f"message-{self._sent}")
        replies = self._deliver(outbox, timeout)
        for message in replies:
            flower.set_message_id(message, f"reply-to-{message.metadata.reply_to_message_id}")
        return sorted(replies, key=lambda reply: reply.metadata.src_node_id)

    def usage(self) -> Usage:
        """CPU seconds that each hospital's messages took so far, and the peak memory (MB) of each worker.

        The peak is that since :meth:`reset_peaks`, or since the worker's start where the system can't reset it.
        """
        return {"cpu_seconds": dict(self._cpu), "peak_rss_mb": dict(self._rss)}

    def reset_peaks(self) -> None:
        """Count every worker's peak memory from now on: what a cell needs, not those before it."""
        self._rss = self._reset_peaks()

    def close(self) -> None:
        """Let go of what the grid holds; may be called twice."""
        self._pushed.clear()

    def _read(self, site: str, answer: Answer) -> Message:
        self._cpu[site] += answer.cpu_seconds
        return flower.unpack(answer.reply)

    @abstractmethod
    def _reset_peaks(self) -> dict[str, float]:
        """Reset the workers that there are, and give their memory (MB)."""

    @abstractmethod
    def _deliver(self, messages: list[Message], timeout: float | None) -> list[Message]:
        """Carry messages to the hospitals and bring back one reply each."""
