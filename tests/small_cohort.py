"""Three small made-up hospitals for tests of arms and runner: quick, and with something to learn."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flwr.serverapp import Grid

from pettoolkit.arms.app import build_app
from pettoolkit.arms.keyring import key_requests
from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.encryption.keys import create
from pettoolkit.federation.engine import open_grid
from pettoolkit.hospital.site import Site
from pettoolkit.records import DpSpec, ModelSpec, RunSpec

CONTRACT = Contract(
    name="small",
    prevalence=0.2,
    columns=(
        Column(name="patient", role="patient_id"),
        Column(name="age", low=18, high=100, integer=True, missing="never", quasi_identifier=True),
        Column(name="sex", kind="binary", missing="never", quasi_identifier=True),
        Column(name="lactate", low=0.2, high=30, log=True, sensitive=True),
        Column(name="pulse", low=30, high=200),
        Column(name="y", kind="binary", role="outcome"),
    ),
)
SITES = ("east", "north", "west")
CENTRAL = {"epochs": 15, "batch_size": 64, "learning_rate": 0.02}
ROUNDS = {
    "rounds": 6,
    "local_epochs": 1,
    "batch_size": 32,
    "learning_rate": 0.3,
    "momentum": 0.9,
    "proximal_mu": 0.0,
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "local": CENTRAL,
    "pooled": CENTRAL,
    "federated": ROUNDS | {"strategy": "fedavg"},
    "encrypted_aggregation": ROUNDS | {"strategy": "fedavg", "allow_two": False},
    "encrypted_statistics": {"method": "newton", "rounds": 6, "ridge": 1.0, "clip": None, "allow_two": False},
    "encrypted_records": {"rows": 300, "iterations": 3, "learning_rate": 1.5, "allow_two": False},
    "anonymised": CENTRAL | {"k": 3, "scope": "quasi_identifiers"},
    "synthetic": CENTRAL | {"generator": "marginals", "scope": "per_hospital", "rows": None},
    "augmented": CENTRAL | {"generator": "marginals", "scope": "per_hospital", "rows": None, "own_weight": 3},
}


def rows(site: str, n: int = 250) -> pd.DataFrame:
    """Patients whose risk rises with lactate and age, some of them without a measured lactate."""
    rng = np.random.default_rng(SITES.index(site) if site in SITES else 99)
    age = rng.integers(20, 95, n).astype(float)
    lactate = np.exp(rng.normal(0.6, 0.6, n))
    pulse = rng.normal(85, 15, n)
    risk = 1 / (1 + np.exp(-(3.0 * np.log(lactate) + 0.10 * (age - 60) - 3)))
    lactate[rng.random(n) < 0.15] = np.nan
    return pd.DataFrame(
        {
            "patient": [f"{site}-{i}" for i in range(n)],
            "age": age,
            "sex": rng.integers(0, 2, n).astype(float),
            "lactate": lactate,
            "pulse": pulse,
            "y": (rng.random(n) < risk).astype(np.int8),
        }
    )


def spec(arm: str, *, model: str = "logistic", seed: int = 0, dp: DpSpec | None = None, **options: Any) -> RunSpec:
    """A run of one arm over the three hospitals."""
    return RunSpec(
        task="table-outcome",
        arm=arm,
        options={**OPTIONS[arm], **options},
        model=ModelSpec(model, 6 if model == "mlp" else 0),
        features="compact",
        seed=seed,
        sites=SITES,
        dp=dp,
        contract=CONTRACT.model_dump(mode="json"),
        contract_digest=CONTRACT.digest(),
    )


def hospitals(key_for: RunSpec | None = None, **tables: pd.DataFrame) -> dict[str, Site]:
    """The three hospitals; with the shared keys of an encrypted run in hand if one is given."""
    keys = None if key_for is None else carried(key_for)
    return {name: Site(name, tables.get(name, rows(name)), CONTRACT, keys=keys) for name in SITES}


def carried(spec: RunSpec) -> Path:
    """A folder with the key files that a run needs; they serve other runs of the same kind too."""
    folder = Path(tempfile.mkdtemp(prefix="pettoolkit-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for wanted in key_requests("small", [spec]):
        create(folder / wanted.file_name, replace(wanted, use=replace(wanted.use, runs=())))
    return folder


def grid(sites: Mapping[str, Site]) -> AbstractContextManager[Grid]:
    """The hospitals in this process."""
    return open_grid("inline", build_app, sites)
