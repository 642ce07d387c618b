"""Small tables with a contract that has one column of every kind."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract

CONTRACT = Contract(
    name="toy",
    prevalence=0.2,
    columns=(
        Column(name="id", role="patient_id", kind="category"),
        Column(name="HR", low=30, high=200),
        Column(name="Lactate", low=0.2, high=30, log=True),
        Column(name="Delay", low=-2000, high=0, log=True, missing="zero"),
        Column(name="Age", low=18, high=100, integer=True, missing="never", quasi_identifier=True),
        Column(name="Gender", kind="binary", missing="never", quasi_identifier=True),
        Column(name="Ward", kind="category", levels=("north", "south", "east"), quasi_identifier=True),
        Column(name="Sepsis", kind="binary", role="outcome"),
    ),
)

NAMES = ["HR", "Lactate", "Delay", "Age", "Gender", "Ward", "Sepsis"]


def people(n: int, seed: int = 0, positives: int | None = None) -> pd.DataFrame:
    """``n`` patients: the septic ones have a faster heart and a higher, more often measured lactate."""
    rng = np.random.default_rng(seed)
    positives = n // 5 if positives is None else positives
    y = (np.arange(n) < positives).astype(np.int8)
    heart = 85 + 15 * y + 12 * rng.standard_normal(n)
    lactate = np.exp(0.4 + 0.5 * y + 0.02 * (heart - 85) + 0.3 * rng.standard_normal(n))
    lactate[rng.random(n) < np.where(y == 1, 0.3, 0.7)] = np.nan
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "HR": heart,
            "Lactate": lactate,
            "Delay": -np.exp(rng.normal(1.0, 1.5, n)),
            "Age": np.clip(np.rint(rng.normal(62, 15, n)), 18, 100),
            "Gender": (rng.random(n) < 0.55).astype(float),
            "Ward": rng.choice(np.array(["north", "south", "east", None], dtype=object), n),
            "Sepsis": y,
        }
    )
