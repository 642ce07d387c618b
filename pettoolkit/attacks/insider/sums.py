"""Membership from sums: whoever knows all candidates asks which of them the sum that was seen is made of.

A sum over members is linear in the unknown memberships, ``S = sum_i b_i f_i + noise``, and the attacker knows every
candidate's ``f_i`` (the strict reading: full knowledge). With prior P(b = 1) = p the best linear estimate is

    b = p + p (1 - p) F (p (1 - p) F'F + N)^-1 (S - p F'1),

the posterior mean of a Gaussian with these moments (the likelihood-ratio attack on sums of Homer et al. 2008, PLoS
Genetics 4:e1000167, and on gradients of Leemann, Pawelczyk and Kasneci 2023, arXiv:2306.07273, with correlated
candidates). As soon as rounds give more numbers than there are candidates, memberships can be solved for.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pettoolkit.attacks.insider.views import BOTH, COORDINATOR, SeenSum, SumsView
from pettoolkit.attacks.models.ranked import AUC, TPR, Ranked
from pettoolkit.attacks.protocol import Effort, Finding, Group, NotRun, People, finding, register
from pettoolkit.attacks.statistics import bonferroni
from pettoolkit.records import NotMeasured

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NAMES = {COORDINATOR: "update_membership", BOTH: "update_membership"}
"""By who sees the sums; a hospital's is ``sum_membership``."""

ROUNDING = 1e-6
"""Relative size of float32's rounding in a sum, at least assumed as noise."""

MOST_NUMBERS = 2500
"""Numbers of all sums together, beyond which some are taken at random: equations cost the cube of them."""

MOST_CELLS = 40_000_000
"""Candidates times numbers (320 MB)."""

LEAST = 20


def posterior(observed: Floats, shares: Floats, prior: float, noise: Floats) -> Floats:
    """Best linear estimate of the memberships, shape (n,).

    Parameters
    ----------
    observed
        Shape (numbers,).
    shares
        What each candidate adds, (n, numbers).
    prior
        Share of candidates who are members.
    noise
        Variance of the noise on each number, (numbers,).
    """
    spread = prior * (1 - prior)
    centred = (observed - prior * shares.sum(0)) / np.sqrt(noise)
    scaled = shares / np.sqrt(noise)
    n, numbers = scaled.shape
    if numbers <= n:
        inner = spread * scaled.T @ scaled + np.eye(numbers)
        estimate: Floats = prior + spread * scaled @ np.linalg.solve(inner, centred)
        return estimate
    inner = spread * scaled @ scaled.T + np.eye(n)  # the same by Woodbury's identity, in candidates
    dual: Floats = prior + spread * np.linalg.solve(inner, scaled @ centred)
    return dual


@register
class SumMembership:
    """Which candidates are in the sums that an insider saw."""

    name = "sum_membership"
    sees = SumsView
    knowledge = "full"

    def run(self, view: SumsView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        began = time.perf_counter()
        scored = [self._scored(view, sites, people, effort) for sites in dict.fromkeys(s.sites for s in view.sums)]
        if not scored:
            raise NotRun(f"{view.holder} saw no sum")
        score = np.concatenate([s for s, _, _ in scored])
        inside = np.concatenate([b for _, b, _ in scored])
        patient = np.concatenate([p for _, _, p in scored])
        if min(inside.sum(), (~inside).sum()) < LEAST:
            raise NotRun(f"fewer than {LEAST} members or control patients")
        out = []
        for measure in (AUC, TPR):
            ranked = Ranked(score[None], inside[None], patient, measure, seed=effort.seed)
            out.append(self._finding(view, ranked, time.perf_counter() - began))
        return out

    def _finding(self, view: SumsView, ranked: Ranked, seconds: float) -> Finding:
        bound = view.bound
        if not isinstance(bound, NotMeasured):
            bound = bound.auc if ranked.measure == AUC else bound.tpr_at_1pct_fpr  # type: ignore[assignment]
        low, note, details = (
            ranked.success_low(bonferroni(2)),  # of two measures
            view.note,
            {"numbers": float(sum(len(s.observed) for s in view.sums))},
        )
        if isinstance(bound, float) and low > bound:
            details["alarm"] = 1.0
            note = f"ALARM: at least {low:.3f}, which the guarantee rules out (at most {bound:.3f}); {note}"
        made = finding(
            self,
            ranked.measure,
            ranked,
            wanted=ranked.patients,
            seconds=seconds,
            view=view.kind,
            bound=bound,  # type: ignore[arg-type]
            details=details,
            note=f"seen by {view.holder}" + (f"; {note}" if note else ""),
            site=BOTH if view.holder == BOTH else "*",
        )
        return replace(made, figure=replace(made.figure, attack=NAMES.get(view.holder, self.name)))

    def _scored(
        self, view: SumsView, sites: tuple[str, ...], people: People, effort: Effort
    ) -> tuple[Floats, Bools, npt.NDArray[np.int64]]:
        """Estimated membership of all candidates of some hospitals, what is true, and who they are."""
        groups = [_of(people.members, sites), _of(people.control, sites)]
        inside = np.repeat([True, False], [len(g) for g in groups])
        sums = [s for s in view.sums if s.sites == sites]
        kept = _kept(sums, len(inside), effort.seed)
        shares = np.hstack([_shares(view, s, groups, k) for s, k in zip(sums, kept, strict=True)])
        observed = np.concatenate([s.observed[k] for s, k in zip(sums, kept, strict=True)])
        noise = np.concatenate(
            [
                np.broadcast_to(np.asarray(s.noise, dtype=np.float64), s.observed.shape)[k]
                for s, k in zip(sums, kept, strict=True)
            ]
        )
        # rounding errors grow with the largest numbers that are added
        noise = noise + (ROUNDING * np.abs(shares).sum(0)) ** 2 + np.finfo(np.float64).tiny * 1e20
        score = posterior(observed, shares, float(inside.mean()), noise)
        return score, inside, np.concatenate([g.patient for g in groups])


def _of(group: Group, sites: tuple[str, ...]) -> Group:
    return group.take(np.isin(group.site, sites))


def _shares(view: SumsView, seen: SeenSum, groups: list[Group], kept: npt.NDArray[np.intp]) -> Floats:
    """What each candidate adds to the numbers ``kept`` of a sum, (candidates, kept), in the order of the groups."""
    parts = []
    for group in groups:
        out = np.zeros((len(group), len(kept)))
        for site in seen.sites:
            here = group.site == site
            if here.any():
                out[here] = seen.of(group.rows.loc[here], view.contract, site, kept)
        parts.append(out)
    return np.vstack(parts)


def _kept(sums: list[SeenSum], candidates: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Positions of the numbers of each sum that are used: all, or a random part of each."""
    total = sum(len(s.observed) for s in sums)
    share = min(1.0, MOST_NUMBERS / total, MOST_CELLS / (total * max(1, candidates)))
    rng = np.random.default_rng([seed, 12])
    return [np.sort(rng.permutation(len(s.observed))[: math.ceil(share * len(s.observed))]) for s in sums]
