"""Membership in a released model's training rows: LiRA, RMIA, both stacked, and the loss as the naive baseline.

The attacker holds the full real data of everybody who may be in it (the strict reading), trains shadow models as the
released one was trained, and says of each target whether he or she was in it. ``control`` patients are in no training
row, and are the false positives.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.attacks.models.ranked import AUC, TPR, Ranked
from pettoolkit.attacks.models.recipe import Pool
from pettoolkit.attacks.models.scores import Margins, Stacked, features, lira, log_ratio, loss_threshold, rmia
from pettoolkit.attacks.models.shadows import TOO_LONG, shadow_logits
from pettoolkit.attacks.models.targets import Targets, choose
from pettoolkit.attacks.models.view import ModelView
from pettoolkit.attacks.protocol import (
    Attack,
    Effort,
    Finding,
    Group,
    NotRun,
    People,
    finding,
    register,
)
from pettoolkit.attacks.statistics import bonferroni, excess
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.privacy.bounds import AttackBound
from pettoolkit.records import Interval, NotMeasured, digest_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_TARGETS = 20
"""Members, and control patients, below which a figure is not worth printing (one hospital's, for example)."""

RESOLVABLE = 1000
"""Non-members from which a false-positive rate of 0.1 % is one patient."""

ONE_IN_A_HUNDRED = 100
"""Non-members below which a false-positive rate of 1 % is less than one patient."""

IN_TURN = "stacked, other models"

NOBODYS = Interval(-1.0, 1.0)
"""In place of the null's interval, which costs as much as the attack's: the verdict takes one from the evidence."""

_KEPT: dict[str, Shadows] = {}
"""Shadows of the last trainings: an encrypted arm's are those of the plain one."""
KEPT = 4


@dataclass(frozen=True)
class Shadows:
    """Margins in the shadows: of targets (shadows, targets), and of the attacker's own patients (shadows, them)."""

    margins: Margins
    population: Floats


@register
class Membership:
    """All four attacks share the shadows, so they are one attack here and four names in the figures."""

    name = "membership"
    sees = ModelView
    knowledge = "full"

    def run(self, view: ModelView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        began = time.perf_counter()
        pool = pool_of(view, people)
        targets = choose(people, effort, by_site=view.recipe.by_site)
        if min(targets.member.sum(), (~targets.member).sum()) < LEAST_TARGETS:
            raise NotRun(f"fewer than {LEAST_TARGETS} members or control patients")
        shadows = shadows_of(view, pool, targets, effort)
        scored = attack(view, pool, targets, shadows)
        seconds = time.perf_counter() - began
        return list(_findings(self, view, targets, scored, effort, seconds))


@dataclass(frozen=True)
class Scored:
    """Scores of the targets by attack, of shape (1, targets); of the shadows in turn; and who is exposed most."""

    released: dict[str, Floats]
    in_turn: Floats
    inside: Bools
    exposed: Floats = field(repr=False)


def pool_of(view: ModelView, people: People) -> Pool:
    """Members and control patients, encoded; apart from them validation patients and the attacker's own."""
    names = {name: number for number, name in enumerate(sorted({*people.members.site, *people.control.site}))}

    def encoded(*groups: Group) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.cat([torch.from_numpy(encode(g.rows, view.contract)) for g in groups]),
            torch.cat([torch.from_numpy(outcome(g.rows, view.contract)) for g in groups]),
            torch.tensor([names.get(s, -1) for g in groups for s in g.site], dtype=torch.int64),
        )

    others = encoded(people.attacker)
    held = others if view.validation is None else encoded(view.validation)
    return Pool(*encoded(people.members, people.control), *held, tuple(names), others)


def shadows_of(view: ModelView, pool: Pool, targets: Targets, effort: Effort) -> Shadows:
    """Train the shadows, or take those of an equal training on equal patients.

    Raises
    ------
    TooCostly
        If one shadow takes too long (:data:`TOO_LONG`), or all of them together.
    """
    chosen_by = [] if view.validation is None else view.validation.patient.tolist()
    key = digest_of([view.recipe.key, targets.digest, chosen_by, effort.shadows, effort.seed, TOO_LONG])
    if view.recipe.key and key in _KEPT:
        return _KEPT[key]
    included = targets.inclusion(effort.shadows, effort.seed)
    logits, others = shadow_logits(view.recipe, pool, included[targets.of_row], effort)
    found = Shadows(
        Margins(targets.margin(logits, pool.y.numpy()), included[targets.patients].T),
        others * (2 * pool.population[1].numpy() - 1),
    )
    _KEPT[key] = found
    for old in list(_KEPT)[:-KEPT]:
        del _KEPT[old]
    return found


def attack(view: ModelView, pool: Pool, targets: Targets, shadows: Shadows) -> Scored:
    """Score the targets in the released model, and in each shadow with the help of the others."""
    of_target = targets.margin(view.logits(pool.x, pool.site, pool.names)[None, :], pool.y.numpy())[0]
    x, y, site = pool.population
    others = view.logits(x, site, pool.names) * (2 * y.numpy() - 1)
    known = shadows.margins.known()
    population = log_ratio(others, np.exp(-np.logaddexp(0.0, -shadows.population)).mean(0))
    inside, rows = shadows.margins.inside, _in_turn(shadows)
    usable = rows.reshape(-1, rows.shape[2]).any(1)
    every = Stacked.fit(rows.reshape(-1, rows.shape[2])[usable], inside.reshape(-1)[usable])
    halves = [Stacked.fit(rows[i::2].reshape(-1, rows.shape[2]), inside[i::2].reshape(-1)) for i in (0, 1)]
    in_turn = np.stack([halves[1 - number % 2].score(r) for number, r in enumerate(rows)])
    released = {
        "lira": lira(of_target, known),
        "rmia": rmia(of_target, known, population),
        "stacked": every.score(features(of_target, known)),
        "loss_threshold": loss_threshold(of_target),
    }
    return Scored({name: s[None, :] for name, s in released.items()}, in_turn, inside, known.exposed)


def _in_turn(shadows: Shadows) -> Floats:
    """Features of all targets in each shadow, seen with the help of the others: (shadows, targets, features)."""
    margins = shadows.margins
    return np.stack([features(row, margins.known(number)) for number, row in enumerate(margins.margin)])


def _findings(
    attack: Attack, view: ModelView, targets: Targets, scored: Scored, effort: Effort, seconds: float
) -> Iterator[Finding]:
    member, wanted = targets.member[None, :], int(targets.member.sum())
    others = int((~targets.member).sum())
    hospitals = [site for site in np.unique(targets.site) if _enough(targets, targets.site == site)]
    # so many figures are compared with the bound: an alarm by chance is as rare as one interval's miss
    level = bonferroni(2 * (len(scored.released) + 1) + len(hospitals))
    for name, score in scored.released.items():
        for measure in (AUC, TPR):
            ranked = Ranked(score, member, targets.patient, measure, seed=effort.seed)
            details = {"non_members": float(others)}
            if name == "stacked" and measure == AUC:
                details |= worst_decile(ranked, scored.exposed)
            note = _low_rate(ranked, details) if measure == TPR else ""
            yield _finding(attack, view, name, ranked, wanted, seconds, details, note, level)
    for measure in (AUC, TPR):
        turns = Ranked(scored.in_turn, scored.inside, targets.patient, measure, seed=effort.seed)
        details = {"models": float(len(scored.in_turn))}
        note = "the same training on other patients: what the technology gives away, not this one model"
        yield _finding(attack, view, IN_TURN, turns, int(scored.inside.sum()), seconds, details, note, level)
    for site in hospitals:
        here = targets.site == site
        ranked = Ranked(scored.released["stacked"], member, targets.patient, seed=effort.seed).of(here)
        found = _finding(attack, view, "stacked", ranked, int(targets.member[here].sum()), seconds, {}, "", level)
        yield replace(found, figure=replace(found.figure, site=str(site)))


def _enough(targets: Targets, here: Bools) -> bool:
    return bool(min(targets.member[here].sum(), (~targets.member[here]).sum()) >= LEAST_TARGETS)


def _finding(
    attack: Attack,
    view: ModelView,
    name: str,
    ranked: Ranked,
    wanted: int,
    seconds: float,
    details: dict[str, float],
    note: str,
    level: float,
) -> Finding:
    bound = _bound(view.bound, ranked.measure)
    low = ranked.success_low(level)
    details = details | {"success_low": ranked.success_low()}
    if not isinstance(bound, NotMeasured) and low > bound:
        details["alarm"] = 1.0
        note = f"ALARM: at least {low:.3f}, which the guarantee rules out (at most {bound:.3f}); {note}".rstrip("; ")
    made = finding(
        attack, ranked.measure, ranked, wanted=wanted, seconds=seconds, view=view.kind, bound=bound, details=details
    )
    return replace(made, figure=replace(made.figure, attack=name, note="; ".join(n for n in (note, view.note) if n)))


def _bound(bound: AttackBound | NotMeasured, measure: str) -> float | NotMeasured:
    if isinstance(bound, NotMeasured):
        return bound
    return bound.auc if measure == AUC else bound.tpr_at_1pct_fpr


def worst_decile(ranked: Ranked, exposed: Floats) -> dict[str, float]:
    """AUC among the tenth of the targets whom the shadows, not the attacked model, show to be most exposed."""
    worst = ranked.of(exposed >= np.quantile(exposed, 0.9))
    if not worst.usable:
        return {}
    interval = worst.interval()
    return {
        "worst_decile": worst.success,
        "worst_decile_low": 0.5 + interval.low / 2,
        "worst_decile_high": 0.5 + interval.high / 2,
    }


def _low_rate(ranked: Ranked, details: dict[str, float]) -> str:
    """The rate at 0.1 % false positives into ``details``, or why there is none."""
    others = int(details["non_members"])
    if others < ONE_IN_A_HUNDRED:
        return f"1 % false positives: not resolvable with {others} non-members (the figure is interpolated)"
    if others < RESOLVABLE:
        return f"at 0.1 % false positives: not resolvable with {others} non-members"
    details["tpr_at_0.1pct_fpr"] = replace(ranked, fpr=0.001).success
    return ""


def null_findings(found: list[Finding]) -> list[Finding]:
    """The same attacks where nobody is exposed.

    Half of the control patients pose as members of the released model; in other models whoever was in the *next* one
    poses as a member of this (who is in which was drawn independently).
    """
    out: list[Finding] = []
    for each in found:
        ranked = each.evidence
        if not isinstance(ranked, Ranked) or each.figure.site != "*":
            continue
        if len(ranked.score) > 1:
            null = replace(ranked, inside=np.roll(ranked.inside, 1, axis=0))
        else:
            others = ranked.of(~ranked.inside[0])
            null = replace(others, inside=(np.arange(len(others.patient)) % 2 == 0)[None, :])
        figure = replace(
            each.figure,
            success=null.success,
            excess=excess(null.success, null.control),
            interval=NOBODYS,
            patients=null.patients,
        )
        out.append(Finding(figure, null))
    return out
