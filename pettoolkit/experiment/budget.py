"""``pettoolkit budget``: what a budget means, and what is left of it where hospitals share the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pettoolkit.errors import BadInput
from pettoolkit.privacy.bounds import epsilon_if_coordinator_and_site_collude, epsilon_if_sites_collude
from pettoolkit.privacy.budget import DEFAULT_DELTA, BudgetMeaning, meaning
from pettoolkit.privacy.events import gaussian
from pettoolkit.privacy.noise import site_sd
from pettoolkit.records import Json

FEWEST_SHARED = 3
"""With two hospitals the sum minus one's own part is the other's: sharing noise hides nothing."""


@dataclass(frozen=True)
class Explained:
    """A budget's meaning, and who adds the noise.

    Parameters
    ----------
    meaning
        For one sum with one noise, over the patients that were named.
    noise
        ``local`` or ``shared``.
    sites
        Hospitals whose sums are added up, each of which adds noise.
    site_sigma
        SD of each hospital's own noise, in clipping norms C.
    sum_sigma
        SD of the noise on the sum over all hospitals, in C.
    if_sites_collude
        Epsilon against so many hospitals that subtract their own noise (shared noise only).
    if_coordinator_and_site_collude
        Epsilon if the coordinator gets any one hospital's key (shared noise only).
    """

    meaning: BudgetMeaning
    noise: str
    sites: int
    site_sigma: float
    sum_sigma: float
    if_sites_collude: Mapping[str, float]
    if_coordinator_and_site_collude: float | None

    def lines(self) -> tuple[str, ...]:
        """What is printed."""
        return (*self.meaning.lines(), *self._who())

    def as_json(self) -> dict[str, Json]:
        """The same for programs; figures that do not apply are left out."""
        said = self.meaning
        data: dict[str, Json] = {
            "epsilon": said.epsilon,
            "epsilon_replace_one": said.epsilon_replace_one,
            "delta": said.delta,
            "accountant": said.accountant,
            "patients": said.patients,
            "rounds": said.mechanism.steps,
            "q": said.mechanism.q,
            "sigma": said.mechanism.sigma,
            "attacker": {
                "tpr_at_1pct_fpr": said.attacker.tpr_at_1pct_fpr,
                "auc": said.attacker.auc,
                "basis": said.attacker.basis,
            },
            "noise_in_patients": self.sum_sigma,
            "noise": self.noise,
            "sites": self.sites,
            "site_sigma": self.site_sigma,
            "sum_sigma": self.sum_sigma,
        }
        if self.if_coordinator_and_site_collude is not None:
            data["epsilon_if_sites_collude"] = dict(self.if_sites_collude)
            data["epsilon_if_coordinator_and_site_collude"] = self.if_coordinator_and_site_collude
        return data

    def _who(self) -> tuple[str, ...]:
        if self.sites == 1:
            return ()
        if self.if_coordinator_and_site_collude is None:
            return (
                f"noise local: each of {self.sites} hospitals adds all of it, so that nobody need be trusted; "
                f"the sum over them has sigma {self.sum_sigma:.4g}, as loud as {self.sum_sigma:.1f} patients",
            )
        alone, *more = self.if_sites_collude.items()
        together = ", ".join(f"{epsilon:.3g} against {c}" for c, epsilon in more)
        return (
            f"noise shared: each of {self.sites} hospitals adds sigma {self.site_sigma:.4g}, "
            f"the sum over all of them has {self.sum_sigma:.4g}; only under encryption",
            f"that epsilon is against outsiders and the coordinator; against one curious hospital, which knows its own "
            f"noise, it is {alone[1]:.3g}; {together} hospitals together",
            f"epsilon is {self.if_coordinator_and_site_collude:.3g} if the coordinator and any one hospital collude",
        )


def explain(
    epsilon: float,
    rounds: int,
    patients: int,
    *,
    batch: int | None = None,
    delta: float = DEFAULT_DELTA,
    sites: int = 1,
    noise: str = "local",
) -> Explained:
    """Say what a budget means; see :func:`pettoolkit.privacy.budget.meaning`.

    Parameters
    ----------
    sites
        Hospitals that add noise, all of them honest.
    noise
        ``local``: each adds all of it. ``shared``: each adds sigma / sqrt(sites).

    Raises
    ------
    BadInput
        With one line per impossible value.
    """
    wrong = []
    if noise not in ("local", "shared"):
        wrong.append(f"--noise: must be local or shared (got {noise})")
    fewest = FEWEST_SHARED if noise == "shared" else 1
    if sites < fewest:
        why = "; shared noise hides nothing among fewer" if noise == "shared" else ""
        wrong.append(f"--sites: must be {fewest} or more (got {sites}){why}")
    try:
        said = meaning(epsilon, rounds, patients, batch, delta)
    except BadInput as error:
        raise BadInput([*error.lines, *wrong]) from None
    if wrong:
        raise BadInput(wrong)
    whole = said.mechanism
    own = site_sd(whole.sigma, 1.0, noise, sites)
    if noise == "local":
        return Explained(said, noise, sites, own, own * math.sqrt(sites), {}, None)
    parts = [gaussian(whole.sigma, whole.steps, q=whole.q, honest_sites=sites)]
    return Explained(
        said,
        noise,
        sites,
        own,
        own * math.sqrt(sites),
        epsilon_if_sites_collude(parts, delta, sites),
        epsilon_if_coordinator_and_site_collude(parts, delta),
    )
