"""Closed-form gradients are autograd's; nets start the same for everybody."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.models.dense import DenseNet, build
from pettoolkit.records import ModelSpec

NETS = [(), (5,), (7, 3)]


def rows(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g), (torch.rand(n, generator=g) < 0.3).float()


@pytest.mark.parametrize("hidden", NETS)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_the_gradient_sum_is_autograds(hidden: tuple[int, ...], seed: int, n: int) -> None:
    net = DenseNet(6, hidden)
    x, y = rows(n, 6, seed)
    params = {k: v.clone().double().requires_grad_() for k, v in net.init(seed, 0.1).items()}
    (net.loss(params, x.double(), y.double()) * n).backward()

    ours = net.gradient_sum({k: v.detach() for k, v in params.items()}, x.double(), y.double())

    for name, value in params.items():
        torch.testing.assert_close(ours[name], value.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("hidden", NETS)
def test_a_scale_multiplies_each_patients_own_gradient(hidden: tuple[int, ...]) -> None:
    net = DenseNet(6, hidden)
    x, y = rows(9, 6, 1)
    params = net.init(1, 0.1)
    scale = torch.linspace(0, 2, 9)

    together = net.gradient_sum(params, x, y, scale=scale)
    one_by_one = [net.gradient_sum(params, x[i : i + 1], y[i : i + 1]) for i in range(9)]

    for name in params:
        expected = sum(float(scale[i]) * g[name] for i, g in enumerate(one_by_one))
        torch.testing.assert_close(together[name], expected)


def test_scaling_by_one_changes_no_bit() -> None:
    net = DenseNet(6, (4,))
    x, y = rows(33, 6, 2)
    params = net.init(2)

    plain, scaled = net.gradient_sum(params, x, y), net.gradient_sum(params, x, y, scale=torch.ones(33))

    assert all(torch.equal(plain[k], scaled[k]) for k in plain)


def test_the_first_guess_is_the_public_prevalence() -> None:
    net = build(ModelSpec("logistic"), 4)

    scores = net.scores(net.init(0, 0.05), torch.zeros(3, 4))

    assert scores.tolist() == pytest.approx([0.05] * 3)
    assert net.init(0, 0.05)["layer0.bias"].item() == pytest.approx(math.log(0.05 / 0.95))


def test_the_same_seed_gives_the_same_start_and_another_seed_another() -> None:
    net = build(ModelSpec("mlp", 8), 4)

    a, b, other = net.init(3), net.init(3), net.init(4)

    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["layer0.weight"], other["layer0.weight"])
