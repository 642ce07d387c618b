"""Shadow models: trained as the released model was, each on a random part of members and control patients.

The same steps, batches, clipping and noise; only who is in the training rows differs. Where validation patients chose
the released model's epoch or round, they choose the shadow's (the attacker's own patients, where they are not known).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.attacks.models.recipe import Central, Newton, Noisy, Pool, Recipe, Rounds, Single
from pettoolkit.attacks.models.stack import Stack, keep_better, per_network
from pettoolkit.attacks.protocol import Effort, TooCostly
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.models.predictor import FIXED_STEPS, LEAST_STEPS, SNAPSHOTS
from pettoolkit.models.seeding import derived_seed, torch_generator
from pettoolkit.models.training import AdamSettings

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOGETHER = {"linear": 64, "hidden": 16}
"""Networks trained side by side: as many as keep their hidden layers in the processor's cache."""

TOO_LONG = 2.0
"""Seconds that one shadow may take."""


def shadow_logits(recipe: Recipe, pool: Pool, included: Bools, effort: Effort) -> tuple[Floats, Floats]:
    """Train the shadows and score everybody.

    Parameters
    ----------
    included
        Which rows of the pool are in which shadow, (n, shadows).

    Returns
    -------
    logits, others
        (shadows, n) of the pool's rows and (shadows, m) of the attacker's; where hospitals train by themselves, each
        row's are those of its own hospital's shadow.

    Raises
    ------
    TooCostly
        If a shadow takes longer than :data:`TOO_LONG`, or all of them longer than the effort allows.
    """
    out = np.zeros((included.shape[1], len(pool.x)))
    _, _, place = pool.population
    others = np.zeros((included.shape[1], len(place)))
    for number in pool.sites if recipe.by_site else [None]:
        part, rows, mine = pool, np.ones(len(pool.x), dtype=bool), np.ones(len(place), dtype=bool)
        if number is not None:
            part, rows, mine = pool.only(number), (pool.site == number).numpy(), (place == number).numpy()
        seed = derived_seed(effort.seed, "shadows", -1 if number is None else number)
        for columns, score in _scorers(recipe, part, included[rows], seed, effort):
            out[columns, rows] = score(part.x)
            if mine.any():
                others[columns, mine] = score(part.population[0])
    return out, others


Scorer = Callable[[Tensor], Floats]


def _scorers(recipe: Recipe, pool: Pool, included: Bools, seed: int, effort: Effort) -> Iterator[tuple[slice, Scorer]]:
    """Blocks of shadows, each with a function from rows to logits (shadows of the block, rows)."""
    if isinstance(recipe.how, Single):
        yield from _one_by_one(recipe.how, pool, included, effort)
        return
    for columns, params in train_shadows(recipe, pool, included, seed):
        assert recipe.net is not None
        stack = Stack(recipe.net, columns.stop - columns.start)
        yield columns, _scorer(stack, params)


def _scorer(stack: Stack, params: Params) -> Scorer:
    return lambda x: stack.logits(params, x).T.numpy().astype(np.float64)


def _one_by_one(how: Single, pool: Pool, included: Bools, effort: Effort) -> Iterator[tuple[slice, Scorer]]:
    shadows = included.shape[1]
    for number in range(shadows):
        began = time.perf_counter()
        trained = how.train(pool, included[:, number], number)
        took = time.perf_counter() - began
        if number == 0 and took > min(TOO_LONG, effort.seconds / shadows):
            raise TooCostly(
                f"one shadow takes {took:.1f} s; {shadows} of them may take {effort.seconds:.0f} s in all, and one of "
                f"them {TOO_LONG:.0f} s"
            )
        yield slice(number, number + 1), _single_scorer(trained)


def _single_scorer(trained: Callable[[Tensor], Floats]) -> Scorer:
    return lambda x: trained(x)[None, :]


def train_shadows(recipe: Recipe, pool: Pool, included: Bools, seed: int) -> Iterator[tuple[slice, Params]]:
    """Train one shadow per column of ``included``, shape (n, shadows), in blocks.

    Yields
    ------
    columns, params
        Which shadows, and their parameters with a leading axis.
    """
    assert recipe.net is not None
    weight = torch.from_numpy(included.astype(np.float32))
    block = TOGETHER["hidden" if recipe.net.hidden else "linear"]
    for first in range(0, included.shape[1], block):
        columns = slice(first, min(first + block, included.shape[1]))
        counts = weight[:, columns].contiguous()
        generator = torch_generator(seed, "shadows", first)
        yield columns, _train(recipe, pool, counts, generator)


def _train(recipe: Recipe, pool: Pool, weight: Tensor, generator: torch.Generator) -> Params:
    assert recipe.net is not None
    stack = Stack(recipe.net, weight.shape[1])
    start = stack.repeat(recipe.start)
    match recipe.how:
        case Central() as how:
            return central(how, stack, start, pool, weight, generator)
        case Rounds() as how:
            return rounds(how, stack, start, pool, weight, generator)
        case Noisy() as how:
            return noisy(how, stack, start, pool, weight, generator)
        case Newton() as how:
            return newton(how, stack, start, pool, weight)
    raise TypeError(f"no batched training for {type(recipe.how).__name__}")


