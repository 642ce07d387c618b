"""CPU seconds of membership attacks on a released model: 64 shadow models at once, one by one, and with ART.

All variants attack the same model, trained on 500 patients of 41 features by the platform's own central training, and
train shadows of the same shape for as many epochs of the same batches. ``ours`` trains all shadows at once (their epoch
chosen like the model's); ``one_by_one`` trains them with the training that made the model; ``art`` is
adversarial-robustness-toolbox's ShadowModels with a torch classifier and its black-box attack (``pip install
adversarial-robustness-toolbox``; left out if it is not there), of which a few shadows are timed and multiplied.
The AUC is that of the attack that the shadows feed: our stacked one, and ART's gradient boosting on outputs.

    python benchmarks/attacks.py --json attacks.json
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pettoolkit.attacks.models.membership import attack, pool_of, shadows_of
from pettoolkit.attacks.models.ranked import Ranked
from pettoolkit.attacks.models.recipe import Central, Recipe
from pettoolkit.attacks.models.targets import choose
from pettoolkit.attacks.models.view import ModelView
from pettoolkit.attacks.protocol import Effort, Group, People
from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.models.dense import DenseNet
from pettoolkit.models.predictor import LEAST_STEPS, DensePredictor, TrainingSettings, lowest
from pettoolkit.models.training import Rows, to_params
from pettoolkit.records import ModelSpec

FEATURES, PATIENTS, OTHERS = 41, 500, 300
NETS = {"logistic": DenseNet(FEATURES), "mlp": DenseNet(FEATURES, (32,))}
GOALS = {"logistic": 1.0, "mlp": 15.0}
BATCH, RATE = 256, 3e-3
EPOCHS = math.ceil(LEAST_STEPS / math.ceil(PATIENTS / BATCH))
ART_SHADOWS = {"logistic": 4, "mlp": 4}

CONTRACT = Contract(
    name="benchmark",
    prevalence=0.3,
    columns=(
        *(Column(name=f"v{i}", low=-1, high=1, missing="never") for i in range(FEATURES)),
        Column(name="y", kind="binary", role="outcome"),
    ),
)


@dataclass(frozen=True)
class Task:
    """A released model with everybody around it."""

    net: DenseNet
    people: People
    view: ModelView
    effort: Effort


def group(first: int, n: int) -> Group:
    rng = np.random.default_rng(first)
    x = rng.uniform(-1, 1, (n, FEATURES))
    y = rng.random(n) < 1 / (1 + np.exp(-(2 * x[:, 0] + x[:, 1] * x[:, 2] - 0.8)))
    rows = pd.DataFrame(x, columns=[f"v{i}" for i in range(FEATURES)]).assign(y=y.astype(float))
    return Group(rows, np.arange(first, first + n, dtype=np.int64), np.array(["a"] * n))


def task_of(name: str, shadows: int) -> Task:
    net = NETS[name]
    people = People(group(0, PATIENTS), group(10_000, OTHERS), group(20_000, 100))
    recipe = Recipe(Central(EPOCHS, BATCH, RATE), net, net.init(0, CONTRACT.prevalence))
    blank = ModelView(CONTRACT, model=ModelSpec(name, 32), weights={}, recipe=recipe)
    pool = pool_of(blank, people)
    released = one(net, Rows(pool.x[:PATIENTS], pool.y[:PATIENTS]), Rows(pool.held_x, pool.held_y), "released")
    view = ModelView(CONTRACT, model=blank.model, weights={"*": released}, recipe=recipe)
    return Task(net, people, view, Effort(shadows=shadows))


def one(net: DenseNet, rows: Rows, held: Rows, label: str) -> dict[str, np.ndarray]:
    """The platform's central training of one model."""
    model = DensePredictor(net)
    candidates = model.fit(rows, TrainingSettings(EPOCHS, BATCH, RATE, CONTRACT.prevalence), 0, label)
    return model.pick(candidates, lowest(model.losses(candidates, held)))


def ours(task: Task) -> tuple[float, float]:
    pool, targets = pool_of(task.view, task.people), choose(task.people, task.effort)
    began = time.process_time()
    shadows = shadows_of(task.view, pool, targets, task.effort)
    seconds = time.process_time() - began
    scored = attack(task.view, pool, targets, shadows).released["stacked"]
    return seconds, Ranked(scored, targets.member[None], targets.patient).success


