"""Other machines reach a SuperLink's calls for hospitals, and no other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import HTTPException
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata
from flwr.proto.node_pb2 import Node

from pettoolkit.federation.gate import Gate, of_its_own


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


@pytest.mark.parametrize(("signed_by", "answers_for"), [(7, (8,)), (7, (7, 8))])
def test_a_hospital_pushes_no_answer_in_the_name_of_another(signed_by: int, answers_for: tuple[int, ...]) -> None:
    pushed: list[Any] = []
    push = of_its_own(lambda **parts: pushed.append(parts))
    messages = [ProtoMessage(metadata=Metadata(src_node_id=node)) for node in answers_for]
    with pytest.raises(HTTPException) as caught:
        push(request=PushMessagesRequest(node=Node(node_id=signed_by), messages_list=messages), state=None)
    assert caught.value.status_code == 403
    assert pushed == []
    push(request=PushMessagesRequest(node=Node(node_id=8), messages_list=messages[-1:]), state=None)
    assert len(pushed) == 1


def test_flowers_router_looks_the_handler_up_at_each_call() -> None:
    from flwr.superlink.routers.fleet import router

    assert "fleet_handlers.push_messages(request=request, state=state)" in inspect.getsource(router.fleet_push_messages)
