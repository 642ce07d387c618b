"""Seconds and memory of a federated run by number of hospitals: ours, a plain loop, and Flower's simulation.

Every variant trains the same logistic regression on the same simulated patients (the packaged profiles, drawn
hospital by hospital with a seed of its own) for the same rounds, and validates after each. ``plain_loop`` is the
arithmetic alone: no message, no check, no meter. ``flower_simulation`` is Flower's own ``run_simulation`` around the
same hospitals. ``ours_ray`` has the hospitals in worker processes, so that its memory is the coordinator's alone. Each
figure comes from a process of its own. ``seconds`` is the run's wall time with start-up, without drawing patients
(``seconds_generate``); ``seconds_cpu`` the CPU time of the coordinating process; ``ratio`` is to the plain loop,
by CPU time where all is in one process (a busy machine changes it less) and by wall time otherwise; ``rss_mb`` is the
peak of the coordinating process during the run.

    python benchmarks/scale.py --json scale.json
    python benchmarks/scale.py --sites 500 --patients 1000000 --variants ours --json million.json
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pettoolkit.arms.app import build_app, coordinate, respond
from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.federated.streaming import WeightedSum
from pettoolkit.arms.rounds import contribution
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.simulator import load_profiles, simulate_hours
from pettoolkit.experiment.config import packaged
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.memory import peak_rss_mb, reset_peak_rss
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_arrays, to_params, validation_losses
from pettoolkit.records import ModelSpec, RunSpec

SITES = (5, 50, 500, 2000)
VARIANTS = ("ours", "plain_loop", "ours_ray", "flower_simulation")
FLOWER_UP_TO = 50
"""Hospitals up to which Flower's simulation is run: more take it minutes."""
SECONDS = {"flower_simulation": 300}
"""A run that takes longer is stopped and has no row; :data:`LONGEST` for the others."""
LONGEST = 1800
IN_ONE_PROCESS = ("ours", "plain_loop")
COLUMNS = ("seconds", "seconds_round", "seconds_cpu", "ratio", "rss_mb", "seconds_generate")
OPTIONS = {
    "strategy": "fedavg",
    "local_epochs": 1,
    "batch_size": 64,
    "learning_rate": 0.5,
    "momentum": 0.9,
    "proximal_mu": 0.0,
}


