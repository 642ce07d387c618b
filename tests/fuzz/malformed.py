"""Malformed inputs for the readers of what others send or type, and what each may do with them."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from pettoolkit.arms.exchange import read_request
from pettoolkit.cohort.tables import load_tables
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.deployment.certificates import node_key, public_pem
from pettoolkit.encryption import envelope
from pettoolkit.encryption.ckks import Adder, encrypt
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import choose
from pettoolkit.errors import BadInput, PetError
from pettoolkit.experiment.load import load
from pettoolkit.federation import flower, wire
from pettoolkit.federation.checks import expected_of, fault_of
from pettoolkit.federation.journal import Journal
from pettoolkit.hospital.policy import Policy
from tests import small_cohort as small

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "pettoolkit" / "deployment" / "texts" / "policy.yaml"
WORDS = ("null", "true", "[]", "{}", "-", ":", "1e999", "-1", ".nan", "&", "*", "!", "|", "#", "'", '"', "\t", "\x00")
WORDS += ("arms", "dp", "epsilon", "é", "!!python/object:os.system")
CONTRACT = """\
name: small
columns:
  - {name: patient, role: patient_id}
  - {name: age, low: 18, high: 100, integer: true, missing: never}
  - {name: sex, kind: binary, missing: never}
  - {name: lactate, low: 0.01, high: 100, log: true}
  - {name: y, kind: binary, role: outcome}
"""


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """Cut, doubled, flipped, with something put in: one to four such changes."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        how = chance.randrange(5)
        if how == 0:
            del out[at : at + chance.randint(1, 40)]
        elif how == 1 and out:
            out[at % len(out)] = chance.randrange(256)
        elif how == 2:
            out[at:at] = chance.choice(WORDS).encode()
        elif how == 3:
            out[at:at] = out[at : at + chance.randint(1, 40)]
        else:
            out[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(out)


@functools.cache
def _experiments() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((ROOT / "experiments").glob("*.yaml")))


def config(chance: random.Random, folder: Path) -> None:
    """An experiment file: read, or refused in lines for people."""
    path = folder / "experiment.yaml"
    path.write_bytes(spoiled(chance.choice(_experiments()), chance))
    with suppress(BadInput):
        load(path)


def table(chance: random.Random, folder: Path) -> None:
    """A hospital's table and its contract: read, or refused."""
    rows = small.rows("east", 12).drop(columns="pulse").to_csv(index=False).encode()
    contract = CONTRACT.encode()
    if chance.random() < 0.3:
        contract = spoiled(contract, chance)
    else:
        rows = spoiled(rows, chance)
    (folder / "contract.yaml").write_bytes(contract)
    (folder / "east.csv").write_bytes(rows)
    with suppress(BadInput):
        load_tables(folder)


ASKED = wire.request(
    action="train",
    purpose="training",
    kind="model",
    arrays={"w": np.zeros((3, 4))},
    spec_json=json.dumps(small.spec("federated").wire()),
)
VALUES = (0, -1, 2**40, float("nan"), float("inf"), "", "model", "raw_records", "statistics", "metrics", b"\x00", True)


def _reply(chance: random.Random) -> RecordDict:
    import pandas as pd

    kind = chance.choice(("update", "statistics", "raw_records", "ciphertext", "metrics", "predictions"))
    parts: dict[str, object] = {
        "raw_records": {"tables": {"table": pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})}},
        "ciphertext": {"blobs": [b"abc", b"def"]},
        "metrics": {"metrics": {"loss": 0.5, "losses": [0.1, 0.2]}},
    }.get(kind, {"arrays": {"w": np.zeros((3, 4)), "n": np.arange(3)}, "metrics": {"num-examples": 3}})
    return wire.reply(site="east", kind=kind, purpose="training", **parts)  # type: ignore[arg-type]


