"""Key files for the hospitals of an experiment, and what may be told about them.

Keys are made in a process of their own (``pettoolkit keys create``, or what :func:`carry` starts) and go into the
hospitals' folders; the process that coordinates a run reads no more of them than for what they were made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pettoolkit.errors import BadInput, PetError, Refused
from pettoolkit.records import RunSpec, digest_of

if TYPE_CHECKING:
    from pettoolkit.encryption.keys import KeyInfo, KeyRequest

SCORING = "scoring"
"""Stands in place of an experiment for the key of encrypted scoring."""


def create(experiment: str, folder: Path, sets: Sequence[str] = ()) -> tuple[KeyInfo, ...]:
    """Make the keys that an experiment's encrypted arms need, one file per purpose and ring, mode 0600.

    Parameters
    ----------
    experiment
        File, ``builtin:NAME``, or the word ``scoring``.
    folder
        Where the files go; carry each to every hospital, outside any message, and to nobody else.

    Raises
    ------
    BadInput
        If no arm needs a key, or one of the files exists: a key is only ever replaced by rotating it.
    """
    wanted = _wanted(experiment, sets)
    files = [folder / request.file_name for request in wanted]
    there = [f"{f}: exists already; use `pettoolkit keys rotate` to replace a key" for f in files if f.exists()]
    if there:
        raise BadInput(there)
    return make(wanted, [folder])


def make(wanted: Iterable[KeyRequest], folders: Sequence[Path]) -> tuple[KeyInfo, ...]:
    """Make each key once and carry its file into every folder."""
    from pettoolkit.encryption import keys

    made: list[KeyInfo] = []
    for request in wanted:
        first, *others = (folder / request.file_name for folder in folders)
        made.append(keys.create(first, request))
        for other in others:
            keys.SecretKey.load(first).save(other)
    return tuple(made)


def carry(experiment: str, specs: Iterable[RunSpec], folders: Mapping[str, Path]) -> None:
    """Make the keys of simulated hospitals and put them into each one's own folder, in a process of its own.

    Parameters
    ----------
    folders
        Hospital to the folder of its keys; nothing is made if no run needs a key.

    Raises
    ------
    Refused
        If they can't be made.
    """
    from pettoolkit.arms.keyring import key_requests

    wanted = key_requests(experiment, specs)
    if not wanted:
        return
    task = {"keys": [request.to_dict() for request in wanted], "folders": [str(f) for f in folders.values()]}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(task), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"keys: {(done.stderr.strip() or 'the process that makes them failed').splitlines()[-1]}")


def places(
    experiment: str,
    specs: Sequence[RunSpec],
    hospitals: Sequence[str],
    folder: Path | None,
    root: Path | None,
    stack: ExitStack,
) -> dict[str, Path]:
    """Where each simulated hospital has its keys; empty if no run needs one.

    Parameters
    ----------
    folder
        What the hospitals were given (:func:`given`); None: keys are made for this run (:func:`carry`).
    root
        Where the hospitals' own folders are; None: in a temporary one that ``stack`` removes.
    """
    from pettoolkit.arms.keyring import key_requests
    from pettoolkit.experiment.scratch import scratch_folder

    if not key_requests(experiment, specs):
        return {}
    if folder is not None:
        return given(experiment, specs, folder, hospitals)
    root = stack.enter_context(scratch_folder()) if root is None else root
    found = _own(root, hospitals)
    if not any(folder.is_dir() for folder in found.values()):  # else a stopped run made them, and goes on with them
        carry(experiment, specs, found)
    return found


def complete(experiment: str, specs: Iterable[RunSpec], hospitals: Iterable[str], root: Path) -> bool:
    """Whether the hospitals have no keys below ``root`` yet, or all that these runs need."""
    from pettoolkit.arms.keyring import key_requests
    from pettoolkit.encryption import keys

    folders = _own(root, hospitals).values()
    if not any(folder.is_dir() for folder in folders):
        return True
    try:
        for request in key_requests(experiment, specs):
            for folder in folders:
                for run in request.use.runs:
                    keys.find(folder, request.use.purpose, request.scheme, run)
    except PetError:
        return False
    return True


def _own(root: Path, hospitals: Iterable[str]) -> dict[str, Path]:
    return {name: root / digest_of(name)[:16] / "keys" for name in hospitals}


def counts_of(folder: Path, hospital: str) -> Path:
    """Where a hospital counts what it decrypts under keys that outlive a run: beside them."""
    return folder / "decrypted" / digest_of(hospital)[:16]


def given(experiment: str, specs: Iterable[RunSpec], folder: Path, hospitals: Iterable[str]) -> dict[str, Path]:
    """Where each hospital has the keys that it was given: ``FOLDER/HOSPITAL`` if there is one, else ``FOLDER``.

    Raises
    ------
    BadInput
        With everything that is missing, or made for something else. No secret is read for it.
    """
    from pettoolkit.arms.keyring import key_requests
    from pettoolkit.encryption import keys

    if not folder.is_dir():
        raise BadInput(f"--keys: {folder} is no folder (make one with `pettoolkit keys create FILE --out {folder}`)")
    places = {name: folder / name if (folder / name).is_dir() else folder for name in hospitals}
    findings: list[str] = []
    for request in key_requests(experiment, specs):
        for place in dict.fromkeys(places.values()):
            try:
                for run in request.use.runs:
                    keys.find(place, request.use.purpose, request.scheme, run)
            except PetError as error:
                findings.append(f"--keys: {place}: {error}")
    if findings:
        raise BadInput(findings)
    return places


def inspect(file: Path) -> KeyInfo:
    """Check a key file and say what it is for."""
    from pettoolkit.encryption import keys

    return keys.inspect(file)


def rotate(file: Path) -> KeyInfo:
    """Replace a key by a fresh one for the same job; the old one stays beside it as ``*.retired``."""
    from pettoolkit.encryption import keys

    return keys.rotate(file)


def lines(info: KeyInfo) -> tuple[str, ...]:
    """What may be told about a key, nothing of the secret itself."""
    from pettoolkit.encryption.parameters import SECURITY_BITS

    scheme = info.scheme
    primes = "+".join(str(bits) for bits in scheme.all_prime_bits)
    decrypted = (
        f"flooding sized for {scheme.tau} decrypted ciphertexts ({scheme.flooding_bits} bits)"
        if scheme.flooding_bits
        else "no flooding: nothing decrypted may be published"
    )
    runs = f", {len(info.use.runs)} runs" if info.use.runs else ""
    return (
        f"{info.path}: key {info.key_id} for {info.use}{runs}",
        f"  ring {scheme.ring_degree} [{primes}], scale 2^{scheme.scale_bits}, {SECURITY_BITS}-bit security",
        f"  for {scheme.sites} hospital(s), {scheme.values} values up to {scheme.clip:g}; {decrypted}",
    )


def _wanted(experiment: str, sets: Sequence[str]) -> tuple[KeyRequest, ...]:
    if experiment == SCORING:
        from pettoolkit.encryption import keys, scoring

        return (keys.KeyRequest(scoring.scheme(), keys.KeyUse(keys.SCORING)),)
    from pettoolkit.arms.keyring import key_requests
    from pettoolkit.experiment.load import load
    from pettoolkit.experiment.runner import prepare

    config = load(experiment, sets)
    wanted = key_requests(config.name, [spec for spec, excluded in prepare(config).cells if excluded is None])
    if not wanted:
        raise BadInput(f"{experiment}: no arm of this experiment encrypts, so that it needs no key")
    return wanted


def _main(task: Mapping[str, Any]) -> None:
    from pettoolkit.encryption.keys import KeyRequest

    make([KeyRequest.from_dict(request) for request in task["keys"]], [Path(folder) for folder in task["folders"]])


if __name__ == "__main__":
    _main(json.load(sys.stdin))
