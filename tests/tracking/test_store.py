import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import IDENTITY, log, result, spec

from pettoolkit.errors import BadInput
from pettoolkit.records import RESULT_VERSION, Interval, NotMeasured, Summary
from pettoolkit.tracking import artifacts
from pettoolkit.tracking import finished as finished_module
from pettoolkit.tracking.database import DATABASE, explained
from pettoolkit.tracking.store import Store


def runs(store, which=""):
    return store._search("example", which)


def summary(**changes):
    return Summary(
        **{"spec": spec(), "seeds": (0, 1), "mean": {"utility/auroc": 0.7}, "sd": {}, "intervals": {}, **changes}
    )


def test_a_logged_cell_is_finished_and_reads_back_exactly(store):
    before = result()
    run_id = log(store, made=before)
    found = store.finished("example")
    assert list(found) == ["hash"]
    assert found["hash"].run_id == run_id
    assert found["hash"].params["arm"] == "federated"
    assert store.load_result(run_id) == before
    assert store.load_predictions(run_id) == b"npz"


def test_another_process_sees_it_too(store):
    log(store)
    assert set(Store(store.directory).finished("example")) == {"hash"}


def test_mlflow_shows_rounded_metrics_params_and_tags(store):
    run = store._open().get_run(log(store))
    assert run.info.run_name == "federated fedavg logistic seed 0"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["utility/auroc"] == 0.7123
    assert run.data.metrics["encryption/max_error"] == 1.235e-7
    assert run.data.metrics["cost/train_seconds"] == 1.5
    assert run.data.params["epsilon"] == "inf"
    assert "privacy/epsilon" not in run.data.metrics
    assert (run.data.tags["pet.kind"], run.data.tags["pet.config_hash"]) == ("cell", "hash")
    assert run.info.end_time - run.info.start_time == 1500


def test_round_metrics_have_steps(store):
    run_id = log(store)
    history = store._open().get_metric_history(run_id, "round/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.4), (3, 0.3)]


def test_more_metrics_than_a_batch_holds_are_all_there(store):
    many = result(round_metrics={"loss": tuple(float(i) for i in range(2000))})
    assert len(store._open().get_metric_history(log(store, made=many), "round/loss")) == 2000


def test_a_diverged_figure_is_named_and_the_cell_kept(store):
    run = store._open().get_run(log(store, made=result(round_metrics={}, metrics={"a/b": 1.0, "a/c": float("nan")})))
    assert run.data.tags["pet.not_finite"] == "a/c"
    assert "a/c" not in run.data.metrics


def test_artifacts_lie_beside_the_database_where_mlflow_finds_them(store):
    run_id = log(store, files={"figures/curve.svg": b"<svg/>"})
    folder = store.directory / "artifacts" / "example" / run_id / "artifacts"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "result.json",
        "what_left.csv",
        "weights.safetensors",
        "predictions.npz",
        "figures",
    }
    assert {a.path for a in store._open().list_artifacts(run_id, "figures")} == {"figures/curve.svg"}
    assert not list(store.directory.glob("**/meta.yaml"))


def test_the_record_survives_being_moved(store, tmp_path):
    run_id = log(store)
    store.directory.rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    assert moved.load_result(moved.finished("example")["hash"].run_id) == result()
    assert moved.load_predictions(run_id) == b"npz"


def test_the_same_cell_run_again_replaces_the_old_one(store):
    old = log(store)
    new = log(store, made=result(auroc=0.6))
    assert store.finished("example")["hash"].run_id == new
    assert [run.info.run_id for run in runs(store)] == [new]
    assert not (store.directory / "artifacts" / "example" / old / "artifacts").exists()


def test_experiments_do_not_see_each_others_cells(store):
    log(store, "one")
    assert store.finished("two") == {}


def test_a_folder_without_a_record_is_read_without_being_created(tmp_path):
    assert Store(tmp_path / "mlruns").finished("example") == {}
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digests": {"north": "aa", "south": "changed"}}, "table of hospital south changed"),
        ({"contract_digest": "changed"}, "contract changed"),
    ],
)
def test_a_stale_cell_says_what_changed(store, change, why):
    log(store)
    assert store.why_stale("example", {**IDENTITY, **change}) == why


def test_a_raised_version_makes_cells_stale(store, monkeypatch):
    log(store)
    monkeypatch.setattr(finished_module, "RESULT_VERSION", RESULT_VERSION + 7)
    assert store.why_stale("example", IDENTITY) == f"RESULT_VERSION {RESULT_VERSION} -> {RESULT_VERSION + 7}"