def _spoiled_array(array: Array, chance: random.Random) -> Array:
    how = chance.randrange(4)
    if how == 0:
        return Array(array.dtype, array.shape, array.stype, spoiled(array.data, chance))
    if how == 1:
        shape = tuple(chance.choice((-1, 0, 3, 2**62)) for _ in range(chance.randrange(4)))
        return Array(array.dtype, shape, array.stype, array.data)
    if how == 2:
        stype = chance.choice((wire.STYPE_ARROW, wire.STYPE_CKKS, wire.STYPE_NUMPY, "pickle"))
        return Array(array.dtype, array.shape, stype, array.data)
    return Array(chance.choice(("object", "float64", "U9999999", "")), array.shape, array.stype, array.data)


def _spoiled_content(content: RecordDict, chance: random.Random) -> RecordDict:
    out = dict(content)
    name = chance.choice(list(out))
    record = out[name]
    if isinstance(record, ArrayRecord):
        out[name] = ArrayRecord({k: _spoiled_array(v, chance) for k, v in record.items()})
    elif isinstance(record, ConfigRecord):
        key = chance.choice([*record, "more"])
        out[name] = ConfigRecord({**record, key: chance.choice(VALUES)})
    if chance.random() < 0.2:
        out[chance.choice((wire.ARRAYS, wire.METRICS, wire.ENVELOPE, wire.CONFIG, "other"))] = MetricRecord({"x": 1.0})
    if chance.random() < 0.1:
        del out[chance.choice(list(out))]
    return RecordDict(out)


def message(chance: random.Random, folder: Path) -> None:
    """A reply at the coordinator and a request at a hospital: used, or named as faulty; nothing else may be raised."""
    flower.identify()
    content = _spoiled_content(_reply(chance), chance)
    said = fault_of("east", Message(content, 1, "train"), expected_of(ASKED))
    assert isinstance(said, str)
    with suppress(ValueError):  # of which nothing but its type leaves the hospital
        read_request(_spoiled_content(ASKED, chance))


@functools.cache
def _sealed() -> tuple[bytes, tuple[bytes, ...]]:
    scheme = choose(values=5000, clip=1.0, sites=3)
    key = SecretKey.create(scheme)
    return scheme.add_context(), tuple(encrypt(key, np.linspace(-1, 1, 5000)))


def ciphertext(chance: random.Random, folder: Path) -> None:
    """A ciphertext at the coordinator: added, or refused; with a checksum that fits what was changed, too."""
    context, blobs = _sealed()
    spoilt = list(blobs)
    at = chance.randrange(len(spoilt))
    if chance.random() < 0.5:
        header, payload = envelope.unseal(spoilt[at])
        changed = spoiled(payload, chance)
        if chance.random() < 0.5:  # with SEAL's own length put right as well
            changed = changed[:8] + len(changed).to_bytes(8, "little") + changed[16:]
        spoilt[at] = envelope.seal(header, changed)
    else:
        spoilt[at] = spoiled(spoilt[at], chance)
    with suppress(PetError):
        Adder(context).add(spoilt, "east")


def policy(chance: random.Random, folder: Path) -> None:
    """What a hospital's owner writes, and the public key that it sends: read, or refused."""
    path = folder / "policy.yaml"
    path.write_bytes(spoiled(POLICY.read_bytes(), chance))
    with suppress(BadInput):
        parse(Policy, path)
    public = folder / "node.pub"
    public.write_bytes(spoiled(_public(), chance))
    with suppress(BadInput):
        public_pem(public)


@functools.cache
def _public() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        node_key(Path(folder) / "node.key", Path(folder) / "node.pub")
        return (Path(folder) / "node.pub").read_bytes()


def journal(chance: random.Random, folder: Path) -> None:
    """What a stopped run left: as much of it as is whole."""
    path = folder / "cell.journal"
    path.unlink(missing_ok=True)
    Journal(path).keep("east", ASKED, _reply(chance))
    path.write_bytes(spoiled(path.read_bytes(), chance))
    Journal(path).answer("east", ASKED)


READERS: dict[str, Callable[[random.Random, Path], None]] = {
    "config": config,
    "table": table,
    "message": message,
    "ciphertext": ciphertext,
    "policy": policy,
    "journal": journal,
}
