from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.errors import BadInput
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy import gradients
from pettoolkit.privacy.gradients import (
    OpacusGradients,
    VectorisedGradients,
    as_module,
    clipped_gradient_sum,
    engine_for,
)

NETS = st.sampled_from([DenseNet(1), DenseNet(6), DenseNet(5, (4,)), DenseNet(3, (7, 2))])


def problem(net: DenseNet, n: int, seed: int) -> tuple[Params, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    params = {k: 0.5 * torch.randn(s, generator=draw) for k, s in net.shapes().items()}
    x = torch.randn(n, net.n_features, generator=draw)
    return params, x, (torch.rand(n, generator=draw) < 0.3).float()


def norm(gradient: Params) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))


def one_at_a_time(net: DenseNet, params: Params, x: torch.Tensor, y: torch.Tensor, clip: float) -> Params:
    """The obvious way: autograd on each patient alone."""
    total = {k: torch.zeros(s) for k, s in net.shapes().items()}
    for i in range(len(x)):
        leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
        net.loss(leaves, x[i : i + 1], y[i : i + 1]).backward()
        size = norm({k: v.grad for k, v in leaves.items()})
        for k, v in leaves.items():
            total[k] += v.grad * min(1.0, clip / size)
    return total


def close(ours: Params, reference: Params, tolerance: float) -> None:
    assert set(ours) == set(reference)
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, atol=tolerance, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(NETS, st.integers(0, 12), st.floats(0.01, 10), st.integers(0, 2**31))
def test_vectorised_clipping_equals_each_patient_alone(net: DenseNet, n: int, clip: float, seed: int) -> None:
    params, x, y = problem(net, n, seed)
    close(clipped_gradient_sum(net, params, x, y, clip), one_at_a_time(net, params, x, y, clip), 1e-4)


@settings(max_examples=40, deadline=None)
@given(NETS, st.integers(0, 12), st.floats(0.01, 10), st.integers(0, 2**31))
def test_vectorised_and_opacus_agree(net: DenseNet, n: int, clip: float, seed: int) -> None:
    params, x, y = problem(net, n, seed)
    ours = engine_for(net, "auto").clipped_sum(params, x, y, clip)
    theirs = engine_for(net, "opacus").clipped_sum(params, x, y, clip)
    for name, value in theirs.gradient.items():
        torch.testing.assert_close(ours.gradient[name], value, atol=1e-6 * max(1, n), rtol=1e-6)
    assert (ours.patients, ours.unusable) == (theirs.patients, theirs.unusable)


@settings(max_examples=30, deadline=None)
@given(NETS, st.integers(1, 8), st.integers(0, 2**31))
def test_each_gradient_equals_opacus_to_1e_6(net: DenseNet, n: int, seed: int) -> None:
    params, x, y = problem(net, n, seed)
    reference = OpacusGradients(as_module(net, params)).per_patient(params, x, y)
    for i in range(n):
        ours = clipped_gradient_sum(net, params, x[i : i + 1], y[i : i + 1], math.inf)
        for name, value in ours.items():
            torch.testing.assert_close(value, reference[name][i], atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(NETS, st.integers(1, 20), st.integers(1, 6), st.floats(0.05, 5), st.integers(0, 2**31))
def test_a_patients_rows_are_summed_before_clipping(
    net: DenseNet, n: int, patients: int, clip: float, seed: int
) -> None:
    params, x, y = problem(net, n, seed)
    whose = torch.randint(0, patients, (n,), generator=torch.Generator().manual_seed(seed))
    total = {k: torch.zeros(s) for k, s in net.shapes().items()}
    for patient in whose.unique():
        summed = net.gradient_sum(params, x[whose == patient], y[whose == patient])
        for k, v in summed.items():
            total[k] += v * min(1.0, clip / norm(summed))
    for engine in ("vectorised", "opacus"):
        close(engine_for(net, engine).clipped_sum(params, x, y, clip, whose).gradient, total, 2e-4)


def test_patients_are_kept_whole_where_gradients_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    net = DenseNet(5, (4,))
    params, x, y = problem(net, 60, 1)
    whose = torch.randint(0, 9, (60,), generator=torch.Generator().manual_seed(2))
    at_once = VectorisedGradients(net).clipped_sum(params, x, y, 0.7, whose)
    monkeypatch.setattr(gradients, "CHUNK_NUMBERS", 200)

    in_chunks = VectorisedGradients(net).clipped_sum(params, x, y, 0.7, whose)

    close(in_chunks.gradient, at_once.gradient, 1e-5)
    assert in_chunks.patients == at_once.patients == 9


@pytest.mark.parametrize("engine", ["vectorised", "opacus"])
@pytest.mark.parametrize("row", [math.nan, math.inf, -math.inf, 3e38, 1e30, 1e12, 1e4])
def test_no_hostile_row_contributes_more_than_the_clip(engine: str, row: float) -> None:
    net = DenseNet(5, (4,))
    params, x, y = problem(net, 8, 3)
    x[2], y[2] = row, 1.0
    clip = 0.25
    with_row = engine_for(net, engine).clipped_sum(params, x, y, clip)
    alone = engine_for(net, engine).clipped_sum(params, x[2:3], y[2:3], clip)
    others = torch.arange(8) != 2
    without = engine_for(net, engine).clipped_sum(params, x[others], y[others], clip)

    assert norm(alone.gradient) <= clip
    change = {k: with_row.gradient[k] - without.gradient[k] for k in without.gradient}
    assert norm(change) <= clip * (1 + 1e-5)
    assert with_row.unusable == (0 if abs(row) <= 1e12 else 1)


@settings(max_examples=50, deadline=None)
@given(NETS, st.integers(0, 2**31), st.floats(-4, 12))
def test_one_patient_never_exceeds_the_clip(net: DenseNet, seed: int, magnitude: float) -> None:
    params, x, y = problem(net, 1, seed)
    assert norm(clipped_gradient_sum(net, params, x * 10**magnitude, y, 0.3)) <= 0.3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 7))
