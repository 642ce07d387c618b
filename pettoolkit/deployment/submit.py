"""Starts a run on the coordinator's SuperLink, and waits for what its app leaves in the coordinator's folder."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from pettoolkit.deployment.coordinator import JOB, SPEC, Deployed
from pettoolkit.deployment.folders import CONNECTION, Coordinator
from pettoolkit.deployment.start import flwr, last_line
from pettoolkit.errors import EngineFailed, Refused
from pettoolkit.hospital.store import write_private
from pettoolkit.records import RunSpec, from_json, to_json

POLL = 0.5
"""Seconds between two looks for the outcome."""

LOOK = 20.0
"""Seconds between two questions whether the run is still alive."""

SILENT = 300.0
"""Seconds for which a SuperLink may not say so, since it is busy or being restarted."""


def run(coordinator: Coordinator, spec: RunSpec) -> Deployed:
    """Run one cell over the deployed hospitals.

    Raises
    ------
    Refused
        If a hospital failed or refused; the text is the app's own.
    EngineFailed
        If the SuperLink does not take the run, or the run ends without an outcome.
    """
    job = f"{spec.run_id}-{secrets.token_hex(4)}"
    coordinator.runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    outcome = coordinator.runs / f"{job}.json"
    config = coordinator.runs / f"{job}.toml"
    text = json.dumps(to_json(spec), separators=(",", ":"), sort_keys=True)
    write_private(config, f"{SPEC} = {json.dumps(text)}\n{JOB} = {json.dumps(job)}\n".encode())
    try:
        run_id = _submit(coordinator, config)
        _wait(coordinator, outcome, run_id)
        found = json.loads(outcome.read_bytes())
    finally:
        config.unlink(missing_ok=True)
        outcome.unlink(missing_ok=True)
    if "deployed" in found:
        return from_json(Deployed, found["deployed"])
    raise Refused(str(found.get("refused") or found["failed"]))


def _submit(coordinator: Coordinator, config: Path) -> str:
    done = flwr(coordinator, "run", str(coordinator.app), CONNECTION, "--run-config", str(config), "--format", "json")
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise EngineFailed(f"flower: the SuperLink took no run: {last_line(done.stdout + done.stderr)}") from None
    if not said.get("success"):
        why = " ".join(str(said.get("error-message") or said).split())
        raise EngineFailed(f"flower: the SuperLink took no run: {why}")
    return str(said["run-id"])


def _wait(coordinator: Coordinator, outcome: Path, run_id: str) -> None:
    """Wait for the outcome as long as the run lives; whoever interrupts this stops the run."""
    heard = time.monotonic()
    look = heard + LOOK
    try:
        while not outcome.exists():
            time.sleep(POLL)
            if time.monotonic() < look:
                continue
            lives, look = _lives(coordinator, run_id), time.monotonic() + LOOK
            if lives is not None:
                heard = time.monotonic()
            if outcome.exists():
                break
            if lives is False:
                raise EngineFailed(f"flower: run {run_id} ended without an outcome (see {coordinator.logs})")
            if time.monotonic() > heard + SILENT:
                raise EngineFailed(f"flower: the SuperLink was silent for {SILENT:.0f} s (see {coordinator.logs})")
    except BaseException:
        flwr(coordinator, "stop", run_id, CONNECTION)
        raise


def _lives(coordinator: Coordinator, run_id: str) -> bool | None:
    """Whether the run goes on; None if the SuperLink does not say."""
    done = flwr(coordinator, "list", CONNECTION, "--run-id", run_id, "--format", "json")
    try:
        runs = json.loads(done.stdout)["runs"]
    except (ValueError, KeyError):
        return None
    return not all(str(r.get("status", "")).startswith("finished") for r in runs)
