"""What a SuperLink answers to others than its own machine: what hospitals need, and nothing else.

Flower serves everything on one port: the hospitals' messages, but also starting runs, registering nodes and the calls
of its own worker processes, none of which asks for a password. Those are for the coordinator's own machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FOR_HOSPITALS = ("/v1/fleet/", "/health")
"""Paths that hospitals ask for; each of their calls is signed with a registered node key."""


class Gate:
    """ASGI middleware that refuses everything but :data:`FOR_HOSPITALS` to other machines."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] not in ("http", "websocket") or admitted(scope):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def of_its_own(push: Callable[..., Any]) -> Callable[..., Any]:
    """Let a hospital push answers of its own alone: Flower looks whose key signs a call, not for whom it answers."""

    def checked(request: Any, state: Any) -> Any:
        from fastapi import HTTPException

        if any(message.metadata.src_node_id != request.node.node_id for message in request.messages_list):
            raise HTTPException(403, "an answer in the name of another node")
        return push(request=request, state=state)

    return checked


def admitted(scope: Scope) -> bool:
    """Whether a request is a hospital's, or comes from this machine."""
    path = str(scope.get("path", ""))
    if scope["type"] == "http" and any(path == allowed or _below(path, allowed) for allowed in FOR_HOSPITALS):
        return True
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _below(path: str, allowed: str) -> bool:
    return allowed.endswith("/") and path.startswith(allowed) and ".." not in path