def central(
    how: Central, stack: Stack, params: Params, pool: Pool, weight: Tensor, generator: torch.Generator
) -> Params:
    """Mini-batch Adam (:func:`pettoolkit.models.training.adam`); batches have ``batch_size`` patients on average."""
    expected = float(weight.sum(0).mean())
    steps_per_epoch = max(1, math.ceil(expected / how.batch_size))
    epochs = _epochs(how, stack.net, steps_per_epoch)
    keep_every = math.ceil(epochs / SNAPSHOTS)
    settings = AdamSettings()
    first, second = ({k: torch.zeros_like(v) for k, v in params.items()} for _ in range(2))
    kept, best = params, torch.full((stack.count,), math.inf)
    step = 0
    for epoch in range(1, epochs + 1):
        for batch in torch.chunk(torch.randperm(len(pool.x), generator=generator), steps_per_epoch):
            counts = weight[batch]
            gradient = stack.gradient_sum(params, pool.x[batch], pool.y[batch], counts)
            size = counts.sum(0).clamp_min(1.0)
            step += 1
            for name, value in params.items():
                g = gradient[name].div_(per_network(size, value)).add_(value, alpha=settings.weight_decay)
                first[name].mul_(0.9).add_(g, alpha=0.1)
                second[name].mul_(0.999).addcmul_(g, g, value=0.001)
                unbiased = (second[name] / (1 - 0.999**step)).sqrt_().add_(1e-8)
                params[name] = value - how.learning_rate * (first[name] / (1 - 0.9**step)) / unbiased
        if not how.fixed and (epoch % keep_every == 0 or epoch == epochs):
            kept, best = keep_better(kept, best, params, stack.losses(params, pool.held_x, pool.held_y))
    return params if how.fixed else kept


def rounds(how: Rounds, stack: Stack, params: Params, pool: Pool, weight: Tensor, generator: torch.Generator) -> Params:
    """FedAvg, FedProx, FedAdam or FedSGD; hospitals weigh as many patients as they have in that shadow."""
    places = [pool.of_site(number) for number in pool.sites]
    sizes = [weight[rows].sum(0) for rows in places]
    total = torch.stack(sizes).sum(0).clamp_min(1.0)
    first, second = ({k: torch.zeros_like(v) for k, v in params.items()} for _ in range(2))
    kept, best = params, torch.full((stack.count,), math.inf)
    for number in range(1, how.rounds + 1):
        if how.strategy == "fedsgd":
            gradient = stack.gradient_sum(params, pool.x, pool.y, weight)
            mean = {k: v / per_network(total, v) for k, v in gradient.items()}
        else:
            mean = {k: torch.zeros_like(v) for k, v in params.items()}
            for rows, size in zip(places, sizes, strict=True):
                local = _local(how, stack, params, pool, rows, weight, generator)
                for name, value in local.items():
                    mean[name] += value * per_network(size / total, value)
        params = _server_step(how, params, mean, first, second, number)
        kept, best = keep_better(kept, best, params, stack.losses(params, pool.held_x, pool.held_y))
    return kept


def noisy(how: Noisy, stack: Stack, params: Params, pool: Pool, weight: Tensor, generator: torch.Generator) -> Params:
    """Noisy descent as in :class:`pettoolkit.privacy.optimiser.Descent`; each shadow draws noise of its own."""
    places = [pool.of_site(number) for number in pool.sites] if how.local_steps else []
    patients = weight.sum(0).clamp_min(1.0)
    velocity = {k: torch.zeros_like(v) for k, v in params.items()}
    average = {k: torch.zeros_like(v) for k, v in params.items()}
    averaged, turns = 0, how.steps // max(1, how.local_steps)
    for turn in range(1, turns + 1):
        if how.local_steps:
            params = _noisy_locals(how, stack, params, pool, places, weight, generator)
        else:
            gradient = _noisy_mean(how, stack, params, pool.x, pool.y, weight, patients, generator)
            for name, value in params.items():
                velocity[name] = how.momentum * velocity[name] + gradient[name]
                params[name] = value - how.learning_rate * velocity[name]
        if turn > how.average_from * turns:
            averaged += 1
            for name, value in params.items():
                average[name] += value
    return {k: v / averaged for k, v in average.items()} if averaged else params


