from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.errors import Refused
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.accounting import mechanism_for
from pettoolkit.privacy.events import gaussian
from pettoolkit.privacy.gradients import engine_for
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.noise import Draw, SeededNoise, SystemNoise
from pettoolkit.privacy.optimiser import (
    Descent,
    DpTraining,
    PrivateRows,
    answer_round,
    mean_gradient,
    pack,
    train_private,
    unpack,
)

NET = DenseNet(6, (4,))
BUDGET = Budget(3.0, 1e-5)
TRAINING = DpTraining(steps=8, clip=0.5, learning_rate=2.0)
MECHANISM = mechanism_for(3.0, 1e-5, steps=8, sensitivity=0.5)
UNBOUNDED = Budget(math.inf, 1e-5)


def rows(n: int = 60, seed: int = 0, engine: str = "auto", site: str = "north", **more) -> PrivateRows:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, NET.n_features, generator=draw)
    y = (torch.rand(n, generator=draw) < torch.sigmoid(x[:, 0])).float()
    return PrivateRows(engine_for(NET, engine), x, y, SeededNoise(seed, site, more.get("mode", "local")), **more)


def same(one: Params, two: Params) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def ledger(budget: Budget = BUDGET, site: str = "north") -> Ledger:
    return Ledger(site, "run", budget)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_no_noise_and_no_clip_is_bit_equal_to_training_without_privacy(momentum: float) -> None:
    training = DpTraining(steps=12, clip=math.inf, learning_rate=0.7, momentum=momentum)
    mine, start = rows(200), NET.init(1, 0.3)
    plain = Descent(start, training)
    for _ in range(training.steps):
        total = NET.gradient_sum(plain.params, mine.x, mine.y)
        plain.step({name: value / 200 for name, value in total.items()})

    private = train_private(
        mine, ledger(UNBOUNDED), start, gaussian(0.0, 12, sensitivity=math.inf), training, patients=200
    )

    assert same(private, plain.result())


def test_the_same_sampled_batches_without_noise_are_bit_equal_too() -> None:
    training = DpTraining(steps=6, clip=math.inf, learning_rate=0.7)
    mine, start = rows(200), NET.init(1)
    plain = Descent(start, training)
    for step in range(6):
        batch = torch.from_numpy(mine.noise.uniforms(Draw("training", step=step), 200) < 0.2)
        total = NET.gradient_sum(plain.params, mine.x[batch], mine.y[batch])
        plain.step({name: value / (200 * 0.2) for name, value in total.items()})

    mechanism = gaussian(0.0, 6, sensitivity=math.inf, q=0.2)
    private = train_private(mine, ledger(UNBOUNDED), start, mechanism, training, patients=200)

    assert same(private, plain.result())


def test_both_engines_give_the_same_model_for_the_same_noise() -> None:
    start = NET.init(1)
    ours, theirs = (
        train_private(rows(engine=e), ledger(), start, MECHANISM, TRAINING, patients=60)
        for e in ("vectorised", "opacus")
    )
    for name in start:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)


def test_training_in_one_place_spends_exactly_the_budget_once() -> None:
    book, start = ledger(), NET.init(1)
    first = train_private(rows(), book, start, MECHANISM, TRAINING, patients=60)
    again = train_private(rows(), book, start, MECHANISM, TRAINING, patients=60)
    assert same(first, again)
    assert book.epsilon() == pytest.approx(3.0)
    assert len(book.events) == 1


def test_rounds_with_noise_at_each_place_equal_training_in_one_place() -> None:
    mine, start, descent, book = rows(), NET.init(1), Descent(NET.init(1), TRAINING), ledger()
    for round_ in range(TRAINING.steps):
        noisy = answer_round(mine, book, descent.params, MECHANISM, round_)
        descent.step(mean_gradient(noisy, 60))
    assert book.epsilon() == pytest.approx(3.0)
    assert len(book.events) == TRAINING.steps
    with pytest.raises(Refused, match="beyond this run's budget"):
        answer_round(mine, book, descent.params, MECHANISM, TRAINING.steps)
    quiet = train_private(mine, ledger(UNBOUNDED), start, gaussian(0.0, 8, 0.5), TRAINING, patients=60)
    loud = descent.result()
    assert not same(quiet, loud)


