"""From shadow models' scores to one number per patient: how likely he or she was in the training rows.

All attacks see the *margin*, the logit of the true outcome, ``(2 y - 1) logit`` = log p_y / (1 - p_y), of each patient
in the attacked model and in every shadow, and which shadows had the patient. To attack a shadow itself (to train
the stacked attack, or to see how the attack does on other models of the same kind), it is left out of what is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PRIOR = 8.0
"""Weight of the pooled variance against each patient's own: so many shadows. Few shadows know little of a spread."""

FEWEST = 2
"""Shadows with, and without, a patient below which nothing is said about him or her."""


@dataclass(frozen=True)
class Margins:
    """Margins of the targets in the shadows, of shape (shadows, targets), and who was in which."""

    margin: Floats
    inside: Bools

    def known(self, left_out: int | None = None) -> Known:
        """What all shadows, or all but one, say of each target."""
        keep = np.ones(len(self.margin), dtype=bool)
        if left_out is not None:
            keep[left_out] = False
        return Known.of(self.margin[keep], self.inside[keep])


@dataclass(frozen=True)
class Known:
    """Per target: mean margin with and without him or her, SDs, and mean probability of the true outcome."""

    mean_in: Floats
    mean_out: Floats
    sd_in: Floats
    sd_out: Floats
    probability: Floats
    enough: Bools

    @classmethod
    def of(cls, margin: Floats, inside: Bools) -> Known:
        """From the shadows' margins, shape (shadows, targets)."""
        p = np.exp(-np.logaddexp(0.0, -margin))
        mean_in, sd_in, n_in = _moments(margin, inside)
        mean_out, sd_out, n_out = _moments(margin, ~inside)
        share_in = (p * inside).sum(0) / np.maximum(1, n_in)
        share_out = (p * ~inside).sum(0) / np.maximum(1, n_out)
        enough = (n_in >= FEWEST) & (n_out >= FEWEST)
        return cls(mean_in, mean_out, sd_in, sd_out, (share_in + share_out) / 2, enough)

    @property
    def exposed(self) -> Floats:
        """How far apart a patient's margins are with and without him or her, in SDs: who is at risk."""
        apart: Floats = np.abs(self.mean_in - self.mean_out) / np.sqrt((self.sd_in**2 + self.sd_out**2) / 2)
        return np.where(self.enough, apart, 0.0)


def lira(margin: Floats, known: Known) -> Floats:
    """Likelihood ratio of two normals, with and without the patient.

    Carlini et al. 2022 (arXiv:2112.03570); each patient's variance is shrunk towards the pooled one.
    """
    inside = -np.log(known.sd_in) - (margin - known.mean_in) ** 2 / (2 * known.sd_in**2)
    outside = -np.log(known.sd_out) - (margin - known.mean_out) ** 2 / (2 * known.sd_out**2)
    ratio: Floats = np.where(known.enough, inside - outside, 0.0)
    return ratio


def rmia(margin: Floats, known: Known, population: Floats) -> Floats:
    """Share of other patients over whom this one's likelihood ratio wins.

    Zarifzadeh, Liu and Shokri 2024 (arXiv:2312.03262), online, gamma = 1.

    Parameters
    ----------
    population
        Log likelihood ratios (:func:`log_ratio`) of patients who were in nobody's training rows.
    """
    own = log_ratio(margin, known.probability)
    ranked = np.sort(population)
    below = np.searchsorted(ranked, own, side="left") + np.searchsorted(ranked, own, side="right")
    # ties among those beyond the population's range are broken by the ratio itself
    wins: Floats = below / (2 * len(ranked)) + 1e-6 * own
    return np.where(known.enough, wins, 0.5)


def log_ratio(margin: Floats, probability: Floats) -> Floats:
    """Log of p(true outcome | attacked model) over its mean in the shadows."""
    ratio: Floats = -np.logaddexp(0.0, -margin) - np.log(np.maximum(probability, 1e-12))
    return ratio


def loss_threshold(margin: Floats) -> Floats:
    """Minus the loss on the patient: Yeom et al. 2018 (arXiv:1709.01604), which knows no shadow."""
    score: Floats = -np.logaddexp(0.0, -margin)
    return score


def features(margin: Floats, known: Known) -> Floats:
    """What the stacked attack looks at, shape (targets, 6)."""
    apart = (known.mean_in - known.mean_out) / known.sd_out
    surprise = (margin - known.mean_out) / known.sd_out
    ratio = lira(margin, known)
    columns: Floats = np.column_stack(
        [
            np.clip(ratio, -20, 20),
            np.clip(log_ratio(margin, known.probability), -5, 5),
            np.clip(surprise, -10, 10),
            np.clip(surprise * apart, -20, 20),
            np.clip(apart, -10, 10),
            np.clip(loss_threshold(margin), -10, 0),
        ]
    )
    columns[~known.enough] = 0.0
    return columns


@dataclass(frozen=True)
class Stacked:
    """LiRA, RMIA and loss in one logistic regression, trained on shadows that were attacked like the target."""

    weights: Floats
    centre: Floats
    scale: Floats

    @classmethod
    def fit(cls, rows: Floats, inside: Bools) -> Stacked:
        """Fit on features (n, f) of shadows' targets and whether they were in (n,)."""
        centre, scale = rows.mean(0), rows.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        x = np.column_stack([np.ones(len(rows)), (rows - centre) / scale])
        y = inside.astype(np.float64)
        weights = np.zeros(x.shape[1])
        ridge = np.full(x.shape[1], 1.0)
        for _ in range(10):  # Newton's method: six weights and many rows converge in a few steps
            p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
            hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
            weights = weights + np.linalg.solve(hessian, x.T @ (y - p) - ridge * weights)
        return cls(weights, centre, scale)

    def score(self, rows: Floats) -> Floats:
        """Log odds of membership of rows (n, f)."""
        scores: Floats = self.weights[0] + ((rows - self.centre) / self.scale) @ self.weights[1:]
        return scores


def _moments(margin: Floats, mask: Bools) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Mean, shrunk SD and count over the shadows of a mask, each of shape (targets,)."""
    count = mask.sum(0)
    mean = (margin * mask).sum(0) / np.maximum(1, count)
    squares = (((margin - mean) ** 2) * mask).sum(0)
    pooled = squares.sum() / max(1, int(np.maximum(0, count - 1).sum()))
    variance = (squares + PRIOR * pooled) / np.maximum(1.0, count - 1 + PRIOR)
    return mean, np.sqrt(np.maximum(variance, 1e-12)), count
