"""Made-up patients for attacks: one column of every kind, secrets, and groups of people for a small view."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pettoolkit.attacks.protocol import Attack, Effort, Finding, Group, NotRun, People, TableView, attacks_for
from pettoolkit.cohort.contract import Column, Contract

CONTRACT = Contract(
    name="toy",
    prevalence=0.2,
    columns=(
        Column(name="id", role="patient_id", kind="category"),
        Column(name="pulse", low=30, high=200, sensitive=True),
        Column(name="lactate", low=0.2, high=30, log=True, sensitive=True),
        Column(name="delay", low=-2000, high=0, log=True, missing="zero"),
        Column(name="age", low=18, high=100, integer=True, missing="never", quasi_identifier=True),
        Column(name="sex", kind="binary", missing="never", quasi_identifier=True),
        Column(name="ward", kind="category", levels=("north", "south", "east, new"), quasi_identifier=True),
        Column(name="sepsis", kind="binary", role="outcome"),
    ),
)
NAMES = [c.name for c in CONTRACT.columns if c.name != "id"]
COLUMNS = (*CONTRACT.feature_columns, CONTRACT.outcome)


def people_rows(n: int, seed: int) -> pd.DataFrame:
    """``n`` patients: the septic ones have a faster heart and a higher, more often measured lactate."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(np.int8)
    pulse = np.clip(85 + 15 * y + 15 * rng.standard_normal(n), 30, 200)
    lactate = np.clip(np.exp(0.4 + 0.5 * y + 0.5 * rng.standard_normal(n)), 0.2, 30)
    lactate[rng.random(n) < np.where(y == 1, 0.3, 0.6)] = np.nan
    return pd.DataFrame(
        {
            "pulse": pulse,
            "lactate": lactate,
            "delay": np.clip(-np.exp(rng.normal(1.0, 1.5, n)), -2000, 0),
            "age": np.clip(np.rint(rng.normal(62, 15, n)), 18, 100),
            "sex": (rng.random(n) < 0.55).astype(float),
            "ward": rng.choice(np.array(["north", "south", "east, new", None], dtype=object), n),
            "sepsis": y,
        }
    )


def group(n: int, seed: int) -> Group:
    """Fresh patients with numbers of their own."""
    return Group(people_rows(n, seed), np.arange(n) + 100_000 * seed, np.full(n, "east"))


def people(n: int, seed: int = 1) -> People:
    """As many members as control patients, and half as many that the attacker owns."""
    return People(group(n, seed), group(n, seed + 1), group(n // 2, seed + 2))


def view(source: str = "synthetic", **releases: pd.DataFrame) -> TableView:
    """A view of released tables."""
    return TableView(CONTRACT, releases=releases, source=source)


def everything(seen: TableView, whom: People, attacks: int = 400, seed: int = 0) -> Mapping[str, Finding]:
    """All attacks on a view, by name; those that do not run are left out."""
    out: dict[str, Finding] = {}
    for attack in attacks_for(seen):
        try:
            for found in attack.run(seen, whom, Effort(attacks=attacks, seed=seed)):
                out[attack.name] = found
        except NotRun:
            continue
    return out


def one(name: str, seen: TableView, whom: People, attacks: int = 400, seed: int = 0) -> Finding:
    """One attack on a view."""
    chosen: Attack = next(a for a in attacks_for(seen) if a.name == name)
    (found,) = chosen.run(seen, whom, Effort(attacks=attacks, seed=seed))
    return found
