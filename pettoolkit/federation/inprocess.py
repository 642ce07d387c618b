"""A grid with all hospitals in this process: deterministic, no start-up time, one hospital after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import Message

from pettoolkit.federation import flower
from pettoolkit.federation.deadline import Late, within
from pettoolkit.federation.host import AppFactory, Host, HostedGrid
from pettoolkit.federation.memory import peak_rss_mb


class InProcessGrid(HostedGrid):
    """Hospitals in this process, asked in sorted order; two runs give the same bits.

    Messages and replies are really serialised, so that nobody shares an array with anybody.
    Since they are asked one after the other, each may take the whole ``timeout``; see :func:`.deadline.within` for
    what it can't end.

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
        packer = flower.Packer()
        for message in messages:
            request = packer.pack(message)
            try:
                with within(timeout):
                    answer = self._host.answer(request)
            except Late:
                replies.append(flower.error_reply(message, flower.UNAVAILABLE, "gave no answer in time"))
                continue
            replies.append(self._read(self.site_of[message.metadata.dst_node_id], answer))
        self._rss["in-process"] = peak_rss_mb()
        return replies
