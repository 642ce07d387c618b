"""Who is in a sum: found where sums give enough numbers, hidden where noise is large or numbers are few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pettoolkit.attacks.insider.sums import SumMembership, posterior
from pettoolkit.attacks.insider.views import BOTH, COORDINATOR, ObservedSum, SumsView
from pettoolkit.attacks.protocol import Effort, Finding, Group, NotRun, People
from pettoolkit.cohort.contract import Column, Contract

D = 20
CONTRACT = Contract(
    name="wide",
    columns=(
        *(Column(name=f"v{i}", low=-1, high=1, missing="never") for i in range(D)),
        Column(name="y", kind="binary", role="outcome"),
    ),
)


def group(first: int, n: int) -> Group:
    rng = np.random.default_rng(first)
    rows = pd.DataFrame(rng.uniform(-1, 1, (n, D)), columns=[f"v{i}" for i in range(D)]).assign(y=0.0)
    return Group(rows, np.arange(first, first + n, dtype=np.int64), np.array(["a"] * n))


PEOPLE = People(group(1000, 120), group(5000, 40), group(9000, 10))


def view(numbers: int, noise: float = 0.0, *, holder: str = COORDINATOR, of: Group = PEOPLE.members) -> SumsView:
    """Sums of ``numbers`` nonlinear functions of each record, over a group."""
    direction = np.random.default_rng(1).standard_normal((D, numbers))

    def share(x: torch.Tensor, y: torch.Tensor, site: str) -> np.ndarray:
        return np.tanh(3 * x.double().numpy() @ direction)

    from pettoolkit.cohort.features import encode

    exact = share(torch.from_numpy(encode(of.rows, CONTRACT)), torch.zeros(len(of)), "a").sum(0)
    observed = exact + np.sqrt(noise) * np.random.default_rng(2).standard_normal(numbers)
    return SumsView(CONTRACT, holder=holder, sums=(ObservedSum(("a",), observed, share, noise),))


def auc(seen: SumsView) -> Finding:
    return SumMembership().run(seen, PEOPLE, Effort())[0]


def test_the_estimate_is_the_posterior_mean_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    for n, numbers in ((8, 5), (5, 8)):
        shares, noise, prior = rng.standard_normal((n, numbers)), rng.uniform(0.5, 2, numbers), 0.7
        observed = rng.standard_normal(numbers)
        spread = prior * (1 - prior)
        inner = np.linalg.inv(spread * shares.T @ shares + np.diag(noise))
        expected = prior + spread * shares @ inner @ (observed - prior * shares.sum(0))
        np.testing.assert_allclose(posterior(observed, shares, prior, noise), expected, rtol=1e-8)


def test_more_numbers_than_candidates_give_everybody_away() -> None:
    assert auc(view(200)).figure.success > 0.999


def test_few_numbers_give_little_away_and_more_give_more() -> None:
    few, some, many = (auc(view(numbers)).figure.success for numbers in (3, 40, 120))
    assert few < some < many
    assert few < 0.65


def test_noise_hides_members() -> None:
    interval = auc(view(200, noise=1e6)).evidence.interval(0.999)
    assert interval.low <= 0 <= interval.high


def test_a_sum_over_others_gives_no_member_away() -> None:
    interval = auc(view(40, of=group(7000, 120))).evidence.interval(0.999)
    assert interval.low <= 0


def test_what_two_see_together_is_not_counted_in_a_verdict() -> None:
    both = SumMembership().run(view(200, holder=BOTH), PEOPLE, Effort())
    assert {f.figure.site for f in both} == {BOTH}
    assert {f.figure.attack for f in both} == {"update_membership"}
    assert {f.figure.view for f in both} == {"insider"}


def test_many_numbers_are_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.attacks.insider import sums

    monkeypatch.setattr(sums, "MOST_NUMBERS", 300)
    assert auc(view(3000)).figure.success > 0.99


def test_nothing_seen_is_not_run() -> None:
    with pytest.raises(NotRun, match="saw no sum"):
        SumMembership().run(SumsView(CONTRACT, holder=COORDINATOR, sums=()), PEOPLE, Effort())
