"""Shadows are trained as the models that they stand for: each way of training against the platform's own code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pettoolkit.arms.rounds import FEDADAM, ServerState, server_step
from pettoolkit.attacks.models.recipe import Central, Newton, Noisy, Pool, Recipe, Rounds, Single
from pettoolkit.attacks.models.shadows import shadow_logits, train_shadows
from pettoolkit.attacks.protocol import Effort, TooCostly
from pettoolkit.encryption.matrix import linear_sums, logistic_sums, newton_step
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.models.predictor import DensePredictor, TrainingSettings, lowest
from pettoolkit.models.training import Rows, to_arrays, to_params, validation_losses
from pettoolkit.privacy.events import gaussian
from pettoolkit.privacy.gradients import engine_for
from pettoolkit.privacy.noise import SeededNoise
from pettoolkit.privacy.optimiser import Descent, DpTraining, Draw, PrivateRows, private_gradient

N, D = 240, 6
NETS = [DenseNet(D), DenseNet(D, (5,))]


@pytest.fixture
def pool() -> Pool:
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(N + 80, D, generator=draw) * 2 - 1
    y = (torch.rand(N + 80, generator=draw) < torch.sigmoid(3 * x[:, 0] - 1)).float()
    site = torch.arange(N + 80) % 3
    return Pool(x[:N], y[:N], site[:N], x[N:], y[N:], site[N:], ("a", "b", "c"))


def everybody(shadows: int = 2) -> np.ndarray:
    """The first shadow has everybody, the others a part."""
    included = np.random.default_rng(4).random((N, shadows)) < 0.6
    included[:, 0] = True
    return included


def trained(how: object, net: DenseNet, pool: Pool, included: np.ndarray, *, by_site: bool = False) -> list[Params]:
    recipe = Recipe(how, net, net.init(3, 0.3), by_site)  # type: ignore[arg-type]
    out: list[Params] = []
    for columns, params in train_shadows(recipe, pool, included, seed=5):
        out += [{k: v[i] for k, v in params.items()} for i in range(columns.stop - columns.start)]
    return out


def same(found: Params, expected: Params, tolerance: float = 1e-4) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("net", NETS, ids=["logistic", "mlp"])
def test_fedsgd_equals_the_arms_own_rounds(net: DenseNet, pool: Pool) -> None:
    how = Rounds("fedsgd", 12, 1, 64, 0.5, momentum=0.9)
    included = everybody()
    for number, found in enumerate(trained(how, net, pool, included)):
        rows = torch.from_numpy(included[:, number])
        x, y = pool.x[rows], pool.y[rows]
        state = ServerState.begin(to_arrays(net.init(3, 0.3)))
        models = []
        for turn in range(12):
            gradient = net.gradient_sum(to_params(state.model), x, y)
            mean = {k: (v / len(x)).numpy() for k, v in gradient.items()}
            state = server_step(state, mean, {"strategy": "fedsgd", "momentum": 0.9, "learning_rate": 0.5}, turn + 1)
            models.append(to_params(state.model))
        same(found, models[lowest(validation_losses(net, models, Rows(pool.held_x, pool.held_y)))])


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_full_local_batches_equal_the_arms_own_rounds(strategy: str, pool: Pool) -> None:
    # with one batch per hospital and epoch the order of rows plays no part, so that all is deterministic
    net = NETS[1]
    how = Rounds(strategy, 6, 2, 10**6, 0.3, proximal_mu=0.1 if strategy == "fedprox" else 0.0, server=FEDADAM)
    included = everybody()
    for number, found in enumerate(trained(how, net, pool, included)):
        rows = torch.from_numpy(included[:, number])
        state, models = ServerState.begin(to_arrays(net.init(3, 0.3))), []
        for turn in range(6):
            mean = {k: np.zeros_like(v) for k, v in state.model.items()}
            for site in range(3):
                here = rows & (pool.site == site)
                start = to_params(state.model)
                local = dict(start)
                for _ in range(2):
                    gradient = net.gradient_sum(local, pool.x[here], pool.y[here])
                    local = {
                        k: v - 0.3 * (gradient[k] / int(here.sum()) + how.proximal_mu * (v - start[k]))
                        for k, v in local.items()
                    }
                for k, v in local.items():
                    mean[k] = mean[k] + v.numpy() * float(here.sum() / rows.sum())
            state = server_step(state, mean, {"strategy": strategy}, turn + 1)
            models.append(to_params(state.model))
        same(found, models[lowest(validation_losses(net, models, Rows(pool.held_x, pool.held_y)))], 1e-3)


@pytest.mark.parametrize("net", NETS, ids=["logistic", "mlp"])
def test_central_training_in_full_batches_equals_the_platforms_own(net: DenseNet, pool: Pool) -> None:
    found = trained(Central(30, 10**6, 0.02), net, pool, everybody())[0]
    same(found, own_central(net, pool, 30, 10**6), 1e-3)


@pytest.mark.parametrize("net", NETS, ids=["logistic", "mlp"])
def test_central_training_in_batches_differs_no_more_than_another_order_does(net: DenseNet, pool: Pool) -> None:
    found = net.logits(trained(Central(60, 40, 0.02), net, pool, everybody())[0], pool.x)
    own = [net.logits(own_central(net, pool, 60, 40, order), pool.x) for order in ("1", "2", "3")]
    apart = float((own[0] - own[1]).abs().mean())
    nearest = min(float((found - each).abs().mean()) for each in own)
    assert nearest < 2 * apart + 0.02


def own_central(net: DenseNet, pool: Pool, epochs: int, batch: int, order: str = "1") -> Params:
    """The platform's own training on everybody, its epoch chosen on the same rows as the shadows'."""
    model, held = DensePredictor(net), Rows(pool.held_x, pool.held_y)
    candidates = model.fit(Rows(pool.x, pool.y), TrainingSettings(epochs, batch, 0.02, 0.3), 3, order)
    return to_params(model.pick(candidates, lowest(model.losses(candidates, held))))


def test_steps_without_noise_equal_private_training(pool: Pool) -> None:
    net = NETS[1]
    training = DpTraining(steps=20, clip=0.3, learning_rate=2.0)
    how = Noisy(20, 0.3, 2.0, 0.0, 0.5, sd=0.0)
    included = everybody()
    for number, found in enumerate(trained(how, net, pool, included)):
        mask = torch.from_numpy(included[:, number])
        rows = PrivateRows(engine_for(net), pool.x[mask], pool.y[mask], SeededNoise(0, "a"))
        descent = Descent(net.init(3, 0.3), training)
        for step in range(20):
            mechanism = gaussian(0.0, 20, 0.3)
            descent.step(private_gradient(rows, descent.params, mechanism, int(mask.sum()), Draw("t", step=step)))
        same(found, descent.result())


def test_noise_has_the_size_it_says(pool: Pool) -> None:
    # one step, nobody included: the model is the start plus noise of SD sd x rate / 1 patient
    how = Noisy(1, 0.3, 2.0, 0.0, 1.0, sd=4.0)
    net = DenseNet(D)
    models = trained(how, net, pool, np.zeros((N, 400), dtype=bool))
    moved = torch.cat([(m["layer0.weight"] - net.init(3, 0.3)["layer0.weight"]).flatten() for m in models])
    assert float(moved.std()) == pytest.approx(8.0, rel=0.08)  # 2400 draws: standard error 1.4 %


def test_poisson_batches_take_their_share(pool: Pool) -> None:
    how = Noisy(1, 1e6, 1.0, 0.0, 1.0, sd=0.0, q=0.25)
    net = DenseNet(D)
    found = trained(how, net, pool, np.ones((N, 200), dtype=bool))
    full = trained(Noisy(1, 1e6, 1.0, 0.0, 1.0, sd=0.0), net, pool, np.ones((N, 1), dtype=bool))[0]
    mean = torch.stack([m["layer0.weight"] for m in found]).mean(0)
    torch.testing.assert_close(mean, full["layer0.weight"], atol=0.02, rtol=0.1)
    assert float(torch.stack([m["layer0.weight"] for m in found]).std()) > 0


@pytest.mark.parametrize("method", ["newton", "one_shot"])
def test_newton_equals_the_encrypted_arms_steps(method: str, pool: Pool) -> None:
    net, included = DenseNet(D), everybody()
    ridge = np.full(D + 1, 2.0)
    ridge[0] = 0.0
    for number, found in enumerate(trained(Newton(method, 2.0, 5), net, pool, included)):
        mask = included[:, number]
        x = np.hstack([np.ones((mask.sum(), 1)), pool.x.numpy()[mask]]).astype(float)
        y = pool.y.numpy()[mask].astype(float)
        if method == "newton":
            weights = np.concatenate([net.init(3, 0.3)["layer0.bias"].numpy(), np.zeros(D)])
            for _ in range(5):
                weights = newton_step(logistic_sums(x, y, weights), weights, ridge)
        else:
            from pettoolkit.arms.encrypted_statistics.fit import linked

            weights = linked(newton_step(linear_sums(x, y), np.zeros(D + 1), ridge), float(y.mean()))
        np.testing.assert_allclose(found["layer0.weight"][0].numpy(), weights[1:], rtol=1e-3, atol=1e-4)
        assert float(found["layer0.bias"][0]) == pytest.approx(weights[0], rel=1e-3)


def test_hospitals_that_train_alone_have_shadows_of_their_own(pool: Pool) -> None:
    net, included = DenseNet(D), everybody(3)
    recipe = Recipe(Newton("newton", 2.0, 5), net, net.init(3, 0.3), by_site=True)
    together, _ = shadow_logits(recipe, pool, included, Effort())
    for site in range(3):
        rows = (pool.site == site).numpy()
        alone, _ = shadow_logits(Recipe(recipe.how, net, recipe.start), pool.only(site), included[rows], Effort())
        np.testing.assert_allclose(together[:, rows], alone, rtol=1e-5)


def test_what_takes_too_long_is_not_run(pool: Pool) -> None:
    def slow(pool: Pool, included: np.ndarray, number: int) -> object:
        total = 0.0
        for i in range(300_000):  # some hundredths of a second
            total += math.sqrt(i)
        return lambda x: np.full(len(x), total)

    recipe = Recipe(Single(slow), None, {})  # type: ignore[arg-type]
    with pytest.raises(TooCostly, match="one shadow takes"):
        shadow_logits(recipe, pool, everybody(), Effort(seconds=1e-3))
    logits, held = shadow_logits(recipe, pool, everybody(), Effort(seconds=600))
    assert (logits.shape, held.shape) == ((2, N), (2, 80))
