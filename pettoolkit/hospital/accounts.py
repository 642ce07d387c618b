"""Where a hospital keeps account of what was spent on its patients: one ledger a run, one for its lifetime."""

from __future__ import annotations

from pathlib import Path

from pettoolkit.hospital.site import Site
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.ledger import Budget, FileLedger, FileLifetime, Ledger, Lifetime
from pettoolkit.privacy.noise import NoiseSource, SeededNoise, SystemNoise


def ledger_of(site: Site, run: str, budget: Budget, plan: Mechanism | None = None) -> Ledger:
    """This hospital's ledger of a run: a file in its own folder if it has one, else in memory.

    Raises
    ------
    Refused
        If the ledger on the disk was opened with another budget.
    """
    if run not in site.ledgers:
        lifetime = _lifetime(site)
        if site.folder is None:
            site.ledgers[run] = Ledger(site.name, run, budget, plan, lifetime)
        else:
            path = _file(site.folder / "ledgers", run)
            site.ledgers[run] = FileLedger(path, site.name, run, budget, plan, lifetime)
    return site.ledgers[run]


def known_ledger(site: Site, run: str) -> Ledger | None:
    """This hospital's ledger of a run that has begun, in this process or in another one; None if there is none.

    Raises
    ------
    Refused
        If the ledger on the disk can't be read.
    """
    if run not in site.ledgers and site.folder is not None:
        budget = FileLedger.budget_of(_file(site.folder / "ledgers", run))
        if budget is not None:
            return ledger_of(site, run, budget)
    return site.ledgers.get(run)


def noise_of(site: Site, seed: int, mode: str) -> NoiseSource:
    """The system's entropy in a deployed hospital; in simulations a stream of the run's seed and this site."""
    return SystemNoise() if site.system_noise else SeededNoise(seed, site.name, mode)


def _lifetime(site: Site) -> Lifetime | None:
    """The cap is counted at the policy's own delta: at one that a run brings it would mean what the run likes."""
    if site.policy.lifetime_epsilon is None:
        return None
    cap = Budget(site.policy.lifetime_epsilon, site.policy.lifetime_delta)
    if site.folder is not None:
        return FileLifetime(_file(site.folder, "lifetime"), cap)
    if site.lifetime is None:
        site.lifetime = Lifetime(cap)
    return site.lifetime


def _file(folder: Path, name: str) -> Path:
    """Where a ledger is; one of an earlier version, which had another name, is moved there and read."""
    path, before = folder / f"{name}.ledger", folder / f"{name}.json"
    if before.exists() and not path.exists():
        before.replace(path)
    return path
