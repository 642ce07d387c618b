"""Other machines reach a SuperLink's calls for hospitals, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from pettoolkit.federation.gate import Gate


def echo_app(hosted: Mapping[str, Any]) -> ClientApp:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def status(path: str, client: str, kind: str = "http") -> int:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    asyncio.run(Gate(inner)({"type": kind, "path": path, "client": (client, 5000)}, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/health"])
def test_hospitals_get_in(path: str) -> None:
    assert status(path, "192.0.2.7") == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/push-object",
        "/docs",
        "/healthy",
        "/v1/fleet/../control/start-run",
        "/",
    ],
)
def test_other_machines_get_nothing_else(path: str) -> None:
    assert status(path, "192.0.2.7") == 403


@pytest.mark.parametrize("client", ["127.0.0.1", "127.1.2.3", "::1"])
def test_the_own_machine_gets_everything(client: str) -> None:
    assert status("/v1/control/start-run", client) == 200


def test_a_client_without_an_address_is_another_machine() -> None:
    assert status("/v1/control/start-run", "somewhere") == 403
    assert status("/v1/fleet/x", "192.0.2.7", kind="websocket") == 403
