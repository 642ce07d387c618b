"""What a person meets in MLflow: the experiment's note and the saved view "Compare PETs".

MLflow's default table shows no metric. A saved view is an experiment tag whose form MLflow does not
document; it is written for the 3.17 series (read from that version's user interface: an envelope with
``name, createdAt, updatedAt, state``, the state being JSON in a string). Elsewhere it is left out, and
links open the plain table.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pettoolkit.records import Json

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEW_ID = "compare-pets"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_ID}"
VIEW_NAME = "Compare PETs"
WRITTEN_FOR = "3.17."
RUN_NAME = "attributes.`Run Name`"

PARAMS = ("epsilon", "noise", "unseen", "arm", "variant", "model", "rounds", "seed", "sites")
METRICS = (
    "utility/auroc",
    "utility/auroc_low",
    "utility/auroc_high",
    "privacy/epsilon",
    "risk/reid_max",
    "risk/insider_max",
    "robustness/auroc_worst_site",
    "robustness/auroc_unseen_site",
    "cost/bytes_out_per_site",
    "cost/train_seconds",
    "risk/membership_auc",
)
"""First what a decision needs, since a narrow window shows no more: accuracy, guarantee, measured risk."""
DATASET = "attributes.`Dataset`"

TRADE_OFF = "accuracy against risk and cost"
SCATTERS = ("risk/reid_max", "risk/insider_max", "cost/bytes_out_per_site")
"""Across, with AUROC upwards; the first section."""
CHARTS = {
    "utility": ("utility/auroc", "utility/auprc", "utility/calibration_slope"),
    "privacy": ("privacy/epsilon",),
    "risk": ("risk/reid_max", "risk/insider_max", "risk/membership_auc"),
    "robustness": ("robustness/auroc_worst_site", "robustness/auroc_site_sd", "robustness/auroc_unseen_site"),
    "cost": ("cost/bytes_out_per_site", "cost/train_seconds", "cost/cpu_seconds"),
}

_SCORES = (
    *(f"utility/auroc{end}" for end in ("", "_low", "_high", "_all_rows")),
    *(
        f"utility/{name}"
        for name in ("auprc", "brier", "calibration_slope", "accuracy", "balanced_accuracy", "precision")
    ),
    *(f"utility/{name}" for name in ("sensitivity", "f1", "majority_accuracy", "ppv_at_80_recall")),
    *(f"robustness/auroc_{name}" for name in ("worst_site", "site_sd", "unseen_site")),
    *(f"robustness/sites_{name}" for name in ("undefined", "few_positives")),
)
UNDRAWN = (
    *("utility/auroc_low", "utility/auroc_high", "utility/majority_accuracy"),
    *("robustness/sites_undefined", "robustness/sites_few_positives"),
    *(f"{name}_seed_sd" for name in _SCORES),
)
"""MLflow draws a bar chart of every metric that the view does not name: bounds, counts and spreads say nothing so."""

BEGUN = "pet.begun"
"""When the experiment was last run, milliseconds; MLflow's own time of update ignores runs."""

NOTE = """\
**How to read this page.** One row, one technology, same patients: compare `utility/auroc`, guarantee, `risk/*`, cost.

- Accuracy (`utility/auroc`), guarantee (`privacy/epsilon`), measured risk (`risk/*`) and cost: none replaces another.
  Equal digests in the column *Dataset* are equal rows.
- The comparison in words, with all figures: artifact `comparison.html` of the run *report: ... compared*
  (`pet.kind = report`, newest run; outside this view's filter).
- Rows tagged `pet.kind = summary` hold the mean over seeds; `pet.kind = cell` is one training run with one seed.
  The saved view *Compare PETs* shows the summaries; one summary belongs to one list of seeds (column `seed`).
- `pet.superseded = true` (and a name that ends so) marks an older cell of the same row, made with other options, data
  or version. It is kept, so that going back to it costs nothing, and is in no summary of the experiment as it is now.
- `utility/auroc` is the unweighted mean of the AUROC within each hospital, with a 95 % interval (`_low`, `_high`) over
  patients. Rows whose intervals overlap may still differ: all rows share their patients, so read paired differences.
- `robustness/auroc_worst_site` is the hospital that is served worst. `cost/bytes_out_per_site` is what left a hospital.
- `privacy/epsilon` is a guarantee and is empty where there is none (`epsilon = inf`). It is not a measured risk;
  `risk/*` is what attacks achieved. Whom one must trust stands in each run's `result.json`.
- A missing figure was not measured or does not exist (one class at a hospital): it is never 0.
- `what_left.csv` in a run's artifacts lists every message that left or entered a hospital.
"""


def decorate(client: MlflowClient, experiment_id: str, experiment: str) -> None:
    """Write note, kind and saved view of an experiment; what a person has changed since is kept."""
    from mlflow.utils.time import get_current_time_millis

    tags = client.get_experiment(experiment_id).tags
    wanted: dict[str, str] = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": NOTE,
        "pet.experiment": experiment,
    }
    if view_is_known():
        wanted[VIEW_TAG] = envelope(VIEW_NAME, view_state())
    for key, value in wanted.items():
        if key not in tags:
            client.set_experiment_tag(experiment_id, key, value)
    client.set_experiment_tag(experiment_id, BEGUN, str(get_current_time_millis()))


def view_is_known() -> bool:
    """Whether the installed MLflow is one whose saved views have the form written here."""
    import mlflow

    return str(mlflow.__version__).startswith(WRITTEN_FOR)


def view_state() -> dict[str, Json]:
    """Columns, order, filter and charts of the view, by the names that the user interface gives them."""
    params = [f"params.`{name}`" for name in PARAMS]
    metrics = [f"metrics.`{name}`" for name in METRICS]
    return {
        "searchFilter": "tags.`pet.kind` = 'summary'",
        "orderByKey": "metrics.`utility/auroc`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*metrics, *params, DATASET],
        "columnOrder": [RUN_NAME, *metrics, *params, DATASET],
        "columnWidths": {RUN_NAME: 280} | {c: 30 + 7 * len(c.split("`")[1]) for c in metrics + params},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,  # else MLflow sorts the sections by name, and cost comes first
        "compareRunSections": [_section(name) for name in (TRADE_OFF, *CHARTS)],
        "compareRunCharts": [
            *(_scatter(metric) for metric in SCATTERS),
            *(_bar(section, metric) for section, metrics in CHARTS.items() for metric in metrics),
            *(_bar(metric.partition("/")[0], metric) | {"deleted": True, "isGenerated": True} for metric in UNDRAWN),
        ],
    }


def envelope(name: str, state: Json) -> str:
    """Write a saved view as MLflow stores it; times are milliseconds."""
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})


def _section(name: str) -> dict[str, Any]:
    return {
        "uuid": f"pet-{name}",
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": True,
    }


def _scatter(metric: str) -> dict[str, Any]:
    return {
        "uuid": f"pet-auroc-{metric}",
        "type": "SCATTER",
        "xaxis": {"key": metric, "type": "METRIC"},
        "yaxis": {"key": "utility/auroc", "type": "METRIC"},
        "metricSectionId": f"pet-{TRADE_OFF}",
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(section: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": f"pet-{metric}",
        "type": "BAR",
        "metricKey": metric,
        "displayName": metric.split("/", 1)[1],
        "metricSectionId": f"pet-{section}",
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": False,
    }
