"""Hospitals in Ray's workers. One Ray for all; grids are small and each has its own workers."""

import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from federation_app import PATIENT, WEIGHTS, broken_factory, make_app, refusing_factory
from flwr.serverapp.strategy import FedAvg

from pettoolkit.errors import EngineFailed, SiteFailed
from pettoolkit.federation import wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.federation.ray_grid import RayGrid

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@contextmanager
def ray_grid(hosted, workers=2):
    grid = RayGrid(make_app, hosted, workers)
    try:
        yield grid
    finally:
        grid.close()


def ask(grid, action, **parts):
    content = wire.request(action=action, purpose="training", **parts)
    return grid.ask({site: content for site in grid.sites})


def pids(grid):
    return {site: wire.metrics_of(reply)["pid"] for site, reply in ask(grid, "where").items()}


def test_five_hospitals_on_two_workers_are_both_busy_in_a_round(hosted, tmp_path):
    pipes = [str(tmp_path / name) for name in ("left", "right")]
    for pipe in pipes:
        os.mkfifo(pipe)
    # alder and birch live in different workers; each waits until the other is at work too.
    hosted["alder"]["pipes"], hosted["birch"]["pipes"] = pipes, pipes[::-1]
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner, timeout=60)
        assert list(ask(grid, "meet")) == sorted(hosted)
        assert len(set(pids(grid).values())) == 2
        assert set(inner.usage()["peak_rss_mb"]) == {"worker-0", "worker-1"}
        assert min(inner.usage()["cpu_seconds"].values()) > 0


def test_a_hundred_hospitals_on_two_workers():
    hosted = {f"site-{i:03d}": {"value": float(i), "n": i + 1} for i in range(100)}
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        replies = ask(grid, "total", arrays={"x": np.ones(3)}, kind="statistics")
        assert [float(wire.arrays_of(r)["sum"]) for r in replies.values()] == [3.0 + i for i in range(100)]
        assert len(set(pids(grid).values())) == 2


def train(grid):
    random.seed(1)
    n = len(list(grid.get_node_ids()))
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_evaluate_nodes=n, min_available_nodes=n)
    config = wire.request(action="train", kind="model", purpose="training", wants="update")["config"]
    result = strategy.start(grid, wire.to_record(WEIGHTS), num_rounds=5, train_config=config)
    return wire.from_record(result.arrays)


def test_the_grids_agree_and_meter_the_same_bytes(hosted):
    here = MeteredGrid(InProcessGrid(make_app, hosted))
    with ray_grid(hosted) as inner:
        there = MeteredGrid(inner)
        for name, array in train(here).items():
            np.testing.assert_allclose(train(there)[name], array, rtol=0, atol=1e-6)
        train(here)  # the loop above trained twice over there, once per array
        assert there.exposure() == here.exposure()


def test_state_survives_rounds_and_workers_use_one_thread_and_own_their_arrays(hosted):
    hosted["elm"]["table"] = np.zeros(5)
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        ask(grid, "count")
        assert {wire.metrics_of(r)["asked"] for r in ask(grid, "count").values()} == {2}
        assert {wire.metrics_of(r)["threads"] for r in ask(grid, "where").values()} == {1}


def test_patient_text_never_crosses(hosted, capfd):
    hosted["cedar"]["bad"] = "leak"
    hosted["elm"]["bad"] = "leave"
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner, on_failure="drop", min_sites=1)
        ask(grid, "echo")
        assert grid.dropped == {"cedar": "ValueError", "elm": "SystemExit"}
        assert inner.recreated == 0
    assert PATIENT not in "".join(capfd.readouterr())


