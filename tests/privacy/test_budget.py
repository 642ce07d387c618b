from __future__ import annotations

import pytest

from pettoolkit.errors import BadInput
from pettoolkit.privacy.budget import meaning


def test_the_full_batch_example() -> None:
    got = meaning(epsilon=1.0, rounds=50, patients=1600)
    assert got.epsilon == pytest.approx(1.0)
    assert got.mechanism.sigma == pytest.approx(26.4, abs=0.1)  # sqrt(50) / 0.268
    assert (round(got.attacker.auc, 3), round(got.attacker.tpr_at_1pct_fpr, 3)) == (0.575, 0.020)
    text = "\n".join(got.lines())
    for part in ("sigma 26.", "50 rounds", "1600 patients", "2.0 %", "AUC 0.575", "for replacing one"):
        assert part in text


def test_small_batches_need_less_noise_on_the_sum_but_more_for_each_patient_in_it() -> None:
    full, sampled = meaning(1.0, 50, 1600), meaning(1.0, 50, 1600, batch=64)
    assert sampled.epsilon <= 1.0
    assert sampled.mechanism.sigma < full.mechanism.sigma
    assert sampled.share > full.share
    assert sampled.attacker.tpr_at_1pct_fpr < full.attacker.tpr_at_1pct_fpr
    assert "q = 0.04" in sampled.lines()[0]


def test_more_rounds_need_more_noise() -> None:
    assert meaning(1.0, 200, 1600).mechanism.sigma == pytest.approx(2 * meaning(1.0, 50, 1600).mechanism.sigma)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(BadInput) as wrong:
        meaning(epsilon=0, rounds=0, patients=100, batch=500, delta=0.5)
    assert [line.split(":")[0] for line in wrong.value.lines] == ["--epsilon", "--rounds", "--delta", "--batch"]
