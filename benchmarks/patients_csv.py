"""Write the real stays of PhysioNet/CinC 2019 as somebody's own tables: two CSV files and their contract.

    python benchmarks/patients_csv.py data/physionet2019 FOLDER [--holdout 7000]

One row per stay after the 12-hour landmark, feature set ``compact``, values clipped to the contract's bounds, in random
order: ``real.csv`` and ``holdout.csv``, to try `synthesize`, `declare` and `attack` on. FOLDER must not be in git.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import yaml

from pettoolkit.cohort.contract import Column
from pettoolkit.cohort.source import load_cohort


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--holdout", type=int, default=7000)
    asked = parser.parse_args()

    cohort = load_cohort("physionet2019", asked.data, "unit")
    described = cohort.contract.select("compact")
    kept = [c for c in described.columns if c.role in ("patient_id", "feature", "outcome")]
    rows = pd.concat([h.rows.assign(hospital=name) for name, h in cohort.hospitals.items()], ignore_index=True)
    for column in described.feature_columns:
        if column.kind == "number":
            rows[column.name] = rows[column.name].clip(column.low, column.high)
    site = Column(name="hospital", role="site")
    contract = described.model_copy(update={"name": "sepsis-rows", "columns": (*kept, site)})

    asked.folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(contract.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    (asked.folder / "contract.yaml").write_text(text, encoding="utf-8")
    mixed = rows[[c.name for c in contract.columns]].sample(frac=1, random_state=0)
    mixed.iloc[asked.holdout :].to_csv(asked.folder / "real.csv", index=False)
    mixed.iloc[: asked.holdout].to_csv(asked.folder / "holdout.csv", index=False)
    print(f"{asked.folder}: real.csv {len(mixed) - asked.holdout}, holdout.csv {asked.holdout} stays, contract.yaml")


if __name__ == "__main__":
    main()
