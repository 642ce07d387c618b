"""Streamed averages: bit for bit Flower's, and no larger for more hospitals."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from pettoolkit.arms.app import build_app, coordinate
from pettoolkit.arms.federated import outside
from pettoolkit.arms.federated.streaming import StreamedAvg, WeightedSum
from pettoolkit.errors import SiteFailed
from pettoolkit.federation import flower, wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import DpSpec
from tests import small_cohort as small
from tests.arms.faults import FAULTS, VICTIM, FaultyGrid
from tests.arms.test_faults import grid_with, spec_of, undisturbed, weights


def updates(sites: int, size: int = 50) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    rng = np.random.default_rng(5)
    for _ in range(sites):
        yield {"w": rng.normal(size=(size, 3)).astype(np.float32), "b": rng.normal(size=3)}, int(rng.integers(1, 999))


def test_the_streamed_mean_is_flowers_bit_for_bit() -> None:
    told = list(updates(40))
    replies = [
        wire.reply(site="a", kind="update", purpose="training", arrays=arrays, metrics={"num-examples": n})
        for arrays, n in told
    ]
    wanted = wire.from_record(aggregate_arrayrecords(replies, "num-examples"))

    total = WeightedSum(sum(n for _, n in told))
    for arrays, n in told:
        total.add(arrays, n)

    assert {name: array.tobytes() for name, array in total.mean().items()} == {
        name: array.tobytes() for name, array in wanted.items()
    }


def test_without_one_of_them_it_is_the_mean_of_the_others() -> None:
    told = list(updates(10))
    total, others = WeightedSum(sum(n for _, n in told)), told[1:]
    for arrays, n in others:
        total.add(arrays, n)
    wanted = np.average([a["w"] for a, _ in others], axis=0, weights=[n for _, n in others])
    assert np.allclose(total.mean()["w"], wanted, atol=1e-6)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam", "fedsgd"])
@pytest.mark.parametrize("dp", [None, DpSpec(3.0, 1e-3)])
def test_a_streamed_run_is_the_same_run(strategy: str, dp: DpSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if dp is not None and strategy == "fedprox":
        pytest.skip("fedprox has no private form")
    spec = small.spec("federated", strategy=strategy, rounds=3, proximal_mu=0.1, dp=dp)
    models = []
    for at_once in (16, 2):  # three hospitals: at once, and two and one
        monkeypatch.setattr(outside, "AT_ONCE", at_once)
        with small.grid(small.hospitals()) as grid:
            models.append(coordinate(grid, spec).models.by_site["*"].unpack())
    assert {n: a.tobytes() for n, a in models[0].items()} == {n: a.tobytes() for n, a in models[1].items()}


def test_a_streamed_run_goes_on_without_a_hospital_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "AT_ONCE", 1)
    spec = small.spec("federated", rounds=3)
    grid = MeteredGrid(FaultyGrid(small.hospitals(), "nan", after=1), on_failure="drop", min_sites=2, sites=small.SITES)
    assert all(np.isfinite(a).all() for a in coordinate(grid, spec).models.by_site["*"].unpack().values())
    assert [(d.site, d.round) for d in grid.drops] == [(VICTIM, 2)]
    with pytest.raises(SiteFailed, match=f"hospital {VICTIM}: array"):
        coordinate(MeteredGrid(FaultyGrid(small.hospitals(), "nan")), spec)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_in_mid_stream_leaves_the_mean_of_the_others_or_no_model(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "AT_ONCE", 1)  # the one before is summed up already, the one after not asked yet
    spec = spec_of("federated")
    found = coordinate(
        MeteredGrid(grid_with("federated", fault), on_failure="drop", min_sites=2, sites=small.SITES), spec
    )
    wanted = weights(undisturbed("federated"))
    assert all(np.allclose(array, wanted[name], rtol=0, atol=1e-6) for name, array in weights(found).items())
    with pytest.raises(SiteFailed, match=f"hospital {VICTIM}: "):
        coordinate(MeteredGrid(grid_with("federated", fault)), spec)


class Repeating(InProcessGrid):
    """Brings the answer of the hospital before once more."""

    def __init__(self) -> None:
        super().__init__(build_app, small.hospitals())
        self._before: list[Message] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        replies = super().send_and_receive(messages, timeout=timeout)
        training = messages[0].metadata.message_type == "train"
        before, self._before = self._before, replies if training else []
        return [*replies, *(before if training else [])]


@pytest.mark.parametrize("on_failure", ["fail", "drop"])
def test_an_answer_that_comes_again_with_the_next_hospitals_is_added_once_or_not_at_all(
    on_failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "AT_ONCE", 1)
    grid = MeteredGrid(Repeating(), on_failure=on_failure, min_sites=2, sites=small.SITES)
    with pytest.raises(SiteFailed, match="hospital east: node 1 answered and was not asked"):
        coordinate(grid, small.spec("federated", rounds=1))


def peak(sites: int) -> int:
    """Largest memory (bytes) of averaging models of 1.2 MB that come one by one."""

    def replies() -> Iterator[Message]:
        flower.identify()
        for arrays, n in updates(sites, size=100_000):
            metrics = {"num-examples": n}
            content = wire.reply(site="a", kind="update", purpose="training", arrays=arrays, metrics=metrics)
            yield Message(content, 1, "train")

    strategy = StreamedAvg()
    strategy.patients = 1000 * sites
    tracemalloc.start()
    try:
        strategy.aggregate_train(1, replies())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_hospitals() -> None:
    assert peak(20) < 1.1 * peak(4)
