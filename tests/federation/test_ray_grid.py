"""Hospitals in Ray's workers: five of them on two workers, shared by most tests; workers that die are made anew."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from federation_app import PATIENT, SITES, WEIGHTS, broken_factory, make_app, refusing_factory
from flwr.serverapp.strategy import FedAvg

from pettoolkit.errors import EngineFailed, SiteFailed
from pettoolkit.federation import memory, ray_grid, wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.federation.ray_grid import RayGrid

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

FIRST, SECOND = {"alder", "cedar", "fir"}, {"birch", "elm"}  # who lives in which worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals")
    for name in ("left", "right", "silent"):
        os.mkfifo(folder / name)
    return folder


@pytest.fixture(scope="module")
def five_hosted(folder):
    common = {"table": np.zeros(5), "pipe": str(folder / "silent"), "log": str(folder / "log")}
    hosted = {s: {"value": i / 3, "n": 10 + 7 * i, **common} for i, s in enumerate(SITES)}
    pipes = [str(folder / "left"), str(folder / "right")]
    hosted["alder"]["pipes"], hosted["birch"]["pipes"] = pipes, pipes[::-1]
    hosted["cedar"]["marker"] = str(folder / "died")
    return hosted


@pytest.fixture(scope="module")
def shared(ray_session, five_hosted):
    grid = RayGrid(make_app, five_hosted, workers=2)
    yield grid
    grid.close()


@pytest.fixture
def five(shared):
    return MeteredGrid(shared, timeout=120)


def ask(grid, action, *, timeout=None, instead=None, **parts):
    """Ask all hospitals for ``action``; ``instead`` names other actions for some."""
    actions = dict.fromkeys(grid.sites, action) | (instead or {})
    requests = {s: wire.request(action=a, purpose="training", **parts) for s, a in actions.items()}
    return grid.ask(requests, timeout=timeout)


def metric(replies, name):
    return {site: wire.metrics_of(reply)[name] for site, reply in replies.items()}


def moved(before, after):
    """Hospitals that live in another process now."""
    return {site for site in before if before[site] != after[site]}


def test_both_workers_are_busy_in_a_round(five):
    # alder and birch live in different workers, and each waits until the other is at work too.
    assert list(ask(five, "meet")) == sorted(SITES)
    pids = metric(ask(five, "where"), "pid")
    assert len(set(pids.values())) == 2
    assert len({pids[site] for site in FIRST}) == 1


def test_a_hundred_hospitals_on_two_workers():
    hosted = {f"site-{i:03d}": {"value": float(i)} for i in range(100)}
    inner = RayGrid(make_app, hosted, workers=2)
    try:
        replies = ask(MeteredGrid(inner), "total", arrays={"x": np.ones(3)}, kind="statistics")
        assert [float(wire.arrays_of(r)["sum"]) for r in replies.values()] == [3.0 + i for i in range(100)]
        assert len(inner._workers) == 2
    finally:
        inner.close()


def train(grid):
    random.seed(1)
    n = len(list(grid.get_node_ids()))
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_evaluate_nodes=n, min_available_nodes=n)
    config = wire.request(action="train", kind="model", purpose="training", wants="update")["config"]
    result = strategy.start(grid, wire.to_record(WEIGHTS), num_rounds=5, train_config=config)
    return wire.from_record(result.arrays)


def test_the_grids_agree_and_meter_the_same_bytes(five, five_hosted):
    here = MeteredGrid(InProcessGrid(make_app, five_hosted))
    ours, theirs = train(here), train(five)
    for name in WEIGHTS:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-6)
    assert five.exposure() == here.exposure()
    assert five.exposure().bytes_per_site("out")["elm"] > 0


def test_state_survives_rounds(five):
    first = metric(ask(five, "count"), "asked")
    assert metric(ask(five, "count"), "asked") == {site: asked + 1 for site, asked in first.items()}


def test_workers_use_one_thread_and_may_write_to_what_their_hospitals_hold(five):
    assert set(metric(ask(five, "where"), "threads").values()) == {1}


def test_seconds_and_memory_are_measured_where_the_work_is_done(five):
    ask(five, "count")
    usage = five.usage()
    assert set(usage["cpu_seconds"]) == set(SITES)
    assert min(usage["cpu_seconds"].values()) > 0
    assert set(usage["peak_rss_mb"]) == {"worker-0", "worker-1"}
    assert min(usage["peak_rss_mb"].values()) > 10


@pytest.mark.skipif(not memory._CLEAR.exists(), reason="only Linux can reset a process's peak memory")
def test_peak_memory_is_counted_anew_in_every_worker(five, shared):
    ask(five, "hello", instead={"birch": "swell"})
    before = shared.usage()["peak_rss_mb"]
    shared.reset_peaks()
    ask(five, "hello")
    after = shared.usage()["peak_rss_mb"]
    assert set(after) == {"worker-0", "worker-1"}
    assert after["worker-1"] < before["worker-1"] - 100


def test_patient_text_never_crosses(shared, capfd):
    grid = MeteredGrid(shared, on_failure="drop", min_sites=1)
    recreated = shared.recreated
    ask(grid, "echo", instead={"cedar": "leak", "elm": "leave"})
    assert grid.dropped == {"cedar": "ValueError", "elm": "SystemExit"}
    assert shared.recreated == recreated
    assert PATIENT not in "".join(capfd.readouterr())


@pytest.fixture(params=[1, 8])
def ahead(request, monkeypatch):
    """Messages that a worker has at a time: the others of its hospitals' are kept back, or given to it at once."""
    monkeypatch.setattr(ray_grid, "AHEAD", request.param)


