"""Whole runs from the command line: the engines agree, and what is killed loses nothing that was finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pettoolkit import cli
from pettoolkit.federation import ray_grid
from tests import small_cohort as small
from tests.experiment.test_runner import CONTRACT

QUICK = """\
name: quick
sites: {source: simulated, stays: 500}
arms:
  - {arm: local, epochs: 3}
  - {arm: pooled, epochs: 3}
  - {arm: federated, strategy: [fedavg, fedsgd], rounds: 3}
  - {arm: encrypted_aggregation, rounds: 3}
  - {arm: synthetic, generator: marginals, epochs: 3}
tracking: {dir: DIR}
"""
TABLES = """\
name: tables
task: table-outcome
sites: {source: tables, path: DATA}
arms: [ARMS]
seeds: SEEDS
tracking: {dir: DIR}
"""
DECRYPTED = 1e-4
"""Encryption is approximate and never seeded: so close are two runs of it."""


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    """The session's one Ray, where no other test has started it."""
    from pettoolkit.federation.ray_session import start_ray, stop_ray

    owned = start_ray(2)
    yield
    if owned:
        stop_ray()


@pytest.fixture
def mlruns(tmp_path: Path, empty_database: Path) -> Path:
    return fresh_store(tmp_path / "mlruns", empty_database)


def fresh_store(folder: Path, empty_database: Path) -> Path:
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return folder


def written(folder: Path, text: str, **words: object) -> str:
    """An experiment file with the words in capitals filled in."""
    for name, value in words.items():
        text = text.replace(name, str(value))
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def tables(folder: Path, hospitals: int, patients: int) -> Path:
    """One CSV per hospital."""
    folder.mkdir()
    (folder / "contract.yaml").write_text(CONTRACT, encoding="utf-8")
    pool = small.rows("north", hospitals * patients)
    for i in range(hospitals):
        rows = pool.iloc[i * patients : (i + 1) * patients]
        rows.to_csv(folder / f"hospital-{i:03d}.csv", index=False)
    return folder


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The cells that a command prints as JSON."""
    code = cli.main([*arguments, "--format", "json"])
    said = capsys.readouterr()
    assert code == cli.DONE, said.err
    cells: list[dict[str, Any]] = json.loads(said.out)["cells"]
    return cells


def weights(mlruns: Path, cell: dict[str, Any]) -> dict[str, Any]:
    from safetensors.numpy import load_file

    (file,) = mlruns.glob(f"artifacts/*/{cell['run_id']}/**/weights.safetensors")
    return load_file(file)


def judged(cell: dict[str, Any]) -> dict[str, float]:
    """Metrics that both engines must have alike: not the seconds, and not what measures encryption's own noise."""
    return {n: v for n, v in cell["metrics"].items() if n.split("/")[0] in ("utility", "robustness", "site")}


