"""Gradient descent on noisy sums: one step for local, pooled and federated training alike.

Fixed steps, no early stopping, no metric of training rows: whatever is computed from private rows comes
out of a ledger. The only other thing known of them is how many patients there are, which is public.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pettoolkit.errors import Refused
from pettoolkit.models.dense import Params
from pettoolkit.privacy.events import Identity, Mechanism, input_hash
from pettoolkit.privacy.gradients import GradientEngine
from pettoolkit.privacy.ledger import Ledger
from pettoolkit.privacy.noise import Draw, NoiseSource, add_gaussian, site_sd


@dataclass(frozen=True)
class DpTraining:
    """How a differentially private model is trained.

    Parameters
    ----------
    steps
        Number of noisy sums in the whole run, T.
    clip
        Largest L2 norm of a patient's gradient, C.
    learning_rate
        Of the mean gradient.
    momentum
        Share of the last step that is kept in the next; 0 is plain descent.
    average_from
        Share of the steps after which the iterates are averaged: the model is their mean, which
        removes most of the noise of the last steps.
    """

    steps: int
    clip: float
    learning_rate: float
    momentum: float = 0.0
    average_from: float = 0.5


class Descent:
    """The outer half of a step: from mean gradients to a model. Sees noisy values only.

    Parameters
    ----------
    params
        Starting point; not changed.
    """

    def __init__(self, params: Params, training: DpTraining) -> None:
        self.training = training
        self.params = {name: value.clone() for name, value in params.items()}
        self._velocity = {name: torch.zeros_like(value) for name, value in params.items()}
        self._total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()}
        self._averaged = self._done = 0

    def step(self, gradient: Params) -> None:
        """Move against the mean gradient."""
        if self.training.momentum:
            kept = {name: self.training.momentum * v for name, v in self._velocity.items()}
            gradient = self._velocity = {name: kept[name] + g for name, g in gradient.items()}
        for name, value in self.params.items():
            self.params[name] = torch.sub(value, gradient[name], alpha=self.training.learning_rate)
        self._done += 1
        if self._done > self.training.average_from * self.training.steps:
            self._averaged += 1
            for name, value in self.params.items():
                self._total[name] += value

    def result(self) -> Params:
        """Mean of the iterates after ``average_from`` of the steps (the last iterate before that)."""
        if not self._averaged:
            return dict(self.params)
        return {name: (self._total[name] / self._averaged).to(v.dtype) for name, v in self.params.items()}


@dataclass(frozen=True)
class PrivateRows:
    """One place's training rows, and all that is needed to answer questions about them with noise.

    Parameters
    ----------
    engine
        Computes clipped sums.
    x, y
        Rows of shape (n, ...) and outcomes of shape (n,).
    noise
        Where this place's noise comes from.
    mode
        Who adds noise, see :func:`pettoolkit.privacy.noise.site_sd`.
    patient
        Shape (n,): whose row it is; None: every row is a patient.
    """

    engine: GradientEngine
    x: Tensor
    y: Tensor
    noise: NoiseSource
    mode: str = "local"
    patient: Tensor | None = None

    def noisy_sum(self, params: Params, mechanism: Mechanism, draw: Draw) -> Params:
        """Clip, sum, add noise: one step of ``mechanism``, whose sensitivity is the clipping norm.

        Call it inside :meth:`Ledger.answer` only. It always answers: a refusal that depended on rows would tell of
        them what no noise hides (:func:`check_model` comes before).
        """
        x, y, patient = self._sample(mechanism.q, draw)
        clipped = self.engine.clipped_sum(params, x, y, mechanism.sensitivity, patient)
        sd = (
            site_sd(mechanism.sigma, mechanism.sensitivity, self.mode, mechanism.honest_sites)
            if mechanism.sigma
            else 0.0
        )
        return add_gaussian(clipped.gradient, sd, self.noise, draw)

    def _sample(self, q: float, draw: Draw) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take each patient, with all rows, with probability q, independently: a Poisson sample."""
        if q == 1:
            return self.x, self.y, self.patient
        if self.patient is None:
            chosen = torch.from_numpy(self.noise.uniforms(draw, len(self.x)) < q)
            return self.x[chosen], self.y[chosen], None
        unique, index = torch.unique(self.patient, return_inverse=True)
        chosen = torch.from_numpy(self.noise.uniforms(draw, len(unique)) < q)[index]
        return self.x[chosen], self.y[chosen], self.patient[chosen]


def mean_gradient(noisy_sum: Params, patients: int, q: float = 1.0) -> Params:
    """Divide a noisy sum by the expected number of patients in it: public count times sampling probability."""
    return {name: value / (patients * q) for name, value in noisy_sum.items()}


