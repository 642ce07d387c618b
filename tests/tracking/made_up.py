"""Results of cells that never ran, for the tests of this folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pettoolkit.records import (
    Cost,
    Exposure,
    Guarantee,
    Interval,
    ModelSpec,
    NotMeasured,
    PrivacyStatement,
    RunResult,
    RunSpec,
    Traffic,
)

WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}
IDENTITY = {"spec_hash": "spec", "digests": {"north": "aa", "south": "bb"}, "contract_digest": "contract"}
GUARANTEE = Guarantee(epsilon=3.0, epsilon_replace_one=5.0, delta=1e-5, accountant="pld", mechanism="gaussian")


def spec(**changes: Any) -> RunSpec:
    made = RunSpec(
        task="sepsis-landmark",
        arm="federated",
        options={"strategy": "fedavg", "rounds": 30},
        model=ModelSpec("logistic"),
        features="compact",
        seed=0,
        sites=("north", "south"),
        contract={"prevalence": 0.05},
        contract_digest="contract",
        experiment="example",
    )
    return dataclasses.replace(made, **changes)


def result(config_hash: str = "hash", auroc: float = 0.712345, **changes: Any) -> RunResult:
    made = RunResult(
        spec=spec(),
        config_hash=config_hash,
        metrics={"utility/auroc": auroc, "cost/bytes_out_per_site": 12345.0, "encryption/max_error": 1.23456e-7},
        intervals={"utility/auroc": Interval(auroc - 0.05, auroc + 0.05)},
        per_site={"north": {"auroc": auroc}, "south": {"auroc": NotMeasured("undefined: one class at this site")}},
        cross_site=NotMeasured("one model is shared by all hospitals"),
        subgroups={},
        privacy=PrivacyStatement(NotMeasured("no differential privacy"), "the coordinator", "updates", "no"),
        exposure=Exposure((Traffic("north", "out", "update", "training", 30, 4000),), ("keys, out of band",)),
        cost=Cost(train_seconds=1.5, extra={"encrypt_seconds": 0.25}),
        round_metrics={"loss": (0.5, 0.4, 0.3)},
    )
    return dataclasses.replace(made, **changes)


def log(store: Any, experiment: str = "example", made: RunResult | None = None, **changes: Any) -> str:
    made = made or result()
    given = {"predictions": b"npz", "weights": WEIGHTS, "config_text": "name: example\n", "identity": IDENTITY}
    return str(store.log_cell(experiment, made, **{**given, **changes}))