def test_a_killed_worker_is_recreated_and_only_its_hospitals_are_asked_again(hosted, tmp_path):
    log, marker = tmp_path / "log", tmp_path / "died"
    for held in hosted.values():
        held |= {"log": str(log), "marker": str(marker)}
    hosted["cedar"]["bad"] = "die_once"  # second of alder, cedar, fir in the first worker
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        before = pids(grid)
        assert list(ask(grid, "log")) == sorted(hosted)
        after = pids(grid)
        assert inner.recreated == 1
    handled = log.read_text().split()
    assert sorted(handled) == sorted(hosted)  # nobody who had answered was asked again
    assert {site for site in hosted if before[site] != after[site]} == {"alder", "cedar", "fir"}


def test_a_worker_killed_between_rounds_is_recreated(hosted):
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        before = pids(grid)
        os.kill(before["birch"], signal.SIGKILL)
        after = pids(grid)
        assert {site for site in hosted if before[site] != after[site]} == {"birch", "elm"}


def test_a_worker_that_dies_twice_in_a_round_fails_its_hospitals_by_name(hosted):
    hosted["elm"]["bad"] = "die"
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        with pytest.raises(SiteFailed, match="hospital elm: its worker died 2 times in this round"):
            ask(grid, "count")
        # The next round starts a new worker, and the hospitals beside it can be asked.
        content = wire.request(action="count", purpose="training")
        replies = grid.ask({"birch": content, "cedar": content})
        assert [wire.metrics_of(r)["asked"] for r in replies.values()] == [1, 2]


def test_hospitals_behind_one_that_kills_its_worker_are_named_too(hosted):
    hosted["birch"]["bad"] = "die"
    with ray_grid(hosted) as inner, pytest.raises(SiteFailed, match="hospital birch, elm: .*while hospital birch was"):
        ask(MeteredGrid(inner), "echo")


def test_a_hospital_that_hangs_is_named_and_its_worker_ended(hosted, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    hosted["birch"] |= {"bad": "hang", "pipe": str(tmp_path / "pipe")}
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner, on_failure="drop", min_sites=2)
        content = wire.request(action="echo", purpose="training")
        replies = grid.ask({site: content for site in grid.sites}, timeout=1.0)
        assert list(replies) == ["alder", "cedar", "fir"]
        assert grid.dropped["birch"] == "gave no answer in time"
        assert grid.dropped["elm"] == "gave no answer in time (it waited behind hospital birch)"


def test_an_interrupted_round_leaves_no_answer_for_the_next(hosted, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    hosted["birch"]["pipe"] = str(tmp_path / "pipe")
    with ray_grid(hosted) as inner:
        grid = MeteredGrid(inner)
        before = pids(grid)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            grid.ask({"birch": wire.request(action="hang", purpose="training")})
        after = pids(grid)
        assert {site for site in hosted if before[site] != after[site]} == {"birch", "elm"}


@pytest.mark.parametrize(
    ("factory", "words"), [(broken_factory, "ValueError"), (refusing_factory, "sites/a.csv: no rows")]
)
def test_a_hospital_that_does_not_start_is_one_clear_line(hosted, factory, words):
    with pytest.raises(EngineFailed, match=f"did not start in its Ray worker: {words}") as caught:
        RayGrid(factory, hosted, 2)
    assert PATIENT not in str(caught.value)


def test_closing_twice_is_harmless_and_leaves_a_shared_ray_running(hosted):
    import ray

    grid = RayGrid(make_app, hosted, 9)
    assert len(grid._workers) == len(hosted)
    grid.close()
    grid.close()
    assert ray.is_initialized()


QUIET = """
from federation_app import make_app
from pettoolkit.federation import wire
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.metered import MeteredGrid
hosted = {s: {"value": 1.0, "n": 3} for s in "abc"} | {"d": {"bad": "die"}}
with open_grid("ray", make_app, hosted, workers=2) as inner:
    grid = MeteredGrid(inner, on_failure="drop", min_sites=1)
    grid.ask({s: wire.request(action="count", purpose="setup") for s in grid.sites})
    assert inner.recreated == 1, inner.recreated
"""


def test_ray_is_started_and_stopped_without_a_word_on_the_screen():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, env=child_environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def child_environment():
    roots = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