def test_a_repeated_round_gets_the_same_sum_and_spends_nothing() -> None:
    mine, start, book = rows(), NET.init(1), ledger()
    one = answer_round(mine, book, start, MECHANISM, 0)
    assert same(one, answer_round(mine, book, start, MECHANISM, 0))
    assert len(book.events) == 1


def test_a_repeated_round_for_another_model_gets_other_noise() -> None:
    mine, book = rows(), ledger()
    no_signal = PrivateRows(mine.engine, mine.x[:0], mine.y[:0], mine.noise)
    one = answer_round(no_signal, book, NET.init(1), MECHANISM, 0)
    two = answer_round(no_signal, book, NET.init(2), MECHANISM, 0)
    assert not any(torch.equal(one[name], two[name]) for name in one)
    assert len(book.events) == 2


def test_shared_noise_is_smaller_by_the_root_of_the_honest_sites() -> None:
    empty = rows(0)
    local = empty.noisy_sum(NET.init(1), MECHANISM, Draw("training"))
    shared = PrivateRows(empty.engine, empty.x, empty.y, empty.noise, "shared").noisy_sum(
        NET.init(1), mechanism_for(3.0, 1e-5, 8, sensitivity=0.5, honest_sites=4), Draw("training")
    )
    for name, value in local.items():
        torch.testing.assert_close(value, 2 * shared[name])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_poisson_samples_take_whole_patients(seed: int, q: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    whose = torch.randint(0, 30, (120,), generator=draw)
    mine = rows(120, seed, patient=whose)
    _, y, patient = mine._sample(q, Draw("training", step=seed))
    for one in patient.unique():
        assert int((patient == one).sum()) == int((whose == one).sum())
    assert len(y) == len(patient)


def test_poisson_samples_have_the_stated_rate_and_differ_by_step() -> None:
    mine = rows(400)
    sizes = [len(mine._sample(0.1, Draw("training", step=i))[0]) for i in range(200)]
    assert 38 < sum(sizes) / 200 < 42
    assert len(set(sizes)) > 10  # a fixed size would be another mechanism


def test_sums_are_divided_by_the_public_count() -> None:
    mine = rows(60)
    total = mine.noisy_sum(NET.init(1), gaussian(0.0, sensitivity=0.5, q=0.5), Draw("training"))
    for name, value in mean_gradient(total, patients=60, q=0.5).items():
        torch.testing.assert_close(value, total[name] / 30)


def test_the_model_is_the_mean_of_the_last_half() -> None:
    descent = Descent({"w": torch.zeros(1)}, DpTraining(steps=4, clip=1, learning_rate=1.0))
    for _ in range(4):
        descent.step({"w": torch.tensor([-1.0])})
    assert descent.result()["w"].item() == pytest.approx(3.5)  # of 1, 2, 3, 4 the mean of 3 and 4


def test_the_starting_point_is_left_alone() -> None:
    start = NET.init(1)
    before = {k: v.clone() for k, v in start.items()}
    train_private(rows(), ledger(), start, MECHANISM, TRAINING, patients=60)
    assert same(start, before)


def test_a_model_that_is_not_finite_is_refused_before_anything_is_spent() -> None:
    book, broken = ledger(), NET.init(1)
    broken["layer0.weight"][0, 0] = math.nan
    with pytest.raises(Refused, match="not finite"):
        answer_round(rows(), book, broken, MECHANISM, 0)
    assert book.events == ()


def test_training_that_does_not_fit_its_noise_is_refused() -> None:
    for training in (DpTraining(9, 0.5, 1.0), DpTraining(8, 0.6, 1.0)):
        with pytest.raises(Refused, match="noise was calibrated for"):
            train_private(rows(), ledger(), NET.init(1), MECHANISM, training, patients=60)


def test_system_noise_trains_as_well_and_never_twice_alike() -> None:
    mine = rows()
    free = PrivateRows(mine.engine, mine.x, mine.y, SystemNoise())
    one, two = (train_private(free, ledger(), NET.init(1), MECHANISM, TRAINING, patients=60) for _ in range(2))
    assert not same(one, two)


def test_packing_is_exact() -> None:
    params = NET.init(3)
    assert same(unpack(pack(params)), params)
