"""Many networks at once have the gradients of each by itself."""

from __future__ import annotations

import pytest
import torch

from pettoolkit.attacks.models.stack import Stack, keep_better
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.gradients import clipped_gradient_sum

COUNT, N = 5, 60


def setting(hidden: tuple[int, ...]) -> tuple[DenseNet, Params, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    net = DenseNet(7, hidden)
    params = {k: torch.randn(COUNT, *shape, generator=draw) for k, shape in net.shapes().items()}
    x = torch.rand(N, 7, generator=draw) * 2 - 1
    y = (torch.rand(N, generator=draw) < 0.4).float()
    weight = (torch.rand(N, COUNT, generator=draw) < 0.6).float()
    return net, params, x, y, weight


def one(params: Params, number: int) -> Params:
    return {k: v[number] for k, v in params.items()}


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_gradients_equal_those_of_each_network_on_its_own_patients(hidden: tuple[int, ...], clip: float | None) -> None:
    net, params, x, y, weight = setting(hidden)
    found = Stack(net, COUNT).gradient_sum(params, x, y, weight, clip)
    for number in range(COUNT):
        rows = weight[:, number] == 1
        mine = one(params, number)
        expected = (
            net.gradient_sum(mine, x[rows], y[rows])
            if clip is None
            else clipped_gradient_sum(net, mine, x[rows], y[rows], clip)
        )
        for name, value in expected.items():
            torch.testing.assert_close(found[name][number], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
def test_logits_and_losses_equal_those_of_each_network(hidden: tuple[int, ...]) -> None:
    net, params, x, y, _ = setting(hidden)
    stack = Stack(net, COUNT)
    for number in range(COUNT):
        mine = one(params, number)
        torch.testing.assert_close(stack.logits(params, x)[:, number], net.logits(mine, x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stack.losses(params, x, y)[number], net.loss(mine, x, y), rtol=1e-4, atol=1e-5)


def test_more_rows_than_are_worked_on_at_once_change_nothing() -> None:
    net, params, x, y, weight = setting((6,))
    copies = 40  # 2400 rows
    stack = Stack(net, COUNT)
    many = stack.gradient_sum(params, x.repeat(copies, 1), y.repeat(copies), weight.repeat(copies, 1), 0.5)
    for name, value in stack.gradient_sum(params, x, y, weight, 0.5).items():
        torch.testing.assert_close(many[name], copies * value, rtol=1e-3, atol=1e-3)


def test_each_network_keeps_its_own_best_snapshot() -> None:
    first, second = {"w": torch.zeros(2, 1)}, {"w": torch.ones(2, 1)}
    kept, best = keep_better(first, torch.tensor([0.5, 0.5]), second, torch.tensor([0.4, 0.5]))
    assert kept["w"].flatten().tolist() == [1.0, 0.0]
    assert best.tolist() == pytest.approx([0.4, 0.5])