def test_a_cell_that_never_ran_is_not_stale(store):
    log(store)
    assert store.why_stale("example", {**IDENTITY, "spec_hash": "another"}) is None


def test_the_nearest_of_several_old_cells_is_compared_with(store):
    log(
        store,
        made=result("one"),
        identity={**IDENTITY, "contract_digest": "old", "digests": {"north": "x", "south": "y"}},
    )
    log(store, made=result("two"), identity={**IDENTITY, "contract_digest": "old"})
    assert store.why_stale("example", IDENTITY) == "contract changed"


def test_more_hospitals_than_a_tag_holds_are_told_apart_as_a_whole(store):
    many = {f"hospital number {i}": f"{i:064d}" for i in range(400)}
    log(store, identity={**IDENTITY, "digests": many})
    assert (
        store.why_stale("example", {**IDENTITY, "digests": {**many, "hospital number 7": "f" * 64}})
        == "a hospital's table changed"
    )


def test_an_interrupted_cell_is_not_finished_and_is_marked_killed(store, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log(store)
    assert [run.info.status for run in runs(store)] == ["RUNNING"]
    assert store.finished("example") == {}
    store._close_leftovers()
    assert [run.info.status for run in runs(store)] == ["KILLED"]


def test_a_cell_whose_files_are_gone_is_not_finished(store):
    run_id = log(store)
    (store.directory / "artifacts" / "example" / run_id / "artifacts" / "result.json").unlink()
    assert Store(store.directory).finished("example") == {}


def test_the_next_run_cleans_up_what_a_dead_one_left(tmp_path, empty_database, monkeypatch):
    directory = tmp_path / "mlruns"
    directory.mkdir()
    (directory / DATABASE).write_bytes(empty_database.read_bytes())
    monkeypatch.setattr(artifacts, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), Store(directory) as first, first.lock():
        log(first)
    with Store(directory) as second, second.lock():
        assert [run.info.status for run in runs(second)] == ["KILLED"]


def test_a_second_run_at_the_same_time_is_told_what_to_do(store):
    with (
        pytest.raises(BadInput, match=r"pettoolkit\.lock: another run is writing .*tracking\.dir=DIR"),
        Store(store.directory).lock(),
    ):
        pass
    assert store.finished("example") == {}  # reading is free


def test_the_lock_is_free_after_a_run(tmp_path, empty_database):
    directory = tmp_path / "mlruns"
    for _ in range(2):
        with Store(directory).lock():
            pass


def test_writing_without_the_lock_is_a_mistake_of_ours(tmp_path):
    with pytest.raises(RuntimeError, match="lock"):
        log(Store(tmp_path / "mlruns"))


def test_a_full_disk_is_one_clear_line(store, monkeypatch):
    def full(self, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(BadInput, match=r"no space left \(make some, or choose another folder") as caught:
            log(store)
    assert len(caught.value.lines) == 1
    assert "\n" not in str(caught.value)
    assert store.finished("example") == {}


def test_a_full_disk_under_the_database_is_the_same_line(tmp_path):
    database = sqlite3.connect(tmp_path / DATABASE)
    database.execute("CREATE TABLE t (x)")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(BadInput, match="no space left"), explained(tmp_path):
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")


def test_a_database_that_another_program_writes_to_is_one_clear_line(tmp_path):
    writing = sqlite3.connect(tmp_path / DATABASE)
    writing.execute("CREATE TABLE t (x)")
    writing.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BadInput, match="another program writes there"), explained(tmp_path):
        sqlite3.connect(tmp_path / DATABASE, timeout=0).execute("INSERT INTO t VALUES (1)")


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "mlruns").write_text("a file")
    with (
        pytest.raises(BadInput, match=r"mlruns.*(exists|directory) \(check the path"),
        Store(tmp_path / "mlruns").lock(),
    ):
        pass


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"not a database " * 100)
    with pytest.raises(BadInput, match=r"mlflow\.db: damaged"):
        Store(tmp_path).finished("example")


def test_half_a_database_left_by_a_dead_program_does_no_harm(tmp_path):
    (tmp_path / f"{DATABASE}.new").write_bytes(b"half")
    with Store(tmp_path) as store, store.lock():
        store.begin("example")
    assert not (tmp_path / f"{DATABASE}.new").exists()
    assert Store(tmp_path).finished("example") == {}


