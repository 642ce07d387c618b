"""What all arms share, so that the comparison is fair: the network, its start, and training in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pettoolkit.cohort.contract import Contract, FeatureSet
from pettoolkit.cohort.features import feature_names
from pettoolkit.models.dense import DenseNet, Params, build
from pettoolkit.models.seeding import torch_generator
from pettoolkit.models.training import AdamSettings, Rows, adam, best
from pettoolkit.records import RunSpec

Losses = Callable[[Sequence[Params]], Sequence[float]]


def contract_of(spec: RunSpec) -> Contract:
    """The row contract that the coordinator holds, narrowed to the run's features."""
    features: FeatureSet = "full" if spec.features == "full" else "compact"
    return Contract.model_validate(spec.contract).select(features)


def start(spec: RunSpec, contract: Contract) -> tuple[DenseNet, Params]:
    """The network and its initial parameters: the same in every arm and hospital of a run's seed."""
    net = build(spec.model, len(feature_names(contract)))
    return net, net.init(spec.seed, contract.prevalence)


def train_here(spec: RunSpec, contract: Contract, rows: Rows, losses: Losses, *labels: str) -> tuple[Params, int]:
    """Train without DP where the rows are, and keep the epoch that validation patients like best.

    Parameters
    ----------
    losses
        Summed validation loss of each snapshot, wherever the validation patients are.
    labels
        Tell random streams apart (the hospital's name, for example).

    Returns
    -------
    params, epoch
        The kept parameters and the index of their epoch.
    """
    net, initial = start(spec, contract)
    snapshots = adam(net, initial, rows, _settings(spec), torch_generator(spec.seed, "order", *labels))
    epoch, params = best(snapshots, losses(snapshots))
    return params, epoch


FIXED_EPOCHS = 15
"""Epochs where nobody may be asked which is best; about where early stopping ends without DP."""


def train_fixed(spec: RunSpec, contract: Contract, rows: Rows) -> Params:
    """Train for a fixed number of epochs: nothing but ``rows`` is read."""
    net, initial = start(spec, contract)
    settings = replace(_settings(spec), epochs=min(FIXED_EPOCHS, int(spec.options["epochs"])))
    return adam(net, initial, rows, settings, torch_generator(spec.seed, "order"))[-1]


def _settings(spec: RunSpec) -> AdamSettings:
    return AdamSettings(
        epochs=int(spec.options["epochs"]),
        batch_size=int(spec.options["batch_size"]),
        learning_rate=float(spec.options["learning_rate"] or AdamSettings.learning_rate),
    )
