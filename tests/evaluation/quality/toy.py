"""A made-up table with every kind of column, for outcomes of every kind."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract

OUTCOMES = {
    "binary": Column(name="y", kind="binary", role="outcome"),
    "classes": Column(name="y", kind="category", role="outcome", levels=("home", "ward", "died")),
    "number": Column(name="y", role="outcome", low=-10, high=10),
}
WARDS = ("medical", "surgical", "other")


def contract(task: str = "binary", prevalence: float | None = None) -> Contract:
    return Contract(
        name="toy",
        prevalence=prevalence,
        columns=(
            Column(name="age", low=18, high=100, integer=True, missing="never", quasi_identifier=True),
            Column(name="sex", kind="binary", missing="never", quasi_identifier=True),
            Column(name="ward", kind="category", levels=WARDS, quasi_identifier=True),
            Column(name="lactate", low=0.1, high=50, log=True),
            Column(name="pulse", low=0, high=250),
            Column(name="pressure", low=0, high=250),
            OUTCOMES[task],
        ),
    )


def patients(n: int, seed: int, task: str = "binary") -> pd.DataFrame:
    """Pulse and pressure hang together; lactate and pressure tell the outcome; a fifth of lactate is missing."""
    rng = np.random.default_rng([seed, 77])
    latent = rng.standard_normal(n)
    pulse = np.clip(100 + 12 * (latent + 0.5 * rng.standard_normal(n)), 0, 250)
    pressure = np.clip(100 - 12 * (latent + 0.5 * rng.standard_normal(n)), 0, 250)
    lactate = np.clip(np.exp(0.5 + 0.5 * rng.standard_normal(n)), 0.1, 50)
    risk = 2 * (np.log(lactate) - 0.5) + latent
    if task == "binary":
        y: object = (rng.random(n) < 1 / (1 + np.exp(1 - 2 * risk))).astype(float)
    elif task == "classes":
        y = np.array(["home", "ward", "died"], dtype=object)[np.digitize(risk + rng.logistic(0, 0.5, n), [0, 1.5])]
    else:
        y = np.clip(risk + 0.5 * rng.standard_normal(n), -10, 10)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 95, n).astype(float),
            "sex": rng.integers(0, 2, n).astype(float),
            "ward": rng.choice(WARDS, n, p=[0.5, 0.3, 0.2]),
            "lactate": np.where(rng.random(n) < 0.2, np.nan, lactate),
            "pulse": pulse,
            "pressure": pressure,
            "y": y,
        }
    )


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each column in an order of its own: columns by themselves are perfect, and nothing hangs together."""
    rng = np.random.default_rng([seed, 78])
    return pd.DataFrame({name: table[name].to_numpy()[rng.permutation(len(table))] for name in table})