def test_a_summary_is_one_run_that_is_replaced(store):
    store.log_summary("example", summary(mean={"utility/auroc": 0.1}))
    made = summary(sd={"utility/auroc": 0.02}, intervals={"utility/auroc": Interval(0.6, 0.8)}, worst_site="north")
    run_id = store.log_summary("example", made)
    store.log_summary("example", summary(spec=spec(arm="local", options={})))
    found = {run.info.run_name: run for run in runs(store, "tags.`pet.kind` = 'summary'")}
    assert set(found) == {"federated fedavg logistic", "local logistic"}
    run = found["federated fedavg logistic"]
    assert run.info.run_id == run_id
    assert run.data.metrics == {"utility/auroc": 0.7, "utility/auroc_seed_sd": 0.02}
    assert run.data.params["seed"] == "0, 1"


def test_summaries_of_other_seeds_stand_side_by_side(store):
    """``--set seeds=[5]`` must not take away the summary of the file's three seeds."""
    for seeds in ((0, 1, 2), (5,)):
        store.log_summary("example", summary(seeds=seeds), seeds)
    assert {run.data.params["seed"] for run in runs(store)} == {"0, 1, 2", "5"}
    assert store.has_summary("example", summary(), (0, 1, 2))
    assert not store.has_summary("example", summary(), (0, 1))


def former(**options):
    """A spec of the same row with other options."""
    return spec(options={"strategy": "fedavg", **options})


def logged(store, of, config_hash, **changes):
    return log(store, made=result(config_hash, spec=of), identity={**IDENTITY, "spec_hash": config_hash, **changes})


def superseded(store):
    return {run.data.tags["pet.config_hash"] for run in runs(store, "tags.`pet.superseded` = 'true'")}


def test_a_cell_with_other_options_is_superseded_and_current_again_when_one_goes_back(store):
    old, new = former(rounds=30), former(rounds=50)
    logged(store, old, "old")
    logged(store, spec(seed=1), "other seed")
    logged(store, spec(arm="local", options={}), "other arm")
    run_id = logged(store, new, "new")
    store.supersede("example", {"new": new}, (0,), "")
    assert superseded(store) == {"old"}
    assert {run.info.run_name for run in runs(store)} == {
        "federated fedavg logistic seed 0",
        "federated fedavg logistic seed 1",
        "local logistic seed 0",
        "federated fedavg logistic seed 0 (superseded)",
    }
    assert store.load_result(store.finished("example")["old"].run_id).spec == old  # still at hand

    store.supersede("example", {"old": old}, (0,), "")
    assert superseded(store) == {"new"}
    assert store._open().get_run(run_id).info.run_name == "federated fedavg logistic seed 0 (superseded)"
    store.supersede("example", {"old": old, "new": new}, (0,), "")
    assert superseded(store) == set()
    assert not [run for run in runs(store) if "superseded" in run.info.run_name]


def test_the_same_arm_on_other_hospitals_is_not_superseded(store):
    logged(store, spec(), "there", cohort="five simulated")
    logged(store, spec(), "here", cohort="two of one's own")
    store.supersede("example", {"here": spec()}, (0,), "two of one's own")
    assert superseded(store) == set()


def test_summaries_of_former_options_and_of_fewer_seeds_are_deleted(store):
    old, new = former(rounds=30), former(rounds=50)
    store.log_summary("example", summary(spec=old, seeds=(0, 1, 2)), (0, 1, 2))
    store.log_summary("example", summary(spec=new, seeds=(0,)), (0,))
    store.log_summary("example", summary(spec=new, seeds=(5,)), (5,))
    store.log_summary("example", summary(spec=spec(arm="local", options={})), (0, 1, 2))
    kept = store.log_summary("example", summary(spec=new, seeds=(0, 1, 2)), (0, 1, 2))
    store.supersede("example", {"new": new}, (0, 1, 2), "")
    assert {(run.info.run_name, run.data.params["seed"]) for run in runs(store)} == {
        ("federated fedavg logistic", "0, 1, 2"),
        ("federated fedavg logistic", "5"),
        ("local logistic", "0, 1"),
    }
    assert kept in {run.info.run_id for run in runs(store)}


