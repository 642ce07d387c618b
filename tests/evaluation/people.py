"""Patients with scores, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from pettoolkit.evaluation.predictions import SitePredictions


def people(y, score, patient=None, subgroup=None) -> SitePredictions:
    """Predictions with patients numbered from 0 unless told."""
    patient = np.arange(len(y)) if patient is None else patient
    return SitePredictions(patient, np.asarray(y), np.asarray(score, dtype=np.float64), subgroup or {})


def binormal(rng: np.random.Generator, positives: int, negatives: int, separation: float = 1.0) -> SitePredictions:
    """Draw scores whose true AUROC is Phi(separation / sqrt 2)."""
    y = np.r_[np.ones(positives, int), np.zeros(negatives, int)]
    logit = rng.normal(size=len(y)) + separation * y - 3
    return people(y, 1 / (1 + np.exp(-logit)))
