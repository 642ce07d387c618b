"""CPU seconds of one private training step: ours, Opacus' three ways, and the same step without privacy.

Every variant does the same work on the same batch: forward, (clipped) gradient, noise, update. ``no_dp``
is a step of torch's autograd and SGD; ``plain_loop`` is the closed-form gradient without clipping and noise, the
harder yardstick for ours. CPU seconds on one thread, taken in turns, so that a busy machine favours none; the
figure is the fastest of many turns, since what else runs on the machine only ever adds time.

    python benchmarks/dp_step.py --json dp_step.json
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet
from pettoolkit.privacy.events import gaussian
from pettoolkit.privacy.gradients import as_module, engine_for
from pettoolkit.privacy.noise import Draw, SeededNoise
from pettoolkit.privacy.optimiser import Descent, DpTraining, PrivateRows, mean_gradient, private_gradient

NETS = {"logistic": DenseNet(41), "mlp": DenseNet(41, (32,))}
BATCHES = (64, 512, 2048)
SIGMA, CLIP, RATE = 2.0, 0.5, 0.1
GOAL = 1.2

Step = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """One network and one batch."""

    net: DenseNet
    x: Tensor
    y: Tensor

    @property
    def rows(self) -> int:
        """Size of the batch."""
        return len(self.y)

    def module(self) -> torch.nn.Module:
        """A fresh module at the common starting point."""
        return as_module(self.net, self.net.init(0, 0.05))


def no_dp(task: Task) -> Step:
    module = task.module()
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE)
    loss = torch.nn.BCEWithLogitsLoss()

    def step() -> None:
        optimiser.zero_grad()
        loss(module(task.x).squeeze(1), task.y).backward()
        optimiser.step()

    return step


def plain_loop(task: Task) -> Step:
    descent = Descent(task.net.init(0, 0.05), DpTraining(10**9, CLIP, RATE))

    def step() -> None:
        total = task.net.gradient_sum(descent.params, task.x, task.y)
        descent.step(mean_gradient(total, task.rows))

    return step


def ours(task: Task) -> Step:
    descent = Descent(task.net.init(0, 0.05), DpTraining(10**9, CLIP, RATE))
    rows = PrivateRows(engine_for(task.net), task.x, task.y, SeededNoise(0, "benchmark"))
    mechanism = gaussian(SIGMA, sensitivity=CLIP)

    def step() -> None:
        descent.step(private_gradient(rows, descent.params, mechanism, task.rows, Draw("training")))

    return step


def opacus_hooks(task: Task) -> Step:
    from opacus import GradSampleModule

    return _opacus(task, GradSampleModule(task.module()))


def opacus_ew(task: Task) -> Step:
    from opacus.grad_sample import GradSampleModuleExpandedWeights

    return _opacus(task, GradSampleModuleExpandedWeights(task.module()))


def opacus_ghost(task: Task) -> Step:
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    module = GradSampleModuleFastGradientClipping(task.module(), max_grad_norm=CLIP, use_ghost_clipping=True)
    optimiser = DPOptimizerFastGradientClipping(
        torch.optim.SGD(module.parameters(), lr=RATE),
        noise_multiplier=SIGMA,
        max_grad_norm=CLIP,
        expected_batch_size=task.rows,
    )
    loss = DPLossFastGradientClipping(module, optimiser, torch.nn.BCEWithLogitsLoss())

    def step() -> None:
        optimiser.zero_grad()
        # losses of shape (n,): Opacus multiplies them by n coefficients, and (n, 1) would silently become (n, n)
        loss(module(task.x).squeeze(1), task.y).backward()
        optimiser.step()

    return step


def _opacus(task: Task, module: torch.nn.Module) -> Step:
    from opacus.optimizers import DPOptimizer

    optimiser = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=RATE),
        noise_multiplier=SIGMA,
        max_grad_norm=CLIP,
        expected_batch_size=task.rows,
    )
    loss = torch.nn.BCEWithLogitsLoss()

    def step() -> None:
        optimiser.zero_grad()
        loss(module(task.x).squeeze(1), task.y).backward()
        optimiser.step()

    return step


VARIANTS: dict[str, Callable[[Task], Step]] = {
    "no_dp": no_dp,
    "plain_loop": plain_loop,
    "ours": ours,
    "opacus_hooks": opacus_hooks,
    "opacus_ew": opacus_ew,
    "opacus_ghost": opacus_ghost,
}


def measure(net: DenseNet, batch: int, turns: int, steps: int) -> dict[str, float]:
    """CPU seconds per step of each variant in its fastest turn."""
    draw = torch.Generator().manual_seed(0)
    task = Task(
        net, torch.rand(batch, net.n_features, generator=draw) * 2 - 1, torch.rand(batch, generator=draw).round()
    )
    variants = {name: make(task) for name, make in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + 1):
        for name, step in variants.items():
            began = time.process_time()
            for _ in range(steps):
                step()
            if turn:  # the first turn warms up
                seconds[name].append((time.process_time() - began) / steps)
    return {name: min(values) for name, values in seconds.items()}


def rows_of(turns: int, steps: int) -> list[dict[str, str | float]]:
    """Rows {benchmark, case, variant, metric, value, unit} for every case."""
    rows: list[dict[str, str | float]] = []
    for name, net in NETS.items():
        for batch in BATCHES:
            seconds = measure(net, batch, turns, steps)
            for variant, value in seconds.items():
                base = {"benchmark": "dp_step", "case": f"{name}-{batch}", "variant": variant}
                rows.append({**base, "metric": "seconds", "value": value, "unit": "s"})
                rows.append({**base, "metric": "ratio", "value": value / seconds["no_dp"], "unit": "x no_dp"})
    return rows


def table(rows: list[dict[str, str | float]]) -> str:
    """One line per case: microseconds without privacy, then each variant's ratio to it."""
    lines = ["case".ljust(16) + "no_dp us".rjust(10) + "".join(v.rjust(14) for v in VARIANTS if v != "no_dp")]
    values = {(r["case"], r["variant"], r["metric"]): float(r["value"]) for r in rows}
    for case in dict.fromkeys(str(r["case"]) for r in rows):
        line = case.ljust(16) + f"{1e6 * values[case, 'no_dp', 'seconds']:10.0f}"
        line += "".join(f"{values[case, v, 'ratio']:13.2f}x" for v in VARIANTS if v != "no_dp")
        lines.append(line)
    met = all(values[f"{name}-2048", "ours", "ratio"] <= GOAL for name in NETS)
    lines.append(f"goal: ours at most {GOAL} x no_dp at 2048: {'met' if met else 'missed'}")
    best = {c: min(values[c, v, "ratio"] for v in VARIANTS if v.startswith("opacus")) for c, _, _ in values}
    met = all(values[case, "ours", "ratio"] <= opacus for case, opacus in best.items())
    lines.append(f"goal: ours never slower than Opacus' best mode: {'met' if met else 'missed'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="steps per variant and turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    rows = rows_of(arguments.turns, arguments.steps)
    print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