def one_by_one(task: Task) -> tuple[float, float]:
    pool, targets = pool_of(task.view, task.people), choose(task.people, task.effort)
    included = targets.inclusion(task.effort.shadows, task.effort.seed)[targets.of_row]
    held = Rows(pool.held_x, pool.held_y)
    began = time.process_time()
    for number, column in enumerate(included.T):
        rows = torch.from_numpy(column)
        model = one(task.net, Rows(pool.x[rows], pool.y[rows]), held, str(number))
        task.net.logits(to_params(model), pool.x)
    return time.process_time() - began, math.nan


def art(task: Task) -> tuple[float, float]:
    """ART's shadows and its black-box attack, from a few shadows."""
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox, ShadowModels
    from art.estimators.classification import PyTorchClassifier

    count = ART_SHADOWS[task.view.model.name]
    layers: list[torch.nn.Module] = []
    for width_in, width_out in zip(task.net.widths[:-2], task.net.widths[1:-1], strict=True):
        layers += [torch.nn.Linear(width_in, width_out), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(task.net.widths[-2], 2))
    classifier = PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        (FEATURES,),
        2,
        torch.optim.Adam(module.parameters(), lr=RATE, weight_decay=1e-4),
        device_type="cpu",
    )
    pool = pool_of(task.view, task.people)
    x, y = pool.x.numpy(), np.eye(2, dtype=np.float32)[pool.y.numpy().astype(int)]
    shadows = ShadowModels(classifier, num_shadow_models=count, random_state=0)
    for model in shadows.get_shadow_models():
        model.fit = functools.partial(model.fit, batch_size=BATCH, nb_epochs=EPOCHS)
    began = time.process_time()
    (mx, my, mp), (nx, ny, np_) = shadows.generate_shadow_dataset(x, y, member_ratio=PATIENTS / len(x))
    seconds = (time.process_time() - began) * task.effort.shadows / count
    _load(module, to_params(task.view.weights["*"]), task.net)
    black_box = MembershipInferenceBlackBox(classifier, attack_model_type="gb")
    black_box.fit(mx, my, nx, ny, mp, np_)
    score = black_box.infer(x, y, probabilities=True).reshape(-1)
    inside = np.arange(len(x)) < PATIENTS
    return seconds, Ranked(score[None].astype(float), inside[None], np.arange(len(x))).success


def _load(module: torch.nn.Sequential, params: dict[str, torch.Tensor], net: DenseNet) -> None:
    """The released model in ART's shape: two logits, the first always 0."""
    dense = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for i, layer in enumerate(dense):
            weight, bias = params[f"layer{i}.weight"], params[f"layer{i}.bias"]
            if i == net.depth - 1:
                weight, bias = torch.cat([weight * 0, weight]), torch.cat([bias * 0, bias])
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


VARIANTS = {"ours": ours, "one_by_one": one_by_one, "art": art}


def rows_of(shadows: int) -> list[dict[str, str | float]]:
    """Rows {benchmark, case, variant, metric, value, unit} for every case."""
    rows: list[dict[str, str | float]] = []
    for name in NETS:
        task = task_of(name, shadows)
        for variant, measure in VARIANTS.items():
            if variant == "art" and importlib.util.find_spec("art") is None:
                continue
            seconds, auc = measure(task)
            base = {"benchmark": "attacks", "case": f"{name}-{PATIENTS}", "variant": variant}
            rows.append({**base, "metric": "seconds", "value": seconds, "unit": "s"})
            if not math.isnan(auc):
                rows.append({**base, "metric": "auc", "value": auc, "unit": ""})
    return rows


def table(rows: list[dict[str, str | float]], shadows: int) -> str:
    """One line per case and variant, and whether the goals are met."""
    lines = [f"{'case':14s}{'variant':12s}{'CPU s':>9s}{'ratio':>8s}{'AUC':>8s}   ({shadows} shadows)"]
    values = {(str(r["case"]), str(r["variant"]), str(r["metric"])): float(r["value"]) for r in rows}
    for case, variant in dict.fromkeys((c, v) for c, v, _ in values):
        seconds, first = values[case, variant, "seconds"], values[case, "ours", "seconds"]
        auc = values.get((case, variant, "auc"), math.nan)
        said = "" if math.isnan(auc) else f"{auc:8.3f}"
        lines.append(f"{case:14s}{variant:12s}{seconds:9.2f}{seconds / first:7.1f}x{said}")
    for name, goal in GOALS.items():
        met = values[f"{name}-{PATIENTS}", "ours", "seconds"] <= goal * shadows / 64
        lines.append(f"goal: 64 shadows of {name} in {goal:g} CPU s: {'met' if met else 'missed'}")
    return "\n".join(lines)


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(asked.shadows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(table(rows, asked.shadows))


if __name__ == "__main__":
    main()