def test_rows_that_cancel_within_a_patient_never_exceed_the_clip(seed: int, magnitude: float) -> None:
    net = DenseNet(6)
    params, x, _ = problem(net, 1, seed)
    x = torch.cat([x, x + 1e-3]) * 10**magnitude
    got = clipped_gradient_sum(net, params, x, torch.tensor([0.0, 1.0]), 0.3, torch.tensor([7, 7]))
    assert norm(got) <= 0.3


def test_a_patient_with_one_unusable_row_contributes_nothing() -> None:
    net = DenseNet(5)
    params, x, y = problem(net, 6, 4)
    x[1, 3] = math.nan
    whose = torch.tensor([0, 0, 1, 1, 2, 2])
    got = VectorisedGradients(net).clipped_sum(params, x, y, 1.0, whose)
    close(got.gradient, clipped_gradient_sum(net, params, x[2:], y[2:], 1.0, whose[2:]), 1e-6)
    assert got.unusable == 1


@pytest.mark.parametrize("engine", ["vectorised", "opacus"])
def test_an_empty_batch_sums_to_zero(engine: str) -> None:
    net = DenseNet(5, (4,))
    params, x, y = problem(net, 0, 0)
    for whose in (None, torch.zeros(0, dtype=torch.int64)):
        got = engine_for(net, engine).clipped_sum(params, x, y, 1.0, whose)
        assert norm(got.gradient) == 0
        assert got.patients == 0
        assert {k: v.shape for k, v in got.gradient.items()} == {k: torch.Size(s) for k, s in net.shapes().items()}


@pytest.mark.parametrize("net", [DenseNet(41), DenseNet(41, (32,))])
def test_an_infinite_clip_is_bit_equal_to_the_plain_gradient(net: DenseNet) -> None:
    params, x, y = problem(net, 500, 5)
    plain = net.gradient_sum(params, x, y)
    for name, value in clipped_gradient_sum(net, params, x, y, math.inf).items():
        assert torch.equal(value, plain[name])


def test_the_module_is_the_same_network() -> None:
    net = DenseNet(5, (4,))
    params, x, _ = problem(net, 9, 6)
    torch.testing.assert_close(as_module(net, params)(x).squeeze(1), net.logits(params, x))


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_a_clip_that_is_not_positive_is_refused(clip: float) -> None:
    net = DenseNet(2)
    with pytest.raises(BadInput, match="greater than 0"):
        clipped_gradient_sum(net, *problem(net, 2, 0), clip)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BadInput, match="auto, vectorised or opacus"):
        engine_for(DenseNet(2), "fast")


def test_rows_that_change_in_place_are_seen() -> None:
    net = DenseNet(5)
    params, x, y = problem(net, 4, 8)
    engine = VectorisedGradients(net)
    engine.clipped_sum(params, x, y, 0.3)
    x *= 100
    close(engine.clipped_sum(params, x, y, 0.3).gradient, clipped_gradient_sum(net, params, x, y, 0.3), 0)
