"""What all arms share, so that the comparison is fair: the network, its start, and training in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from pettoolkit.cohort.contract import Contract, FeatureSet
from pettoolkit.cohort.features import feature_names
from pettoolkit.models.dense import DenseNet, Params, build
from pettoolkit.models.predictor import Arrays, Predictor, TrainingSettings, lowest, predictor
from pettoolkit.models.training import Rows
from pettoolkit.records import RunSpec

Losses = Callable[[Arrays], list[float]]
Model = dict[str, npt.NDArray[Any]]


def contract_of(spec: RunSpec) -> Contract:
    """The row contract that the coordinator holds, narrowed to the run's features."""
    features: FeatureSet = "full" if spec.features == "full" else "compact"
    return Contract.model_validate(spec.contract).select(features)


def start(spec: RunSpec, contract: Contract) -> tuple[DenseNet, Params]:
    """The network and its initial parameters: the same in every arm and hospital of a run's seed."""
    net = build(spec.model, len(feature_names(contract)))
    return net, net.init(spec.seed, contract.prevalence)


def predictor_of(spec: RunSpec, contract: Contract) -> Predictor:
    """What trains and scores the run's model, whichever it is."""
    return predictor(spec.model, len(feature_names(contract)))


def train_here(spec: RunSpec, contract: Contract, rows: Rows, losses: Losses, *labels: str) -> tuple[Model, int]:
    """Train without DP where the rows are, and keep the candidate that validation patients like best.

    Parameters
    ----------
    losses
        Summed validation loss of each candidate (epoch, or number of trees), wherever the validation patients are.
    labels
        Tell random streams apart (the hospital's name, for example).

    Returns
    -------
    model, index
        The kept model as named arrays, and which candidate it was.
    """
    model = predictor_of(spec, contract)
    candidates = model.fit(rows, _settings(spec, contract), spec.seed, *labels)
    index = lowest(losses(candidates))
    return model.pick(candidates, index), index


def train_fixed(spec: RunSpec, contract: Contract, rows: Rows) -> Model:
    """Train for a length fixed in advance: nothing but ``rows`` is read."""
    return dict(predictor_of(spec, contract).fit_fixed(rows, _settings(spec, contract), spec.seed))


def _settings(spec: RunSpec, contract: Contract) -> TrainingSettings:
    return TrainingSettings(
        epochs=spec.options.get("epochs"),
        batch_size=spec.options.get("batch_size"),
        learning_rate=spec.options.get("learning_rate"),
        prevalence=contract.prevalence,
    )