def traffic(cell: dict[str, Any]) -> dict[tuple[str, ...], tuple[int, int]]:
    """(site, direction, kind, purpose) to messages and bytes."""
    rows = cell["exposure"]["traffic"]
    return {tuple(r[k] for k in ("site", "direction", "kind", "purpose")): (r["messages"], r["bytes"]) for r in rows}


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_both_engines_give_the_same_models_figures_and_bytes(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores, cells = {}, {}
    for engine in ("inline", "ray"):
        stores[engine] = fresh_store(tmp_path / engine, empty_database)
        file = written(tmp_path, QUICK, DIR=stores[engine])
        cells[engine] = called(capsys, "run", file, "--engine", engine, "--workers", "2")

    for store in stores.values():
        (page,) = store.glob("artifacts/quick/*/artifacts/comparison.html")
        assert "federated fedsgd, logistic" in page.read_text(encoding="utf-8"), "a run ends with its report in MLflow"

    assert [c["arm"] for c in cells["ray"]] == [c["arm"] for c in cells["inline"]]
    assert {c["status"] for c in cells["ray"]} == {"done"}
    for here, there in zip(cells["inline"], cells["ray"], strict=True):
        encrypted = here["arm"].startswith("encrypted")
        ours, theirs = weights(stores["inline"], here), weights(stores["ray"], there)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=DECRYPTED if encrypted else 1e-6)
        assert judged(there) == pytest.approx(judged(here), abs=0.002 if encrypted else 1e-6, nan_ok=True)
        sent, sent_there = traffic(here), traffic(there)
        assert {k: n for k, (n, _) in sent.items()} == {k: n for k, (n, _) in sent_there.items()}
        for key, (_, size) in sent.items():
            assert sent_there[key][1] == (pytest.approx(size, rel=0.01) if encrypted else size), (here["arm"], key)


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_hundred_hospitals_on_two_workers(
    tmp_path: Path, mlruns: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grids = spied(monkeypatch)
    data = tables(tmp_path / "data", hospitals=100, patients=30)
    file = written(
        tmp_path, TABLES, DATA=data, ARMS="{arm: federated, rounds: 2}, {arm: pooled, epochs: 2}", SEEDS=[0], DIR=mlruns
    )
    cells = called(capsys, "run", file, "--engine", "ray", "--workers", "2")

    assert [c["status"] for c in cells] == ["done", "done"]
    assert len(cells[0]["params"]["sites"]) == 100
    assert [len(grid._workers) for grid in grids] == [2]
    assert len({key[0] for key in traffic(cells[0])}) == 100


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_worker_killed_in_a_round_is_made_anew_and_the_result_is_the_same(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tables(tmp_path / "data", hospitals=4, patients=200)
    results = []
    for name, rounds_until_death in (("undisturbed", None), ("disturbed", 4)):
        with monkeypatch.context() as patch:
            grids = spied(patch)
            if rounds_until_death:
                kill_in_round(patch, rounds_until_death)
            store = fresh_store(tmp_path / name, empty_database)
            arms = "{arm: federated, rounds: 6}"
            file = written(tmp_path, TABLES, DATA=data, ARMS=arms, SEEDS=[0], DIR=store)
            (cell,) = called(capsys, "run", file, "--engine", "ray", "--workers", "2")
        assert [grid.recreated for grid in grids] == [1 if rounds_until_death else 0]
        results.append((weights(store, cell), judged(cell)))

    (ours, ours_judged), (theirs, theirs_judged) = results
    for name in ours:
        np.testing.assert_array_equal(theirs[name], ours[name])
    assert theirs_judged == ours_judged


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_kill_9_loses_the_cell_in_flight_and_the_same_command_goes_on(
    engine: str, tmp_path: Path, mlruns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each round costs milliseconds, so that 2,000 of them are surely in flight when the signal comes.
    data = tables(tmp_path / "data", hospitals=3, patients=150)
    first = "{arm: local, epochs: 3}, {arm: pooled, epochs: 3}"
    arms = first + ", {arm: federated, rounds: ROUNDS}, {arm: synthetic, generator: marginals}"
    endless = written(tmp_path, TABLES, ARMS=arms, ROUNDS=2000, DATA=data, SEEDS=[0], DIR=mlruns)
    command = [sys.executable, "-m", "pettoolkit.cli", "run", endless, "--engine", engine]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=plain()) as run:
        assert run.stderr is not None
        said = next(line for line in run.stderr if line.startswith("[2/4]"))
        assert "federated" in said
        # What holds tables must go at once; Ray's own agents look for their Ray about once a minute, then go too.
        below = [p for p in psutil.Process(run.pid).children(recursive=True) if "Agent" not in " ".join(p.cmdline())]
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == [], "what it had started outlives it"

    before = called(capsys, "plan", endless)
    assert [c["status"] for c in before] == ["finished", "finished", "to run", "to run"]
    quick = written(tmp_path, TABLES, ARMS=arms, ROUNDS=3, DATA=data, SEEDS=[0], DIR=mlruns)
    after = called(capsys, "run", quick, "--engine", "inline")
    assert [c["status"] for c in after] == ["skipped", "skipped", "done", "done"]


def plain() -> dict[str, str]:
    """The environment of a command that knows nothing of a Ray that runs here."""
    root = str(Path(__file__).parents[1])
    return {n: v for n, v in os.environ.items() if not n.startswith("RAY_")} | {"PYTHONPATH": root}


def spied(monkeypatch: pytest.MonkeyPatch) -> list[ray_grid.RayGrid]:
    """The Ray grids that are opened from now on."""
    grids: list[ray_grid.RayGrid] = []
    opened = ray_grid.RayGrid.__init__

    def keep(self: ray_grid.RayGrid, *args: Any, **kwargs: Any) -> None:
        opened(self, *args, **kwargs)
        grids.append(self)

    monkeypatch.setattr(ray_grid.RayGrid, "__init__", keep)
    return grids


def kill_in_round(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """Kill a worker, as the system would, as soon as its hospitals have been asked in that round."""
    asked: list[object] = []
    ask = ray_grid._Delivery._ask

    def ask_and_kill(self: ray_grid._Delivery, owners: Iterable[int]) -> None:
        import ray

        if owners is not self._queued:  # a round that is under way
            ask(self, owners)
            return
        asked.append(self)
        worker = self._grid._workers[0]
        pid = ray.get(worker.__ray_call__.remote(lambda _: os.getpid())) if len(asked) == rounds else None
        ask(self, owners)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(ray_grid._Delivery, "_ask", ask_and_kill)
