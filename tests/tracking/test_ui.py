import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from made_up import log

from pettoolkit.errors import BadInput, EngineFailed
from pettoolkit.tracking import ui, views


def test_the_link_opens_the_view_on_the_page_of_model_training(store):
    store.begin("example")
    address = ui.link(store.directory, "example", port=1234)
    assert address.startswith(f"http://127.0.0.1:1234/#/experiments/{store.experiment_id('example')}/runs?")
    assert "workflowType=machine_learning" in address
    assert "viewStateShareKey=compare-pets" in address


def test_the_report_is_linked_where_there_is_one(store):
    store.begin("example")
    store.begin("other")
    run_id, _ = store.log_report("example", "<p>compared</p>")
    found = ui.report_links(store.directory, ["example", "other", "all experiments"])
    identifier = store.experiment_id("example")
    assert found == {
        "example": f"/#/experiments/{identifier}/runs/{run_id}/artifacts/comparison.html?workflowType=machine_learning"
    }


def test_without_a_view_the_link_opens_the_plain_table(store, monkeypatch):
    monkeypatch.setattr(views, "view_is_known", lambda: False)
    store.begin("example")
    assert ui.link(store.directory, "example").endswith("runs?workflowType=machine_learning")


def test_the_experiment_run_last_comes_first(store, monkeypatch):
    for moment, name in enumerate(("one", "two", "one")):
        monkeypatch.setattr("mlflow.utils.time.get_current_time_millis", lambda moment=moment: moment)
        store.begin(name)
    assert list(ui.links(store.directory)) == ["one", "two"]


def test_an_unknown_experiment_is_answered_with_those_there_are(store):
    store.begin("example")
    with pytest.raises(BadInput, match=r"no experiment 'exmaple' here \(there are: example\)"):
        ui.link(store.directory, "exmaple")


def test_a_folder_without_a_record_says_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="run an experiment first"):
        ui.serve(tmp_path)


def test_a_taken_port_is_named(store):
    with socket.socket() as other:
        other.bind((ui.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=f"--port {port}: taken"), ui.running(store.directory, port):
            pass


def test_a_server_that_dies_at_once_is_reported_with_its_last_words(store, monkeypatch):
    monkeypatch.setattr(ui, "_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit('no such luck')"])
    with pytest.raises(EngineFailed, match="MLflow did not start: no such luck"), ui.running(store.directory):
        pass


@pytest.mark.slow
def test_the_server_answers_shows_the_cell_and_ends(store):
    run_id = log(store)
    with ui.running(store.directory, ui._free_port()) as server:
        with urllib.request.urlopen(f"{server.url}/ajax-api/2.0/mlflow/runs/get?run_id={run_id}") as answer:
            assert json.load(answer)["run"]["info"]["status"] == "FINISHED"
        with urllib.request.urlopen(f"{server.url}/get-artifact?path=what_left.csv&run_uuid={run_id}") as answer:
            assert b"north,out,update" in answer.read()
    assert server.process.poll() is not None
    assert ui._is_free(int(server.url.rsplit(":", 1)[1]))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_it_cleanly(store, how):
    store.begin("example")
    where, port = str(store.directory), ui._free_port()
    code = f"from pathlib import Path; from pettoolkit.tracking.ui import serve; serve(Path({where!r}), {port})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if "Ctrl-C" in line:
                break
        program.send_signal(how)
        try:
            assert "MLflow has ended." in program.communicate(timeout=60)[0]
        finally:
            program.kill()
        assert program.returncode == 0
