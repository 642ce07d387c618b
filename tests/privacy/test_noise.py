from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pettoolkit.errors import Refused
from pettoolkit.models.dense import DenseNet
from pettoolkit.privacy.noise import Draw, NoiseSource, SeededNoise, SystemNoise, add_gaussian, site_sd

DRAWS = 100_000
TRAINING = Draw("training")


def plausible_sd(draws: np.ndarray, sd: float) -> bool:
    """Whether sum of squares / sd^2 lies within the middle 99.9999 % of chi-square with n degrees of freedom."""
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], draws.size)
    return bool(low <= float(np.sum((draws / sd) ** 2)) <= high)


@pytest.mark.parametrize("source", [SeededNoise(0, "north"), SystemNoise()], ids=["seeded", "system"])
def test_each_parameter_group_gets_the_stated_sd(source: NoiseSource) -> None:
    shapes = DenseNet(41, (32,)).shapes()
    zeros = {name: torch.zeros(math.ceil(DRAWS / math.prod(shape)), *shape) for name, shape in shapes.items()}
    noisy = add_gaussian(zeros, 2.5, source, TRAINING)
    for name, values in noisy.items():
        draws = values.double().numpy().ravel()
        assert plausible_sd(draws, 2.5), name
        assert not plausible_sd(draws, 2.5 * 1.1), name


@pytest.mark.parametrize("source", [SeededNoise(0, "north"), SystemNoise()], ids=["seeded", "system"])
def test_draws_are_normal_with_variance_one(source: NoiseSource) -> None:
    draws = source.normals(TRAINING, DRAWS)
    assert plausible_sd(draws, 1.0)
    assert not plausible_sd(draws, 1.03)
    assert stats.kstest(draws, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 5 / math.sqrt(DRAWS)


@pytest.mark.parametrize("sites", [3, 5, 6])
def test_shared_parts_add_up_to_the_whole_noise(sites: int) -> None:
    sigma, clip = 7.0, 0.3
    sd = site_sd(sigma, clip, "shared", honest_sites=sites)
    zeros = {"w": torch.zeros(DRAWS, dtype=torch.float64)}
    parts = [add_gaussian(zeros, sd, SeededNoise(1, f"site-{k}", "shared"), TRAINING)["w"] for k in range(sites)]
    total = torch.stack(parts).sum(0).numpy()
    assert plausible_sd(total, sigma * clip)
    assert not plausible_sd(total, sigma * clip * math.sqrt(sites))


@pytest.mark.parametrize("mode", ["local", "central", "alone"])
def test_other_modes_add_the_whole_noise_at_one_place(mode: str) -> None:
    assert site_sd(7.0, 0.5, mode, honest_sites=5) == 3.5


def test_streams_differ_by_seed_site_mode_round_purpose_and_attempt() -> None:
    sources = [
        SeededNoise(seed, site, mode)
        for seed, site, mode in itertools.product((0, 1), ("north", "south"), ("local", "shared"))
    ]
    draws = [
        Draw(purpose, round_, attempt)
        for purpose, round_, attempt in itertools.product(("training", "release"), (0, 1, 11), (0, 1))
    ]
    seen = {source.normals(draw, 4).tobytes() for source in sources for draw in draws}
    assert len(seen) == len(sources) * len(draws)


def test_two_arms_with_the_same_seed_and_mode_share_their_stream() -> None:
    one, two = SeededNoise(3, "north"), SeededNoise(3, "north")
    assert np.array_equal(one.normals(Draw("training", 4), 10), two.normals(Draw("training", 4), 10))


def test_normals_uniforms_and_generator_of_a_draw_are_different_streams() -> None:
    source = SeededNoise(3, "north")
    assert not np.array_equal(source.uniforms(TRAINING, 5), source.generator(TRAINING).random(5))
    assert not np.array_equal(source.normals(TRAINING, 5), source.generator(TRAINING).standard_normal(5))


def test_system_noise_never_repeats() -> None:
    source = SystemNoise()
    assert len({source.normals(TRAINING, 2).tobytes() for _ in range(20)}) == 20
    assert source.generator(TRAINING).random() != source.generator(TRAINING).random()
    assert stats.kstest(source.uniforms(TRAINING, DRAWS), "uniform").pvalue > 1e-6


def test_no_noise_changes_no_bit() -> None:
    values = {"w": torch.randn(50)}
    assert torch.equal(add_gaussian(values, 0.0, SystemNoise(), TRAINING)["w"], values["w"])


def test_the_order_of_the_parameters_does_not_matter() -> None:
    values = {"b": torch.zeros(3), "a": torch.zeros(2, 2)}
    one = add_gaussian(values, 1.0, SeededNoise(0, "s"), TRAINING)
    two = add_gaussian(dict(reversed(values.items())), 1.0, SeededNoise(0, "s"), TRAINING)
    assert all(torch.equal(one[k], two[k]) for k in values)


@pytest.mark.parametrize("sd", [-1.0, math.nan, math.inf])
def test_an_impossible_sd_is_refused(sd: float) -> None:
    with pytest.raises(Refused, match="standard deviation"):
        add_gaussian({"w": torch.zeros(1)}, sd, SystemNoise(), TRAINING)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(Refused, match=r"dp\.noise"):
        site_sd(1.0, 1.0, "halved")


def test_a_stream_is_philoxs_with_the_hash_of_its_name_as_key() -> None:
    """Slow and obvious: the fast way past Philox's own seeding changes no number."""
    name = repr((3, "north", "local", "training", 7, 1, 2, "normals"))
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    expected = np.random.Generator(np.random.Philox(key=key)).standard_normal(1000)
    assert np.array_equal(SeededNoise(3, "north").normals(Draw("training", 7, 1, 2), 1000), expected)
