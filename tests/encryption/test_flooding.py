from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from pettoolkit.encryption.errors import FloodingSpent
from pettoolkit.encryption.flooding import FloodingLedger, flood
from pettoolkit.encryption.parameters import choose, flooding_sd
from pettoolkit.errors import BadInput, Refused

N = 20_000
TINY = 1e-9  # probability that an honest draw fails a test


def test_the_noise_has_the_standard_deviation_it_says(scheme):
    ledger = FloodingLedger(scheme, "k")
    sd = flooding_sd(scheme.ring_degree, scheme.scale_bits, scheme.sites, scheme.tau, scheme.flooding_bits)

    noise = ledger.release("run", np.full(N, 0.25)) - 0.25

    chi_square = float(np.sum((noise / sd) ** 2))
    assert stats.chi2.ppf(TINY, N) < chi_square < stats.chi2.isf(TINY, N)
    assert abs(noise.mean()) < 6 * sd / np.sqrt(N)
    assert stats.kstest(noise / sd, "norm").pvalue > TINY


def test_noise_of_an_odd_number_of_values_keeps_its_shape():
    assert flood(np.zeros((3, 5)), 1.0).shape == (3, 5)
    assert flood(np.zeros(0), 1.0).shape == (0,)


def test_two_releases_have_independent_noise():
    a, b = flood(np.zeros(N), 1.0), flood(np.zeros(N), 1.0)

    assert abs(np.corrcoef(a, b)[0, 1]) < 6 / np.sqrt(N)


def test_the_same_release_is_flooded_once(scheme):
    ledger = FloodingLedger(scheme, "k")
    ledger.release("run", np.zeros(3))

    with pytest.raises(Refused, match="run was released already"):
        ledger.release("run", np.zeros(3))
    assert ledger.release("other", np.zeros(3)).shape == (3,)


def test_gain_scales_the_noise(scheme):
    noise = FloodingLedger(scheme, "k").release("run", np.zeros(N), gain=1 / 3)

    assert noise.std() == pytest.approx(scheme.flooding_sd / 3, rel=0.05)
    with pytest.raises(BadInput, match="gain"):
        FloodingLedger(scheme, "k").release("run", np.zeros(3), gain=0)


def test_decryptions_are_counted_and_refused_beyond_tau():
    scheme = choose(5000, 1.0, 3, rounds=4)
    ledger = FloodingLedger(scheme, "k")

    for _ in range(4):
        ledger.count(scheme.ciphertexts)

    assert (scheme.tau, ledger.decrypted) == (8, 8)
    with pytest.raises(FloodingSpent, match="rotate the key"):
        ledger.count(1)
    assert ledger.decrypted == 8


def test_without_room_for_flooding_nothing_is_released():
    scheme = choose(50, 1.0, 3, flooding=False)

    with pytest.raises(Refused, match="no room"):
        FloodingLedger(scheme, "k").release("run", np.zeros(50))


def test_more_rounds_mean_more_noise():
    assert choose(50, 1.0, 3, rounds=400).flooding_sd == pytest.approx(2 * choose(50, 1.0, 3, rounds=100).flooding_sd)


def test_the_count_survives_json(scheme):
    ledger = FloodingLedger(scheme, "k")
    ledger.count(3)
    ledger.release("run", np.zeros(3))

    assert FloodingLedger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger
