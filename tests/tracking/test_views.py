import json
from pathlib import Path

import pytest

from pettoolkit.tracking import views


def tags(store):
    return store._open().get_experiment(store.experiment_id("example")).tags


def test_a_new_experiment_gets_its_note_and_its_view(store):
    store.begin("example")
    found = tags(store)
    assert "How to read this page" in found["mlflow.note.content"]
    view = json.loads(found[views.VIEW_TAG])
    assert (view["name"], type(view["createdAt"])) == ("Compare PETs", int)
    assert json.loads(view["state"]) == views.view_state()


def test_what_a_person_wrote_since_is_kept(store):
    store.begin("example")
    store._open().set_experiment_tag(store.experiment_id("example"), "mlflow.note.content", "mine")
    store.begin("example")
    assert tags(store)["mlflow.note.content"] == "mine"


def test_another_mlflow_gets_no_view_and_no_error(store, monkeypatch):
    monkeypatch.setattr("mlflow.__version__", "4.0.0")
    store.begin("example")
    assert views.VIEW_TAG not in tags(store)


def test_the_installed_user_interface_knows_every_key_of_the_view():
    import mlflow.server

    bundle = Path(mlflow.server.__file__).parent / "js" / "build" / "static" / "js"
    source = "".join(path.read_text(errors="replace") for path in sorted(bundle.glob("*.js")))
    for word in ("mlflow.sharedViewState.", "viewStateShareKey", *views.view_state()):
        assert word in source
    assert views.view_is_known()


def test_charts_lie_in_sections_that_exist():
    state = views.view_state()
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    shown = [chart for chart in state["compareRunCharts"] if not chart["deleted"]]
    assert {chart["metricSectionId"] for chart in shown} == sections
    uuids = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(uuids) == len(set(uuids))


@pytest.mark.parametrize("column", ["metrics.`utility/auroc`", "metrics.`robustness/auroc_worst_site`", "params.`arm`"])
def test_the_view_shows_the_comparison(column):
    assert column in views.view_state()["selectedColumns"]


def test_no_chart_is_drawn_of_bounds_and_spreads_and_the_first_are_trade_offs():
    charts = views.view_state()["compareRunCharts"]
    hidden = {chart["metricKey"] for chart in charts if chart["deleted"]}
    assert {"utility/auroc_low", "utility/auroc_seed_sd", "robustness/auroc_worst_site_seed_sd"} <= hidden
    first = charts[0]
    assert (first["type"], first["xaxis"]["key"], first["yaxis"]["key"]) == (
        "SCATTER",
        "risk/reid_max",
        "utility/auroc",
    )


def test_the_note_says_in_its_first_line_how_to_read_it():
    first, rest = views.NOTE.split("\n", 1)
    assert first.startswith("**How to read this page.**")
    assert len(first) < 130, "MLflow shows one line until it is opened"
    assert rest.startswith("\n"), "the line is a paragraph of its own"