def test_the_plan_names_the_options_that_changed(store):
    logged(store, former(rounds=30, epochs=2), "far")
    logged(store, former(rounds=30), "near")
    now = {**IDENTITY, "spec_hash": "now"}
    said = store.why_stale("example", now, former(rounds=50))
    assert said == "changed: rounds 30 -> 50"
    assert store.why_stale("example", now, former(rounds=30, epochs=3), current={"near"}) == "changed: epochs 2 -> 3"
    assert store.why_stale("example", now, spec(seed=9)) is None
    assert store.why_stale("example", now, former(rounds=50), current={"near", "far"}) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema_version": 99}, "schema_version 99 is newer"),
        ({"surprise": 1}, "unknown fields surprise"),
        (None, "Expecting"),
    ],
)
def test_a_result_of_a_newer_version_or_a_damaged_one_is_one_clear_line(store, change, why):
    run_id = log(store)
    path = store.directory / "artifacts" / "example" / run_id / "artifacts" / "result.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=rf"result\.json: not a result .*{why}.*--force") as caught:
        store.load_result(run_id)
    assert len(caught.value.lines) == 1
    assert store.why_stale("example", {**IDENTITY, "spec_hash": "now"}, former(rounds=50)) is None


def test_a_summary_is_not_a_cell(store):
    store.log_summary("example", summary())
    assert store.finished("example") == {}


def test_nothing_leaves_the_folder_for_the_current_one(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    store.begin("example")
    log(store)
    assert {p.name for p in tmp_path.iterdir()} == {"mlruns"}


def test_not_measured_is_kept_as_such(store):
    kept = store.load_result(log(store))
    assert kept.per_site["south"]["auroc"] == NotMeasured("undefined: one class at this site")


KILLED_WHILE_LOGGING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from made_up import log, result
from pettoolkit.tracking import artifacts
from pettoolkit.tracking.store import Store
with Store(Path(sys.argv[1])) as store, store.lock():
    store.begin("example")
    log(store, made=result("first"))
    artifacts.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    log(store, made=result("second"))
"""


@pytest.mark.slow
def test_kill_9_loses_the_cell_in_flight_and_nothing_else(tmp_path):
    command = [sys.executable, "-c", KILLED_WHILE_LOGGING, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    with Store(tmp_path) as store, store.lock():
        assert set(store.finished("example")) == {"first"}
        log(store, made=result("second"))
        assert set(store.finished("example")) == {"first", "second"}


def test_the_digests_tag_is_json(store):
    run = store._open().get_run(log(store))
    assert json.loads(run.data.tags["pet.digests"]) == {"north": "aa", "south": "bb"}


def test_a_summary_names_the_rows_of_its_cells(tmp_path):
    store = Store(tmp_path)
    with store, store.lock():
        cell = log(store)
        summed = store.log_summary("example", summary(), digests=IDENTITY["digests"])
        named = [store._open().get_run(r).inputs.dataset_inputs[0].dataset.digest for r in (cell, summed)]
    assert named[0] == named[1]


def test_a_report_is_a_run_of_its_own_and_the_newest_is_kept(tmp_path):
    store = Store(tmp_path)
    with store, store.lock():
        store.log_report("example", "<p>old</p>")
        run_id, path = store.log_report("example", "<p>new</p>")
        found = store._search("example", "tags.`pet.kind` = 'report'")
    assert [run.info.run_id for run in found] == [run_id]
    assert path.name == "comparison.html"
    assert path.read_text() == "<p>new</p>"


def test_a_report_is_known_by_the_cells_it_is_about(tmp_path):
    store = Store(tmp_path)
    with store, store.lock():
        run_id, _ = store.log_report("example", "<p>new</p>", ["one", "two"])
    assert store.has_report("example", ["one", "two"])
    assert not store.has_report("example", ["one"])
    with store.lock():
        store._open().set_terminated(run_id, "KILLED")
    assert not store.has_report("example", ["one", "two"]), "one that was interrupted counts"
    assert not store.has_report("another", ["one", "two"])


def test_cells_of_the_same_rows_name_the_same_dataset(tmp_path):
    store = Store(tmp_path)
    with store, store.lock():
        one, two = log(store, made=result("one")), log(store, made=result("two"))
        other = log(store, made=result("three"), identity={**IDENTITY, "digests": {"north": "aa", "south": "cc"}})
        named = [store._open().get_run(r).inputs.dataset_inputs[0].dataset for r in (one, two, other)]
    assert named[0].digest == named[1].digest != named[2].digest
    assert "north, south" in named[0].name
