"""`secure_sum`: what hospitals decrypt on two neighbouring tables tells no more than the ledgers say.

The attacker knows all patients but one and sees every decrypted sum (all that hospitals see, and more than leaves). The
likelihood ratio is normal in both worlds, mu SDs apart: the measured distance may not exceed the mu of the mechanism
that the ledgers were charged, and with half the noise it does. No encryption here: it is exact on the counts' grid
(tested elsewhere).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from pettoolkit.arms import vault
from pettoolkit.arms.synthetic import summed
from pettoolkit.arms.synthetic.scheme import GRID
from pettoolkit.hospital.accounts import noise_of
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.records import DpSpec, RunSpec
from pettoolkit.synthesis.cells import cells_of
from pettoolkit.synthesis.conversation import Fitted
from pettoolkit.synthesis.marginals import codes_of
from pettoolkit.synthesis.noisy import DP_BINS
from pettoolkit.synthesis.rows import classes
from tests import small_cohort as small

RUNS = 50
ALARM = 1e-4
"""How often an honest sum is accused, by the normal approximation."""


def spec() -> RunSpec:
    return small.spec("synthetic", dp=DpSpec(10.0, noise="shared", honest_sites=3), scope="secure_sum")


def statistic(sites: dict[str, Site], of: RunSpec, total: int, extra: pd.DataFrame) -> tuple[float, float]:
    """Hold one conversation; gives the likelihood ratio of the sums for the presence of ``extra``, and the charged mu.

    ``extra`` is looked for in what the sums hold beyond the tables without it.
    """
    contract = next(iter(sites.values())).narrowed(of)
    cells = cells_of(contract, DP_BINS)
    known = pd.concat([s.table(of, "train") for s in sites.values()], ignore_index=True)
    known = known[~(known.fillna(-1)[list(extra)] == extra.fillna(-1).iloc[0]).all(axis=1)]
    coded = [
        (codes_of(cells, rows), classes(rows, contract)) for rows in (known, pd.concat([known, extra[known.columns]]))
    ]
    first, number, score = next(iter(sites.values())), 1, 0.0
    while not isinstance(stage := summed._replayed(first, of, number, total), Fitted):
        sent = [vault.load(summed._own(s, of, number, total))["values"] * total for s in sites.values()]
        values = np.rint(np.rint(np.sum(sent, axis=0) / GRID) * GRID)
        start = 0
        for question in stage:
            without, with_one = (question.exact(*codes) for codes in coded)
            answer = values[start : start + question.size]
            score += float((answer - without) @ (with_one - without)) / question.event.sigma**2
            start += question.size
        kept = vault.dump({"values": values})
        for site in sites.values():
            once(site.store, summed._label(of, number, total), lambda kept=kept: kept)  # type: ignore[misc]
        number += 1
    (ledger,) = first.ledgers.values()
    (event,) = ledger.events
    return score, 1 / event.mechanism.sigma


class Without(Site):
    """A hospital that misses one patient among those it trains on, whatever the split."""

    def table(self, spec: RunSpec, part: Any) -> pd.DataFrame:
        return super().table(spec, part).iloc[1:]


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["honest", "half the noise"])
def test_decrypted_sums_on_neighbours_stay_within_the_claim_and_halved_noise_does_not(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sd_here = summed._sd_here
    monkeypatch.setattr(summed, "_sd_here", lambda of, event: share * sd_here(of, event))
    of, tables = spec(), {name: small.rows(name, 60) for name in small.SITES}
    east = Site("east", tables["east"], small.CONTRACT).table(of, "train")
    total = sum(len(Site(n, rows, small.CONTRACT).index(of, "train")) for n, rows in tables.items())

    scores, mu = np.empty((2, RUNS)), 0.0
    for world, kind in enumerate((Without, Site)):
        for run in range(RUNS):
            monkeypatch.setattr(summed, "noise_of", lambda site, seed, mode, n=2 * run + world: noise_of(site, n, mode))
            sites = {n: (kind if n == "east" else Site)(n, rows, small.CONTRACT) for n, rows in tables.items()}
            scores[world, run], mu = statistic(sites, of, total, east.iloc[[0]])
    spread = np.sqrt(scores.var(axis=1, ddof=1).mean())
    measured = float(scores[1].mean() - scores[0].mean()) / spread
    # Cohen's d: its standard error for two groups of RUNS
    error = np.sqrt(2 / RUNS + measured**2 / (4 * RUNS))
    within = measured - norm.ppf(1 - ALARM) * error <= mu
    assert within == (share == 1.0), (measured, error, mu)
    if share == 1.0:
        assert measured > 0.6 * mu  # the claim is not idle, and the test looks at the right patient
