"""What the server step makes of an error in one round's sum, and that flooding is sized for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation.gain import adam_gain, gain, most_gain
from pettoolkit.arms.encrypted_aggregation.scheme import FLOODING_TOLERANCE, scheme_of
from pettoolkit.arms.keyring import key_requests
from pettoolkit.arms.rounds import ServerState, server_step
from pettoolkit.records import DpSpec
from tests import small_cohort as small

ERROR = 1e-4


def settings(strategy: str, rounds: int, rate: float = 1.0) -> dict[str, Any]:
    return {"strategy": strategy, "rounds": rounds, "learning_rate": rate, "momentum": 0.9}


def reached(options: dict[str, Any], sums: np.ndarray, wrong: int) -> float:
    """Change of the last model per unit of error in one round's sum; the others' contributions as given."""

    def last(errors: np.ndarray) -> np.ndarray:
        state = ServerState.begin({"w": np.zeros(sums.shape[1], dtype=np.float64)})
        for number, total in enumerate(sums + errors, start=1):
            moved = total + (state.model["w"] if options["strategy"] == "fedadam" else 0.0)
            state = server_step(state, {"w": moved}, options, number)
        return np.asarray(state.model["w"], dtype=np.float64)

    errors = np.zeros_like(sums)
    errors[wrong] = ERROR
    return float(np.abs(last(errors) - last(np.zeros_like(sums))).max() / ERROR)


@pytest.mark.parametrize("rounds", [1, 5, 30])
@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedadam"])
def test_no_error_gets_further_than_the_gain(strategy: str, rounds: int) -> None:
    options = settings(strategy, rounds)
    rng = np.random.default_rng(rounds)
    # From steps of an ordinary size to none at all, where FedAdam divides by nearly nothing.
    sums = rng.normal(size=(rounds, 60)) * np.logspace(-7, 0, 60)

    worst = max(reached(options, sums, wrong) for wrong in range(rounds))

    assert worst <= gain(options) * 1.01 + 1e-3
    if strategy != "fedadam":
        assert worst > gain(options) * 0.95  # no more noise than is needed


def test_momentum_takes_an_error_ten_times_as_far() -> None:
    assert gain(settings("fedsgd", 200)) == pytest.approx(10, rel=1e-6)
    assert gain(settings("fedsgd", 1)) == 1
    assert gain(settings("fedavg", 30)) == 1
    assert 10 < adam_gain(30) < 100


@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedadam"])
def test_the_scheme_leaves_room_for_noise_times_gain(strategy: str) -> None:
    spec = small.spec("encrypted_aggregation", strategy=strategy, rounds=30)

    scheme, _ = scheme_of(spec, contract_of(spec))
    key = key_requests("small", [spec])[0].scheme

    assert scheme.flooding_sd < key.flooding_sd  # noise is drawn for all that the key decrypts
    assert key.flooding_sd * most_gain(spec) <= FLOODING_TOLERANCE


def test_under_dp_the_room_is_for_the_loudest_settings_of_any_number_of_patients() -> None:
    dp = DpSpec(epsilon=3.0, noise="shared", honest_sites=3)
    spec = small.spec("encrypted_aggregation", strategy="fedsgd", dp=dp, rounds=None, learning_rate=None)

    assert most_gain(spec) >= 10
