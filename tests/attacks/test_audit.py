"""The audit's bound is below the claim where noise is right, and raises the alarm where it is not."""

from __future__ import annotations

import pytest

from pettoolkit.attacks import audit
from pettoolkit.attacks.audit import audited, epsilon_of, power
from pettoolkit.attacks.protocol import Effort, NotApplicable
from pettoolkit.privacy.accounting import mechanism_for
from pettoolkit.privacy.events import Mechanism, gaussian
from pettoolkit.privacy.optimiser import DpTraining

TRAINING = DpTraining(steps=10, clip=0.5, learning_rate=1.0)
DELTA = 1e-5
QUICK = Effort("quick")


def mechanism(epsilon: float) -> Mechanism:
    return mechanism_for(epsilon, DELTA, TRAINING.steps, 1.0, TRAINING.clip)


def test_a_right_mechanism_stays_below_its_claim() -> None:
    figure = audited(5, mechanism(3.0), TRAINING, DELTA, QUICK).figure
    assert 0 < figure.details["epsilon_lower_bound"] < figure.details["epsilon_claimed"]
    assert figure.details["epsilon_claimed"] == pytest.approx(3.0, abs=0.01)
    assert "alarm" not in figure.details
    assert figure.success <= figure.bound + 0.05  # type: ignore[operator]


def test_half_the_noise_raises_the_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.privacy import optimiser

    right = optimiser.site_sd
    monkeypatch.setattr(optimiser, "site_sd", lambda *given: right(*given) / 2)
    figure = audited(5, mechanism(3.0), TRAINING, DELTA, QUICK).figure
    assert figure.details["alarm"] == 1.0
    assert "ALARM" in figure.note
    assert figure.details["epsilon_lower_bound"] > 3.0
    assert figure.details["power_against_half_the_noise"] > 0.99


def test_its_power_is_stated_and_grows_with_trainings() -> None:
    assert power(0.5, 25) < power(0.5, 100) < power(0.5, 1000)
    assert power(0.5, 10**5) == pytest.approx(1.0)
    assert power(1e-6, 100) == pytest.approx(audit.FALSE_ALARMS, rel=0.05)


def test_epsilon_of_a_bound_on_mu() -> None:
    assert epsilon_of(-0.2, DELTA) == 0.0
    found = mechanism(3.0)
    assert epsilon_of(found.steps**0.5 / found.sigma, DELTA) == pytest.approx(3.0, abs=0.02)


def test_sampled_batches_are_not_audited() -> None:
    with pytest.raises(NotApplicable, match="full batches"):
        audited(5, gaussian(1.0, 10, 0.5, q=0.1), TRAINING, DELTA, QUICK)
