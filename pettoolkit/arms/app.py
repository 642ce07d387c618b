"""The hospitals' side of every arm as one Flower ClientApp, and the coordinator's side as one call."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from pettoolkit.arms import registry
from pettoolkit.arms.exchange import read_request, spec_of, write_reply
from pettoolkit.attacks import inside as attacks
from pettoolkit.errors import Refused
from pettoolkit.evaluation import inside as evaluation
from pettoolkit.federation import wire
from pettoolkit.federation.host import sanitised
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import Envelope, Figures
from pettoolkit.hospital.site import Site
from pettoolkit.records import Outcome, RunSpec


def build_app(hosted: Mapping[str, Site]) -> ClientApp:
    """A ClientApp that answers for the hosted hospitals; the node's config says for which one.

    Whatever goes wrong leaves the hospital as one sanitised line (:func:`sanitised`).
    """

    def answer(message: Message, context: Context) -> Message:
        site = hosted[str(context.node_config[wire.SITE])]
        return respond(site, message)

    app = ClientApp(mods=[sanitised])
    for register in (app.train, app.evaluate, app.query):
        register()(answer)
    return app


def respond(site: Site, message: Message) -> Message:
    """Answer one message: admit it, do the work, and pass the reply through the door."""
    asked = wire.read_request(message.content)
    if asked.action == wire.HELLO:
        envelope = Envelope("metrics", "setup", Figures({}))
    else:
        site.policy.admit(site.name, asked.arm, spec_of(asked.spec))
        envelope = site.policy.release(site.name, _work(site, message, asked.arm, asked.purpose))
    return Message(write_reply(site.name, asked.round, envelope), reply_to=message)


def _work(site: Site, message: Message, arm: str, purpose: str) -> Envelope:
    request = read_request(message.content)
    known = registry.handlers(arm)
    if request.action in known:
        return known[request.action](site, request)
    if purpose == "evaluation" and request.action in evaluation.HANDLERS:
        return evaluation.HANDLERS[request.action](site, request)
    if purpose == "audit" and request.action in attacks.HANDLERS:
        return attacks.HANDLERS[request.action](site, request)
    raise Refused(f"hospital {site.name}: arm {arm} has no action {request.action}")


def coordinate(grid: Grid, spec: RunSpec) -> Outcome:
    """Run an arm's outside half over any grid; what crosses it is metered."""
    metered = grid if isinstance(grid, MeteredGrid) else MeteredGrid(grid)
    return registry.coordinator(spec.arm)(metered, spec)
