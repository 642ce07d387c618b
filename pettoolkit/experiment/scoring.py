"""Scoring new patients with a saved model, in the clear or encrypted.

Encrypted, two processes play the two sides: this one holds the patients and the key; the other gets the model and
ciphertexts, nothing else, and answers with ciphertexts.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, feature_names
from pettoolkit.cohort.patients import new_patients
from pettoolkit.errors import BadInput

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """What passed between the two sides of encrypted scoring, and how long each took."""

    ciphertexts: int
    bytes_up: int
    bytes_down: int
    encrypt_seconds: float
    score_seconds: float
    decrypt_seconds: float
    largest_difference: float
    """Between these probabilities and those of scoring in the clear."""

    def lines(self, patients: int) -> tuple[str, ...]:
        """Say it in a few lines, for the terminal."""
        return (
            f"patients' side: {patients} patients encrypted, {self.ciphertexts} ciphertexts, "
            f"{self.bytes_up / 1e6:.2f} MB out, {self.encrypt_seconds:.2f} s",
            "scoring side: a process of its own, with the model and these ciphertexts and without patients or key; "
            f"{self.bytes_down / 1e6:.2f} MB back, {self.score_seconds:.2f} s",
            f"patients' side: decrypted in {self.decrypt_seconds:.2f} s; no score differs by more than "
            f"{self.largest_difference:.1g} from scoring in the clear",
        )


@dataclass(frozen=True)
class Scored:
    """Probabilities of new patients, in the order of their table; ``traffic`` is None in the clear."""

    patients: tuple[str, ...]
    scores: Floats
    traffic: Traffic | None = None

    def table(self) -> pd.DataFrame:
        """One row per patient."""
        return pd.DataFrame({"patient": self.patients, "score": self.scores})


def score(
    weights: Path, table: Path, *, contract: str | None = None, encrypted: bool = False, key: Path | None = None
) -> Scored:
    """Score the patients of a table.

    Parameters
    ----------
    weights
        ``weights.safetensors`` of a finished run.
    table, contract
        See :func:`pettoolkit.cohort.patients.new_patients`.
    encrypted
        Whether the scoring side gets ciphertexts.
    key
        Key file of the patients' side (``pettoolkit keys create scoring``); one for this call alone if not given.

    Raises
    ------
    BadInput
        If the model, the table or the key can't be used.
    """
    if key is not None and not encrypted:
        raise BadInput("--key belongs to --encrypted: in the clear there is nothing to decrypt")
    model = _model(weights)
    forest = "root" in model
    if forest and encrypted:
        raise BadInput(
            f"{weights}: gradient boosting compares values, which these ciphertexts can't; encrypted scoring takes "
            "logistic regression (score this one without --encrypted)"
        )
    rows, full = new_patients(table, contract)
    if forest:
        return Scored(_names(rows, full), _forest_scores(model, rows, full, weights))
    x = encode(rows, _fitting(full, model, weights)).astype(np.float64)
    clear = _probabilities(_logits(model, x))
    patients = _names(rows, full)
    if not encrypted:
        return Scored(patients, clear)
    if len(model) != 2:
        raise BadInput(f"{weights}: encrypted scoring takes logistic regression; score this one without --encrypted")
    return _encrypted(patients, x, clear, model, key)


def _encrypted(patients: tuple[str, ...], x: Floats, clear: Floats, model: dict[str, Any], key: Path | None) -> Scored:
    from pettoolkit.encryption import scoring
    from pettoolkit.encryption.keys import SCORING, KeyUse, SecretKey

    secret = SecretKey.create(scoring.scheme(), KeyUse(SCORING)) if key is None else SecretKey.load(key)
    if secret.use.purpose != SCORING:
        raise BadInput(f"{key}: this key is for {secret.use}, not for {SCORING} (`pettoolkit keys create {SCORING}`)")
    began = time.perf_counter()
    groups = scoring.encrypt_patients(secret, x)
    sent = time.perf_counter()
    linear = (model["layer0.weight"][0].astype(np.float64), float(model["layer0.bias"][0]))
    with multiprocessing.get_context("spawn").Pool(1) as other:  # spawned: it inherits neither patients nor key
        other.apply(_ready)
        started = time.perf_counter()
        answers = other.apply(scoring.score_all, (groups, *linear))
        answered = time.perf_counter()
    scores = _probabilities(np.concatenate([scoring.decrypt_logits(secret, answer) for answer in answers]))
    traffic = Traffic(
        ciphertexts=sum(map(len, groups)),
        bytes_up=sum(len(blob) for group in groups for blob in group),
        bytes_down=sum(map(len, answers)),
        encrypt_seconds=sent - began,
        score_seconds=answered - started,
        decrypt_seconds=time.perf_counter() - answered,
        largest_difference=float(np.abs(scores - clear).max()),
    )
    return Scored(patients, scores, traffic)


def _ready() -> None:
    """Wait until the other process runs, so that its start is not counted."""


def _model(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: can't be read as weights of a run ({error})") from None
    if any("/" in name for name in arrays):
        raise BadInput(f"{path}: holds one model per hospital; take a run whose hospitals share one")
    if "layer0.weight" not in arrays and "root" not in arrays:
        raise BadInput(f"{path}: holds no model of ours (there is neither layer0.weight nor root)")
    return arrays


def _fitting(full: Contract, model: dict[str, Any], path: Path) -> Contract:
    """The feature set for which the model was trained, told by the number of its features."""
    wanted = model["layer0.weight"].shape[1]
    for features in ("compact", "full"):
        narrowed = full.select("full" if features == "full" else "compact")
        if len(feature_names(narrowed)) == wanted:
            return narrowed
    raise BadInput(f"{path}: the model has {wanted} features, which is no feature set of contract {full.name}")


def _forest_scores(model: dict[str, Any], rows: pd.DataFrame, full: Contract, path: Path) -> Floats:
    """Score with gradient boosting, whose trees do not tell how many features there were: the run's result does."""
    from pettoolkit.models.boosting import Forest

    beside = path.with_name("result.json")
    try:
        features = json.loads(beside.read_text(encoding="utf-8"))["spec"]["features"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{path}: gradient boosting does not tell its feature set; leave result.json of the same run beside it"
        ) from None
    narrowed = full.select("full" if features == "full" else "compact")
    try:
        forest = Forest.of(model, len(feature_names(narrowed)))
    except ValueError as error:
        raise BadInput(f"{path}: is no model for contract {full.name} ({error})") from None
    return forest.scores(encode(rows, narrowed))


def _logits(model: dict[str, Any], x: Floats) -> Floats:
    depth = len(model) // 2
    for i in range(depth):
        x = x @ model[f"layer{i}.weight"].T.astype(np.float64) + model[f"layer{i}.bias"]
        x = np.maximum(x, 0.0) if i < depth - 1 else x
    return x[:, 0]


def _probabilities(logits: Floats) -> Floats:
    scores: Floats = 1.0 / (1.0 + np.exp(-logits))
    return scores


def _names(rows: pd.DataFrame, contract: Contract) -> tuple[str, ...]:
    column = contract.named("patient_id")
    if column is None or column not in rows:
        return tuple(str(i) for i in range(1, len(rows) + 1))
    return tuple(str(name) for name in rows[column])