def private_gradient(rows: PrivateRows, params: Params, mechanism: Mechanism, patients: int, draw: Draw) -> Params:
    """Compute the noisy mean gradient of one step; see :meth:`PrivateRows.noisy_sum`."""
    return mean_gradient(rows.noisy_sum(params, mechanism, draw), patients, mechanism.q)


def check_model(params: Params, shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Refuse a model that can't be trained on, whatever the rows are: before the ledger is asked and rows are read.

    Were it judged by what becomes of the rows, the refusal itself would be an answer about them, without noise: an
    infinite weight on one feature spoils the gradients of those patients only in whom that feature is not zero.

    Parameters
    ----------
    shapes
        Shape of each parameter; None: not checked.

    Raises
    ------
    Refused
        Naming the first parameter that is missing, unknown, of another shape, or not finite.
    """
    if shapes is not None:
        for name in sorted({*params, *shapes}):
            given = tuple(params[name].shape) if name in params else "missing"
            wanted = tuple(shapes[name]) if name in shapes else "unknown here"
            if given != wanted:
                raise Refused(f"dp: {name} of the model that came with the request is {given}, it should be {wanted}")
    for name, value in params.items():
        if not bool(torch.isfinite(value).all()):
            raise Refused(
                f"dp: the model that came with the request is not finite ({name}); the round before it went wrong"
            )


def answer_round(
    rows: PrivateRows, ledger: Ledger, params: Params, mechanism: Mechanism, round_: int, purpose: str = "training"
) -> Params:
    """Answer one federated round with a noisy sum: refused, stored or computed, as the ledger says.

    Parameters
    ----------
    params
        The shared model of this round.
    mechanism
        Of the whole run; one step of it is spent here.

    Raises
    ------
    Refused
        If the model is not finite, or the ledger can't afford the step; either way no row was read.
    """
    check_model(params)
    one = mechanism.times(1)
    identity = _identity(ledger, round_, purpose, params, one, rows)
    answer = ledger.answer(
        identity,
        one,
        lambda attempt: pack(rows.noisy_sum(params, one, Draw(purpose, round_, attempt))),
        simulated=rows.noise.simulated,
    )
    return unpack(answer)


def train_private(
    rows: PrivateRows,
    ledger: Ledger,
    params: Params,
    mechanism: Mechanism,
    training: DpTraining,
    patients: int,
    *,
    round_: int = 0,
    purpose: str = "training",
) -> Params:
    """Train in one place (one hospital, pooled records, synthetic rows); the model is one answer of the ledger.

    Parameters
    ----------
    params
        Starting point, made without looking at private rows; not changed.
    mechanism
        All ``training.steps`` steps, with ``sensitivity = training.clip``.
    patients
        Public number of patients; gradients are divided by it, not by how many were seen.
    round_
        Of federated training with local steps; 0 where all training is one piece.

    Raises
    ------
    Refused
        If the ledger can't afford the steps, mechanism and training do not fit together, or the starting point is
        not finite; no row was read then.
    """
    check_model(params)
    if (mechanism.steps, mechanism.sensitivity) != (training.steps, training.clip):
        raise Refused(
            f"dp: noise was calibrated for {mechanism.steps} steps at clip {mechanism.sensitivity:g}, "
            f"training makes {training.steps} at {training.clip:g}"
        )

    def train(attempt: int) -> bytes:
        descent = Descent(params, training)
        for step in range(training.steps):
            draw = Draw(purpose, round_, attempt, step)
            descent.step(private_gradient(rows, descent.params, mechanism, patients, draw))
        return pack(descent.result())

    identity = _identity(ledger, round_, purpose, params, mechanism, rows, patients, training)
    return unpack(ledger.answer(identity, mechanism, train, simulated=rows.noise.simulated))


def pack(params: Params) -> bytes:
    """Turn named arrays into bytes, exactly (safetensors)."""
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in params.items()})


def unpack(data: bytes) -> Params:
    """Turn the bytes of :func:`pack` into named arrays."""
    from safetensors.torch import load

    return dict(load(data))


def _identity(
    ledger: Ledger,
    round_: int,
    purpose: str,
    params: Params,
    mechanism: Mechanism,
    rows: PrivateRows,
    patients: int = 0,
    training: DpTraining | None = None,
) -> Identity:
    settings = {
        "mechanism": dataclasses.asdict(mechanism),
        "mode": rows.mode,
        "patients": patients,
        "training": dataclasses.asdict(training) if training is not None else {},
    }
    return Identity(ledger.run, ledger.site, round_, purpose, input_hash(params, **settings))