def hospitals(count: int, patients: int) -> dict[str, Site]:
    """Draw hospitals one by one; each keeps the rows of its stays and nothing of the hours."""
    hourly, profiles = builtin_contract(), load_profiles(packaged("sites"))
    contract = row_contract(hourly)
    made: dict[str, Site] = {}
    for number in range(count):
        hours = simulate_hours(profiles[number % len(profiles)], seed=number, stays=max(20, patients // count))
        made[f"h{number:04d}"] = Site(f"h{number:04d}", landmark_rows(hours, hourly), contract)
    return made


def spec_of(names: tuple[str, ...], rounds: int) -> RunSpec:
    """The run that every variant plays."""
    contract = row_contract(builtin_contract())
    return RunSpec(
        task="sepsis-landmark",
        arm="federated",
        options={**OPTIONS, "rounds": rounds},
        model=ModelSpec("logistic"),
        features="compact",
        seed=0,
        sites=names,
        contract=contract.model_dump(mode="json"),
        contract_digest=contract.digest(),
    )


def ours(sites: dict[str, Site], spec: RunSpec) -> None:
    with open_grid("inline", build_app, sites) as grid:
        coordinate(grid, spec)


def ours_ray(sites: dict[str, Site], spec: RunSpec) -> None:
    with open_grid("ray", build_app, sites, workers=2) as grid:
        sites.clear()
        reset_peak_rss()
        coordinate(grid, spec)


def plain_loop(sites: dict[str, Site], spec: RunSpec) -> None:
    """FedAvg as a loop over tensors in one process."""
    net, initial = start(spec, contract_of(spec))
    model: Mapping[str, Any] = to_arrays(initial)
    patients = sum(len(site.index(spec, "train")) for site in sites.values())
    for number in range(1, int(spec.options["rounds"]) + 1):
        total = WeightedSum(patients)
        for site in sites.values():
            total.add(*contribution(site, spec, model, number))
        model = {name: np.asarray(value, dtype=np.float32) for name, value in total.mean().items()}
        for site in sites.values():
            validation_losses(net, [to_params(model)], site.part(spec, "validation"))


def flower_simulation(sites: dict[str, Site], spec: RunSpec) -> None:
    """Flower's own simulation; its processes read the hospitals from a file, once each."""
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hospitals.pickle"
        path.write_bytes(pickle.dumps(sites))
        client, server = ClientApp(), ServerApp()

        def answer(message: Any, context: Any) -> Any:
            held = sys.modules.setdefault("_scale_hospitals", pickle.loads(path.read_bytes()))  # type: ignore[arg-type]
            return respond(held[sorted(held)[int(context.node_config["partition-id"])]], message)  # type: ignore[index]

        for register in (client.train, client.evaluate, client.query):
            register()(answer)

        @server.main()
        def main(grid: Any, context: Any) -> None:
            while len(list(grid.get_node_ids())) < len(sites):  # they sign in one by one
                time.sleep(0.01)
            coordinate(grid, spec)

        run_simulation(server, client, num_supernodes=len(sites), backend_config={"client_resources": {"num_cpus": 1}})


RUNS: dict[str, Callable[[dict[str, Site], RunSpec], None]] = {
    "ours": ours,
    "plain_loop": plain_loop,
    "ours_ray": ours_ray,
    "flower_simulation": flower_simulation,
}


def measure(variant: str, count: int, patients: int, rounds: int) -> dict[str, float]:
    """One variant in this process."""
    began = time.perf_counter()
    sites = hospitals(count, patients)
    drawn, spec = time.perf_counter() - began, spec_of(tuple(sorted(sites)), rounds)
    for site in sites.values():
        site.part(spec, "train"), site.part(spec, "validation")  # encoding is nobody's overhead
    reset_peak_rss()
    began, burnt = time.perf_counter(), time.process_time()
    RUNS[variant](sites, spec)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "seconds_cpu": time.process_time() - burnt,
        "seconds_round": seconds / rounds,
        "rss_mb": peak_rss_mb(),
        "seconds_generate": drawn,
    }


def in_own_process(variant: str, count: int, patients: int, rounds: int) -> dict[str, float] | None:
    """One variant in a process of its own; None if it took too long."""
    words = [sys.executable, __file__, "--only", variant, str(count), str(patients), str(rounds)]
    limit = SECONDS.get(variant, LONGEST)
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, problems = running.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)  # with the Ray that it started
        print(f"{count:>10} {variant:<18} stopped after {limit} s", flush=True)
        return None
    if running.returncode:
        raise SystemExit(f"{variant} with {count} hospitals failed:\n{problems[-2000:]}")
    found: dict[str, float] = json.loads(out.strip().splitlines()[-1])
    return found


def unit_of(metric: str) -> str:
    """Unit of a figure."""
    return {"ratio": "x", "rss_mb": "MB"}.get(metric, "s")


def main() -> None:
    """Measure, print a table, and write rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows of the table to this file")
    parser.add_argument("--sites", type=int, nargs="+", default=list(SITES))
    parser.add_argument("--patients", type=int, default=100_000, help="of all hospitals together")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        variant, *numbers = args.only
        print(json.dumps(measure(variant, *map(int, numbers))))
        return
    rows: list[dict[str, Any]] = []
    print(f"{'hospitals':>10} {'variant':<18} " + " ".join(f"{name:>16}" for name in COLUMNS))
    for count in args.sites:
        found: dict[str, dict[str, float]] = {}
        for variant in args.variants:
            if variant == "flower_simulation" and count > FLOWER_UP_TO:
                continue
            measured = in_own_process(variant, count, args.patients, args.rounds)
            if measured is not None:
                found[variant] = measured
        for variant, figures in found.items():
            if "plain_loop" in found:
                by = "seconds_cpu" if variant in IN_ONE_PROCESS else "seconds"
                figures["ratio"] = figures[by] / found["plain_loop"][by]
            shown = [figures.get(name, float("nan")) for name in COLUMNS]
            print(f"{count:>10} {variant:<18} " + " ".join(f"{value:>16.3f}" for value in shown), flush=True)
            case = f"sites-{count}-patients-{args.patients}"
            rows += [
                {"benchmark": "scale", "case": case, "variant": variant, "metric": m, "value": v, "unit": unit_of(m)}
                for m, v in figures.items()
            ]
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
