"""Starts a party's Flower process from its folder, and lets hospitals in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pettoolkit.deployment.coordinator import FOLDER as COORDINATOR
from pettoolkit.deployment.folders import CONNECTION, Coordinator, HospitalFolder
from pettoolkit.deployment.hospital import FOLDER as HOSPITAL
from pettoolkit.deployment.keep import keep
from pettoolkit.errors import BadInput, EngineFailed

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Flower calls nobody."""

KNOWN = "already in use"
"""What a SuperLink says of a key that it knows."""


def environment(party: Coordinator | HospitalFolder) -> dict[str, str]:
    """Environment of a party's processes: its folder, and Flower's programs beside this Python."""
    name = COORDINATOR if isinstance(party, Coordinator) else HOSPITAL
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    home = party.state / "flower"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {**os.environ, **QUIET, "PATH": programs, "FLWR_HOME": str(home), name: str(party.folder)}


def command(party: Coordinator | HospitalFolder) -> list[str]:
    """The process that a party runs: Flower's SuperLink, or its SuperNode."""
    return _superlink(party) if isinstance(party, Coordinator) else _supernode(party)


def start(party: Coordinator | HospitalFolder) -> int:
    """Become the coordinator's process, or keep a hospital's going until it is stopped; gives the exit code."""
    party.logs.mkdir(exist_ok=True, mode=0o700)
    os.umask(0o077)  # databases and logs are for their owner alone
    argv = command(party)
    if isinstance(party, Coordinator):
        os.execvpe(argv[0], argv, environment(party))
    return keep(argv, environment(party), party.state / "let_in")


def register(coordinator: Coordinator) -> dict[str, str]:
    """Let in every hospital whose public key lies in ``nodes/``; who is known already stays.

    Returns
    -------
    dict
        Hospital to ``registered`` or ``known``.

    Raises
    ------
    BadInput
        If a key is missing.
    EngineFailed
        If the SuperLink does not answer, or refuses a key.
    """
    found: dict[str, str] = {}
    for name in coordinator.federation.hospitals:
        if not coordinator.node(name).is_file():
            raise BadInput(f"{coordinator.node(name)}: there is no public key of hospital {name}")
        done = flwr(coordinator, "supernode", "register", str(coordinator.node(name)), CONNECTION, "--name", name)
        said = f"{done.stdout} {done.stderr}"
        if done.returncode and KNOWN not in said:
            raise EngineFailed(f"hospital {name} could not be registered: {last_line(said)}")
        found[name] = "known" if done.returncode else "registered"
    return found


def flwr(coordinator: Coordinator, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call Flower's command line on the coordinator's own SuperLink."""
    federation, home = coordinator.federation, coordinator.state / "flower-command"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{federation.port}"\nroot-certificates = "{coordinator.authority}"\n'
    )
    (home / "config.toml").write_text(connection, encoding="utf-8")
    program = str(Path(sys.executable).parent / "flwr")
    settings: Mapping[str, str] = {**environment(coordinator), "FLWR_HOME": str(home)}
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=settings, check=False)


def last_line(text: str) -> str:
    """The last line with something in it, without the frames that are drawn around errors."""
    lines = [line.strip(" │╭╮╰╯─\t") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _superlink(party: Coordinator) -> list[str]:
    tls, federation = party.folder / "tls", party.federation
    return [
        *(sys.executable, "-m", "pettoolkit.deployment.superlink"),
        *("--host", party.keys.listen, "--port", str(federation.port)),
        *("--ssl-ca-certfile", str(party.authority)),
        *("--ssl-certfile", str(tls / "server.crt"), "--ssl-keyfile", str(tls / "server.key")),
        "--enable-supernode-auth",
        *("--database", str(party.state / "superlink.db")),
        "--disable-runtime-dependency-installation",
    ]


def _supernode(party: HospitalFolder) -> list[str]:
    tls, federation = party.folder / "tls", party.federation
    return [
        *(sys.executable, "-m", "pettoolkit.deployment.supernode"),
        *("--superlink", f"{federation.coordinator}:{federation.port}", "--root-certificates", str(party.authority)),
        *("--auth-supernode-private-key", str(party.node_key)),
        *("--host", "127.0.0.1", "--port", str(party.keys.runtime_port)),
        *("--ssl-ca-certfile", str(tls / "runtime-ca.crt"), "--ssl-certfile", str(tls / "runtime.crt")),
        *("--ssl-keyfile", str(party.folder / "secrets" / "runtime.key")),
    ]