@pytest.mark.usefixtures("ahead")
def test_a_killed_worker_is_recreated_and_only_its_hospitals_are_asked_again(five, shared, folder, capfd):
    before, recreated = metric(ask(five, "where"), "pid"), shared.recreated
    replies = ask(five, "log", instead={"cedar": "die_once"})
    assert list(replies) == sorted(SITES)
    assert shared.recreated == recreated + 1
    asked = Counter((folder / "log").read_text().split())
    assert set(asked) == set(SITES)
    # the other worker's hospitals once; one of the killed worker's twice only if its answer died on the way with it
    assert [asked[site] for site in SECOND] == [1] * len(SECOND)
    assert moved(before, metric(ask(five, "where"), "pid")) == FIRST
    for name in ("log", "died"):
        (folder / name).unlink()
    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_between_rounds_is_recreated(five):
    before = metric(ask(five, "where"), "pid")
    os.kill(before["birch"], signal.SIGKILL)
    assert moved(before, metric(ask(five, "where"), "pid")) == SECOND


@pytest.mark.usefixtures("ahead")
def test_a_worker_that_dies_twice_in_a_round_fails_its_hospitals_by_name(five):
    with pytest.raises(SiteFailed, match=r"hospital birch, elm: its worker died 2 times .*while hospital birch was"):
        ask(five, "count", instead={"birch": "die"})
    assert list(ask(five, "count")) == sorted(SITES)  # the next round has a new worker


@pytest.mark.usefixtures("ahead")
def test_a_hospital_that_hangs_is_named_and_its_worker_ended(shared):
    grid = MeteredGrid(shared, on_failure="drop", min_sites=2)
    before = metric(ask(grid, "where"), "pid")
    assert list(ask(grid, "count", timeout=2.0, instead={"birch": "hang"})) == sorted(FIRST)
    assert grid.dropped["birch"] == "gave no answer in time"
    assert grid.dropped["elm"] == "gave no answer in time (it waited behind hospital birch)"
    assert moved(before, metric(ask(MeteredGrid(shared), "where"), "pid")) == SECOND


@pytest.fixture
def heeds_ctrl_c():
    """Tests that run in a shell's background are started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_an_interrupted_round_leaves_no_answer_for_the_next(five):
    before = metric(ask(five, "where"), "pid")
    press = wire.request(action="interrupt", purpose="training", extra={"coordinator": os.getpid()})
    with pytest.raises(KeyboardInterrupt):
        five.ask({"birch": press})
    assert moved(before, metric(ask(five, "where"), "pid")) == SECOND


@pytest.mark.parametrize(
    ("factory", "words"), [(broken_factory, "ValueError"), (refusing_factory, "sites/a.csv: no rows")]
)
def test_a_hospital_that_does_not_start_is_one_clear_line(hosted, factory, words):
    with pytest.raises(EngineFailed, match=f"did not start in its Ray worker: {words}") as caught:
        RayGrid(factory, hosted, workers=1)
    assert PATIENT not in str(caught.value)


def test_closing_twice_is_harmless_and_leaves_a_shared_ray_running(five_hosted):
    import ray

    grid = RayGrid(make_app, {"elm": five_hosted["elm"]}, workers=9)
    assert len(grid._workers) == 1
    grid.close()
    grid.close()
    assert ray.is_initialized()


INTRUDER = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
except ConnectionError:
    print("kept out")
"""


@pytest.mark.slow
def test_nobody_else_on_the_network_can_talk_to_our_ray(shared):
    import ray

    done = run_python(INTRUDER, ray.get_runtime_context().gcs_address)
    assert done.stdout == "kept out\n"


ALONE = """
import ray
from federation_app import make_app
from pettoolkit.federation import memory, wire
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.metered import MeteredGrid
for _ in range(2):
    with open_grid("ray", make_app, {s: {} for s in "abcd"}, workers=2) as inner:
        grid = MeteredGrid(inner, on_failure="drop", min_sites=1)
        grid.ask({s: wire.request(action="die" if s == "d" else "count", purpose="setup") for s in grid.sites})
        assert inner.recreated == 1, inner.recreated
        assert set(grid.dropped) == {"d"}, grid.dropped
    assert not ray.is_initialized()
"""
CLUSTER = """
import os, subprocess, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from pettoolkit.federation.ray_session import start_ray
start_ray(2)
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""

NODES = """
import os
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
import ray
from ray._private import state
from ray.cluster_utils import Cluster
from federation_app import make_app
from pettoolkit.federation import wire
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.metered import MeteredGrid
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    with open_grid("ray", make_app, {s: {} for s in "abcd"}, workers=2) as inner:
        grid = MeteredGrid(inner)
        for asked in (1, 2):
            replies = grid.ask({s: wire.request(action="count", purpose="setup") for s in grid.sites})
            assert [wire.metrics_of(r)["asked"] for r in replies.values()] == [asked] * 4
        nodes = {actor["Address"]["NodeID"] for actor in state.actors().values()}
        assert len(nodes) == 2, nodes
        print("two nodes")
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_on_a_cluster_of_two_nodes_the_hospitals_are_spread_over_both():
    done = run_python(NODES)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("two nodes")


@pytest.mark.slow
def test_a_ray_of_its_own_is_started_and_stopped_without_a_word_on_the_screen():
    done = run_python(ALONE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_ray_address_takes_the_hospitals_to_a_ray_that_runs_already():
    done = run_python(CLUSTER, ALONE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def run_python(*arguments):
    """Run Python beside this process: it finds the package and the small app, and nothing of a Ray that runs here."""
    roots = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment | {"PYTHONPATH": roots}, check=False)
