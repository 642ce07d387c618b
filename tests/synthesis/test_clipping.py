"""Clipped sums by one backward pass, against a gradient per patient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pettoolkit.synthesis.clipping import clipped_sum


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 3))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def losses(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (net(x) ** 2).sum(1)


def one_by_one(net: nn.Module, x: torch.Tensor, clip: float) -> dict[str, torch.Tensor]:
    """The obvious way: a backward pass for each patient."""
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for row in x:
        gradient = torch.autograd.grad(losses(net, row[None]).sum(), list(net.parameters()))
        norm = torch.sqrt(sum(((g**2).sum() for g in gradient), torch.tensor(0.0)))
        for (name, _), g in zip(net.named_parameters(), gradient, strict=True):
            total[name] += g * min(1.0, clip / float(norm))
    return total


@pytest.mark.parametrize("clip", [0.5, 20.0, 1e6])
def test_it_is_the_sum_of_each_patients_clipped_gradient(clip: float) -> None:
    net, x = network(), torch.randn(40, 5)
    slow, fast = one_by_one(net, x, clip), clipped_sum(net, lambda: losses(net, x), clip)
    assert set(fast) == set(slow)
    for name in slow:
        torch.testing.assert_close(fast[name], slow[name], rtol=1e-4, atol=1e-4)


def test_opacus_computes_the_same() -> None:
    from opacus import GradSampleModule

    net, x, clip = network(), torch.randn(30, 5), 2.0
    fast = clipped_sum(net, lambda: losses(net, x), clip)
    wrapped = GradSampleModule(net)
    losses(wrapped, x).sum().backward()
    each = {name.removeprefix("_module."): p.grad_sample for name, p in wrapped.named_parameters()}
    norms = torch.sqrt(sum((g.flatten(1) ** 2).sum(1) for g in each.values()))
    factor = torch.clamp(clip / norms, max=1.0)
    for name, samples in each.items():
        torch.testing.assert_close(fast[name], torch.tensordot(factor, samples, 1), rtol=1e-4, atol=1e-4)


def test_one_patient_more_changes_the_sum_by_at_most_the_clip() -> None:
    net, x = network(), torch.randn(20, 5)
    without = clipped_sum(net, lambda: losses(net, x), 1.5)
    with_one = clipped_sum(net, lambda: losses(net, torch.cat([x, 1e4 * torch.ones(1, 5)])), 1.5)
    distance = torch.sqrt(sum(((with_one[n] - without[n]) ** 2).sum() for n in without))
    assert float(distance) == pytest.approx(1.5, rel=1e-3)


def test_a_patient_without_finite_gradient_counts_as_nothing() -> None:
    net, x = network(), torch.randn(20, 5)
    odd = torch.cat([x, torch.full((1, 5), torch.inf)])
    without, with_one = (clipped_sum(net, lambda rows=rows: losses(net, rows), 1.5) for rows in (x, odd))  # type: ignore[misc]
    for name in without:
        torch.testing.assert_close(with_one[name], without[name])


def test_a_layer_without_a_rule_is_refused() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    with pytest.raises(TypeError, match="no rule for the parameters of BatchNorm1d"):
        clipped_sum(net, lambda: net(torch.randn(8, 5)).sum(1), 1.0)
