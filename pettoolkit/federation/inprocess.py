"""A grid with all hospitals in this process: deterministic, no start-up time, one hospital after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import Message

from pettoolkit.federation import flower
from pettoolkit.federation.host import AppFactory, Host, HostedGrid
from pettoolkit.federation.memory import peak_rss_mb


class InProcessGrid(HostedGrid):
    """Hospitals in this process, asked in sorted order; two runs give the same bits.

    Messages and replies are really serialised, so that nobody shares an array with anybody.
    A ``timeout`` has no effect: a hospital that hangs here hangs the caller.

    Parameters
    ----------
    app_factory
        Builds the app from ``hosted``.
    hosted
        Site name -> what that hospital holds.
    """

    def __init__(self, app_factory: AppFactory, hosted: Mapping[str, Any]) -> None:
        super().__init__(hosted)
        self._host = Host(app_factory, hosted, self.node_ids)

    def _reset_peaks(self) -> dict[str, float]:
        return {"in-process": self._host.reset_peak()}

    def _deliver(self, messages: list[Message], timeout: float | None) -> list[Message]:
        replies = []
        for message, packed in zip(messages, flower.pack_all(messages), strict=True):
            answer = self._host.answer(packed)
            replies.append(self._read(self.site_of[message.metadata.dst_node_id], answer))
        self._rss["in-process"] = peak_rss_mb()
        return replies
