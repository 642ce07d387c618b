"""The arithmetic of training in rounds, shared by the plain and the encrypted arm, so that they can be compared.

A hospital's contribution to a round is its model after local steps, or its gradient (FedSGD); the
weighted mean over hospitals is the aggregate; a server step turns the aggregate into the next model.
Plain, the server step runs outside; encrypted, it runs inside every hospital, on the decrypted sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import private
from pettoolkit.arms.common import start
from pettoolkit.arms.federated.config import NO_PULL
from pettoolkit.errors import Refused
from pettoolkit.hospital.site import Site
from pettoolkit.models.seeding import torch_generator
from pettoolkit.models.training import sgd_epochs, to_arrays, to_params
from pettoolkit.privacy.optimiser import answer_round, check_model, train_private
from pettoolkit.records import Json, RunSpec

Arrays = Mapping[str, npt.NDArray[Any]]

FEDADAM = {"eta": 0.03, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}
"""FedAdam's server step (Reddi et al. 2021, arXiv:2003.00295); the names are Flower's."""


def settings_of(spec: RunSpec, patients: int | None) -> dict[str, Json]:
    """Strategy, rounds, learning rate and momentum as they are played: written, default, or the rule's under DP.

    ``patients`` is the public number of training patients of all hospitals together (only DP needs it).
    """
    if spec.dp is None:
        return dict(spec.options)
    training = private.training_of(spec, patients or 0)
    rounds, left = divmod(training.steps, int(spec.options["local_epochs"]))
    if left or not rounds:
        raise Refused(
            f"local_epochs: {spec.options['local_epochs']} steps a round do not divide the {training.steps} that the "
            "budget is calibrated for; write rounds"
        )
    return {
        **spec.options,
        "rounds": rounds,
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
    }


def most_rounds(spec: RunSpec) -> int:
    """Most rounds that a run can have, however many patients there turn out to be."""
    return int(spec.options["rounds"]) if spec.dp is None else private.most_steps(spec)


def contribution(
    site: Site, spec: RunSpec, model: Arrays, number: int, patients: int | None = None, *, flipped: bool = False
) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """What one hospital adds to round ``number``, and its count of training patients.

    FedSGD: the mean gradient over all of its training patients. Otherwise: its model after local steps.
    Under DP either comes out of this hospital's ledger, with noise. ``flipped`` trains on swapped outcomes, as a
    poisoned hospital of a simulation does.
    """
    if spec.dp is not None:
        return _private_contribution(site, spec, model, number, patients or 0)
    rows = site.part(spec, "train")
    if flipped:
        rows = replace(rows, y=1 - rows.y)
    net, _ = start(spec, site.narrowed(spec))
    params = to_params(model)
    if spec.options["strategy"] == "fedsgd":
        gradient = net.gradient_sum(params, rows.x, rows.y)
        return {k: (v / max(len(rows), 1)).numpy() for k, v in gradient.items()}, len(rows)
    trained = sgd_epochs(
        net,
        params,
        rows,
        epochs=int(spec.options["local_epochs"]),
        batch_size=int(spec.options["batch_size"]),
        learning_rate=float(spec.options["learning_rate"]),
        proximal_mu=float(spec.options.get("proximal_mu") or 0.0),
        generator=torch_generator(spec.seed, "order", site.name, number),
    )
    return to_arrays(trained), len(rows)


def _private_contribution(
    site: Site, spec: RunSpec, model: Arrays, number: int, patients: int
) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """FedSGD: one noisy clipped sum over the public count of patients. Otherwise: local noisy full-batch steps."""
    if spec.options["strategy"] == "fedprox":
        raise Refused(f"hospital {site.name}: fedprox: {NO_PULL}")
    params = to_params(model)
    check_model(params, start(spec, site.narrowed(spec))[0].shapes())
    rows, ledger, plan, here = private.at_hospital(site, spec, patients)
    if spec.options["strategy"] == "fedsgd":
        noisy = answer_round(rows, ledger, params, plan.mechanism, number)
        return {k: (v / (here * plan.mechanism.q)).numpy() for k, v in noisy.items()}, here
    steps = int(spec.options["local_epochs"])
    training = replace(plan.training, steps=steps, average_from=1.0)
    trained = train_private(rows, ledger, params, plan.mechanism.times(steps), training, here, round_=number)
    return to_arrays(trained), here


@dataclass(frozen=True)
class ServerState:
    """The shared model and the server step's memory (momenta), all float32 arrays by name."""

    model: Arrays
    first: Arrays
    second: Arrays

    @classmethod
    def begin(cls, model: Arrays) -> ServerState:
        """Before the first round."""
        zeros = {k: np.zeros_like(v) for k, v in model.items()}
        return cls(model, zeros, zeros)


def server_step(state: ServerState, aggregate: Arrays, options: Mapping[str, Json], number: int) -> ServerState:
    """The next model from the weighted mean of the hospitals' contributions.

    FedAvg and FedProx take the mean; FedSGD steps along minus the mean gradient with momentum
    (v <- m v + g, w <- w - lr v); FedAdam is Flower's formula, in which round ``number`` counts from 1.
    """
    if options["strategy"] == "fedsgd":
        first = {k: _f32(float(options["momentum"]) * state.first[k] + g) for k, g in aggregate.items()}
        model = {k: _f32(w - float(options["learning_rate"]) * first[k]) for k, w in state.model.items()}
        return ServerState(model, first, state.second)
    if options["strategy"] == "fedadam":
        b1, b2 = FEDADAM["beta_1"], FEDADAM["beta_2"]
        delta = {k: aggregate[k] - w for k, w in state.model.items()}
        first = {k: _f32(b1 * state.first[k] + (1 - b1) * d) for k, d in delta.items()}
        second = {k: _f32(b2 * state.second[k] + (1 - b2) * d**2) for k, d in delta.items()}
        rate = FEDADAM["eta"] * np.sqrt(1 - b2 ** (number + 1.0)) / (1 - b1 ** (number + 1.0))
        model = {k: _f32(w + rate * first[k] / (np.sqrt(second[k]) + FEDADAM["tau"])) for k, w in state.model.items()}
        return ServerState(model, first, second)
    return ServerState({k: _f32(v) for k, v in aggregate.items()}, state.first, state.second)


def _f32(value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32)
