"""A small hospital app for the tests of this room: what it holds is a number, what it does the action says."""

import os
import signal
import sys

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.clientapp import ClientApp

from pettoolkit.errors import BadInput, Refused
from pettoolkit.federation import wire

SITES = ("alder", "birch", "cedar", "elm", "fir")
PATIENT = "patient 123 has lactate 9.7"
WEIGHTS = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "b": np.zeros(3, dtype=np.float32)}


def make_app(hosted):
    """Build the app; ``hosted`` maps a site to ``{"value": number, ...}``."""
    app = ClientApp()

    def answer(message, context):
        request = wire.read_request(message.content)
        site = context.node_config["site"]
        action = site_action(hosted[site], request)
        content = ACTIONS[action](hosted[site], message.content, request, context)
        content.setdefault(wire.ENVELOPE, envelope(site, request))
        return Message(content, reply_to=message)

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app


def broken_factory(hosted):
    raise ValueError(PATIENT)


def refusing_factory(hosted):
    raise BadInput("sites/a.csv: no rows (hand in a table with rows)")


def site_action(held, request):
    """A site may misbehave: ``held["bad"]`` names the action that it takes in place of the one asked for."""
    return request.action if request.action == wire.HELLO else held.get("bad", request.action)


def envelope(site, request, kind=None):
    from flwr.app import ConfigRecord

    kind = kind or request.wants or "statistics"
    return ConfigRecord({"kind": kind, "purpose": request.purpose, "site": site, "round": request.round})


def reply(request, context, **parts):
    kind = parts.pop("kind", request.wants or "statistics")
    site = parts.pop("site", context.node_config["site"])
    purpose = parts.pop("purpose", request.purpose)
    return wire.reply(site=site, kind=kind, purpose=purpose, round=parts.pop("round", request.round), **parts)


def hello(held, content, request, context):
    return reply(
        request, context, kind="metrics", metrics={"connected": 1}, site=held.get("says", context.node_config["site"])
    )


def echo(held, content, request, context):
    return reply(request, context, arrays=wire.arrays_of(content))


def total(held, content, request, context):
    return reply(request, context, arrays={"sum": np.asarray(wire.arrays_of(content)["x"].sum() + held["value"])})


def train(held, content, request, context):
    """One step of a made-up training: pull the weights towards the site's own value."""
    arrays = {n: (a + 0.1 * (held["value"] - a)).astype(a.dtype) for n, a in wire.arrays_of(content).items()}
    return reply(
        request, context, kind="update", arrays=arrays, metrics={"num-examples": held["n"], "loss": held["value"] / 7}
    )


def count(held, content, request, context):
    """How often this site has been asked, from Flower's own state."""
    state = context.state.setdefault("asked", ArrayRecord())
    asked = int(wire.from_record(state)["n"]) + 1 if len(state) else 1
    context.state["asked"] = wire.to_record({"n": np.asarray(asked)})
    return reply(request, context, metrics={"asked": asked})


def where(held, content, request, context):
    """Which process answers, with how many threads, whether arrays it was given can be written to."""
    held.get("table", np.zeros(1))[0] += 1
    return reply(request, context, metrics={"pid": os.getpid(), "threads": int(os.environ.get("OMP_NUM_THREADS", "0"))})


def swell(held, content, request, context):
    """Hold 150 MB for a moment."""
    np.ones(150 * 2**17).sum()
    return reply(request, context)


def leak(held, content, request, context):
    raise ValueError(PATIENT)


def leave(held, content, request, context):
    print(PATIENT)
    print(PATIENT, file=sys.stderr)
    sys.exit(PATIENT)


def refuse(held, content, request, context):
    raise Refused("kind raw_records is not listed in this hospital's policy")


def die(held, content, request, context):
    os._exit(1)


def die_once(held, content, request, context):
    """Die, unless the file that says that this has happened is there."""
    if not os.path.exists(held["marker"]):
        open(held["marker"], "w").close()
        os._exit(1)
    return log(held, content, request, context)


def log(held, content, request, context):
    """Leave a line in a file outside for each message handled."""
    with open(held["log"], "a") as file:
        file.write(context.node_config["site"] + "\n")
    return reply(request, context, metrics={"done": 1})


def meet(held, content, request, context):
    """Wait until the other worker is at the same point: ends only if both are at work at once."""
    if "pipes" in held:
        mine, other = (os.open(path, os.O_RDWR) for path in held["pipes"])
        os.write(mine, b"x")
        assert os.read(other, 1) == b"x"
    return reply(request, context, metrics={"met": 1})


def hang(held, content, request, context):
    os.read(os.open(held["pipe"], os.O_RDWR), 1)  # nobody ever writes to this pipe


def interrupt(held, content, request, context):
    """Press Ctrl-C in the coordinator's process, and never answer."""
    os.kill(request.extra["coordinator"], signal.SIGINT)
    hang(held, content, request, context)


def nan(held, content, request, context):
    arrays = wire.arrays_of(content)
    arrays["w"][1, 2] = np.nan
    return reply(request, context, kind="update", arrays=arrays, metrics={"num-examples": held["n"]})


def infinite_metric(held, content, request, context):
    return reply(
        request, context, kind="update", arrays=wire.arrays_of(content), metrics={"num-examples": float("inf")}
    )


def wrong_shape(held, content, request, context):
    arrays = wire.arrays_of(content)
    arrays["b"] = np.zeros(4, dtype=np.float32)
    return reply(request, context, kind="update", arrays=arrays, metrics={"num-examples": held["n"]})


def wrong_dtype(held, content, request, context):
    arrays = {n: a.astype(np.float64) for n, a in wire.arrays_of(content).items()}
    return reply(request, context, kind="update", arrays=arrays, metrics={"num-examples": held["n"]})


def lack(held, content, request, context):
    return reply(request, context, kind="update", arrays={"w": WEIGHTS["w"]}, metrics={"num-examples": held["n"]})


def weightless(held, content, request, context):
    return reply(request, context, kind="update", arrays=wire.arrays_of(content), metrics={"num-examples": 0})


def other_kind(held, content, request, context):
    return reply(request, context, kind="raw_records", arrays=wire.arrays_of(content))


def other_purpose(held, content, request, context):
    return reply(request, context, purpose="audit", arrays=wire.arrays_of(content))


def other_round(held, content, request, context):
    return reply(request, context, round=request.round - 1, arrays=wire.arrays_of(content))


def other_site(held, content, request, context):
    return reply(request, context, site="elsewhere", arrays=wire.arrays_of(content))


ACTIONS = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__code__", None)
    and value.__code__.co_varnames[:4] == ("held", "content", "request", "context")
}