def newton(how: Newton, stack: Stack, params: Params, pool: Pool, weight: Tensor) -> Params:
    """Newton's method with a ridge as in :func:`pettoolkit.encryption.matrix.newton_step`, in float64."""
    x = torch.cat([torch.ones(len(pool.x), 1), pool.x], dim=1).double()
    y, counts = pool.y.double().unsqueeze(1), weight.double()
    ridge = torch.full((x.shape[1],), how.ridge, dtype=torch.float64)
    ridge[0] = 0.0
    w = torch.cat([params["layer0.bias"], params["layer0.weight"][:, 0]], dim=1).double()
    if how.method == "one_shot":
        w = torch.zeros_like(w)
    for _ in range(how.rounds if how.method == "newton" else 1):
        p = torch.sigmoid(x @ w.T) if how.method == "newton" else x @ w.T
        curvature = p * (1 - p) * counts if how.method == "newton" else counts
        moment = ((y - p) * counts).T @ x if how.method == "newton" else (y * counts).T @ x
        hessian = torch.stack([(x * c.unsqueeze(1)).T @ x for c in curvature.T]) + torch.diag(ridge)
        w = w + torch.linalg.solve(hessian, moment - ridge * w)
    if how.method == "one_shot":
        w = _linked(w, (y * counts).sum(0) / counts.sum(0).clamp_min(1.0))
    w = w.float()
    return {"layer0.weight": w[:, 1:].unsqueeze(1), "layer0.bias": w[:, :1]}


def _epochs(how: Central, net: DenseNet, steps_per_epoch: int) -> int:
    if how.fixed:
        return math.ceil(FIXED_STEPS["hidden" if net.hidden else "linear"] / steps_per_epoch)
    return how.epochs or max(math.ceil(LEAST_STEPS / steps_per_epoch), AdamSettings().epochs)


def _local(
    how: Rounds, stack: Stack, start: Params, pool: Pool, rows: Tensor, weight: Tensor, generator: torch.Generator
) -> Params:
    """One hospital's local steps; see :func:`pettoolkit.models.training.sgd_epochs`."""
    params = dict(start)
    chunks = max(1, math.ceil(float(weight[rows].sum(0).mean()) / how.batch_size))
    for _ in range(how.local_epochs):
        for batch in torch.chunk(rows[torch.randperm(len(rows), generator=generator)], chunks):
            counts = weight[batch]
            gradient = stack.gradient_sum(params, pool.x[batch], pool.y[batch], counts)
            size = counts.sum(0).clamp_min(1.0)
            for name, value in params.items():
                step = gradient[name] / per_network(size, value)
                if how.proximal_mu:
                    step = step + how.proximal_mu * (value - start[name])
                params[name] = value - how.learning_rate * step
    return params


def _server_step(how: Rounds, params: Params, mean: Params, first: Params, second: Params, number: int) -> Params:
    """From the hospitals' mean to the next model; ``first`` and ``second`` are the server's memory, changed here."""
    out: Params = {}
    for name, value in params.items():
        if how.strategy == "fedsgd":
            first[name] = how.momentum * first[name] + mean[name]
            out[name] = value - how.learning_rate * first[name]
        elif how.strategy == "fedadam":
            b1, b2, s = how.server["beta_1"], how.server["beta_2"], how.server
            change = mean[name] - value
            first[name] = b1 * first[name] + (1 - b1) * change
            second[name] = b2 * second[name] + (1 - b2) * change**2
            rate = s["eta"] * math.sqrt(1 - b2 ** (number + 1.0)) / (1 - b1 ** (number + 1.0))
            out[name] = value + rate * first[name] / (second[name].sqrt() + s["tau"])
        else:
            out[name] = mean[name]
    return out


def _noisy_mean(
    how: Noisy,
    stack: Stack,
    params: Params,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    patients: Tensor,
    generator: torch.Generator,
) -> Params:
    sampled = weight if how.q == 1 else weight * (torch.rand(weight.shape, generator=generator) < how.q)
    total = stack.gradient_sum(params, x, y, sampled, how.clip)
    return {
        k: (v + how.sd * torch.randn(v.shape, generator=generator)) / per_network(patients * how.q, v)
        for k, v in total.items()
    }


def _noisy_locals(
    how: Noisy,
    stack: Stack,
    start: Params,
    pool: Pool,
    places: list[Tensor],
    weight: Tensor,
    generator: torch.Generator,
) -> Params:
    mean = {k: torch.zeros_like(v) for k, v in start.items()}
    total = weight.sum(0).clamp_min(1.0)
    for rows in places:
        x, y, counts = pool.x[rows], pool.y[rows], weight[rows]
        size, params = counts.sum(0).clamp_min(1.0), dict(start)
        for _ in range(how.local_steps):
            gradient = _noisy_mean(how, stack, params, x, y, counts, size, generator)
            params = {k: v - how.learning_rate * gradient[k] for k, v in params.items()}
        for name, value in params.items():
            mean[name] += value * per_network(counts.sum(0) / total, value)
    return mean


def _linked(beta: Tensor, mean: Tensor) -> Tensor:
    """Weights of the logistic model that stands for linear regression, by the logit's expansion at the mean outcome."""
    m = mean.clamp(1e-3, 1 - 1e-3).unsqueeze(1)
    weights = beta / (m * (1 - m))
    weights[:, :1] = torch.log(m / (1 - m)) + (beta[:, :1] - m) / (m * (1 - m))
    return weights
