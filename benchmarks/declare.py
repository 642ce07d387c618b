"""How long a quality declaration takes, step by step: a made-up table of 10,000 patients and 25 columns by default.

    python benchmarks/declare.py [--rows 10000] [--columns 25] [--models] [--quick] [--json FILE]

The synthetic table is a second draw of the same made-up patients, so that every figure ought to be at its noise floor.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.declaration import Given, declare
from pettoolkit.evaluation.quality.mode import FULL, QUICK, Steps

OTHERS = 6  # age, sex, two more 0/1 columns, a category, and the outcome


def contract(columns: int) -> Contract:
    """Describe a table of so many columns, the outcome included."""
    numbers = [Column(name=f"lab{i}", low=0, high=200, integer=i % 3 == 0) for i in range(columns - OTHERS)]
    return Contract(
        name="made-up",
        prevalence=0.1,
        columns=(
            Column(name="age", low=18, high=100, integer=True, missing="never", quasi_identifier=True),
            Column(name="sex", kind="binary", missing="never", quasi_identifier=True),
            *numbers,
            Column(name="diabetes", kind="binary"),
            Column(name="smoker", kind="binary"),
            Column(name="ward", kind="category", levels=("medical", "surgical", "other")),
            Column(name="died", kind="binary", role="outcome"),
        ),
    )


def patients(rows: int, columns: int, seed: int) -> pd.DataFrame:
    """Draw patients whose labs hang together and tell something about the outcome; a fifth of the labs is missing."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(rows)
    labs = {}
    for i in range(columns - OTHERS):
        values = np.clip(100 + 15 * (severity + rng.standard_normal(rows)), 0, 200)
        values = np.rint(values) if i % 3 == 0 else np.round(values, 1)
        labs[f"lab{i}"] = np.where(rng.random(rows) < 0.2, np.nan, values)
    risk = 1 / (1 + np.exp(-(1.2 * severity - 2.8)))
    return pd.DataFrame(
        {
            "age": rng.integers(18, 95, rows).astype(float),
            "sex": rng.integers(0, 2, rows).astype(float),
            **labs,
            "diabetes": (rng.random(rows) < 0.2).astype(float),
            "smoker": (rng.random(rows) < 0.3).astype(float),
            "ward": rng.choice(["medical", "surgical", "other"], rows),
            "died": (rng.random(rows) < risk).astype(float),
        }
    )


def main() -> None:
    """Time one declaration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=25)
    parser.add_argument("--models", action="store_true", help="rank eight models as well")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    real, made = (patients(asked.rows, asked.columns, seed) for seed in (0, 1))
    given = Given(real, {"second draw": made}, contract(asked.columns))

    began, burnt = time.perf_counter(), time.process_time()
    steps: list[tuple[str, float]] = []
    say = Steps(lambda doing, done, total: steps.append((doing, time.perf_counter())))
    found = declare(given, mode=QUICK if asked.quick else FULL, ranks=asked.models, steps=say)
    seconds, cpu = time.perf_counter() - began, time.process_time() - burnt

    ends = [at for _, at in steps[1:]]
    took = [(doing, end - start) for (doing, start), end in zip(steps[:-1], ends, strict=True)]
    for doing, each in took:
        print(f"{each:7.2f} s  {doing}")
    cores = len(os.sched_getaffinity(0))
    made_of = f"{asked.rows} x {asked.columns}, {found.mode}{', --models' if asked.models else ''}"
    print(f"{seconds:7.2f} s  in all ({cpu:.1f} s of CPU): {made_of}, {cores} cores")
    if asked.json is not None:
        asked.json.write_text(
            json.dumps({"seconds": seconds, "cpu": cpu, "cores": cores, "steps": dict(took)}, indent=1)
        )


if __name__ == "__main__":
    main()
