"""Federated learning with Flower's own strategies; FedSGD is one full-batch gradient a round."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedProx, FedTrimmedAvg, Krum

from pettoolkit.arms import private
from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.exchange import config_record
from pettoolkit.arms.federated.config import ROBUST
from pettoolkit.arms.federated.streaming import AT_ONCE, StreamedAdam, StreamedAvg, StreamedProx
from pettoolkit.arms.rounds import FEDADAM, ServerState, server_step, settings_of
from pettoolkit.federation import wire
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import to_arrays
from pettoolkit.records import Cost, Json, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="the coordinator, who sees each hospital's update of every round",
    leaks_if_collude="hospitals that share their updates with the coordinator help it to isolate the others' patients",
    reversible="updates can be inverted: a single patient's record can be read from one dense layer's gradient",
)


class FedSgd(FedAvg):
    """FedAvg's messages and weighted mean, but what is averaged are gradients, and the server steps along them."""

    def __init__(self, options: Mapping[str, Json], model: dict[str, npt.NDArray[Any]], **nodes: float) -> None:
        super().__init__(**nodes)  # type: ignore[arg-type]
        self._options = options
        self._state = ServerState.begin(model)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the gradients, then step."""
        gradient, metrics = super().aggregate_train(server_round, replies)
        if gradient is None:
            return None, metrics
        mean = {k: v.numpy() for k, v in gradient.items()}
        self._state = server_step(self._state, mean, self._options, server_round)
        return ArrayRecord({k: Array(np.asarray(v)) for k, v in self._state.model.items()}), metrics


class StreamedSgd(FedSgd, StreamedAvg):
    """FedSGD over a streamed sum."""


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Run the strategy for all rounds.

    Without DP the round that validation patients like best is kept. Under DP nothing is validated: the
    model is the mean over the last half of the rounds.
    """
    began = time.perf_counter()
    net, initial = start(spec, contract_of(spec))
    model = to_arrays(initial)
    kept: list[dict[str, npt.NDArray[Any]]] = []

    def remember(number: int, arrays: ArrayRecord) -> None:
        if number:
            kept.append({name: arrays[name].numpy().copy() for name in net.shapes()})

    streams = len(spec.sites) > AT_ONCE and spec.options["strategy"] not in ROBUST
    counts = private.ask_counts(grid, spec) if streams or spec.dp is not None else {}
    patients = None if spec.dp is None else sum(counts.values())
    settings = settings_of(spec, patients)
    heard = Losses(counts)
    hospitals = grid.only(spec.sites, judge=heard.judge, at_once=AT_ONCE if streams else 0)
    plays = strategy(spec, model, settings, len(hospitals.get_node_ids()), streams=streams)
    if isinstance(plays, StreamedAvg):
        plays.patients = sum(counts.values())
    plays.start(
        grid=hospitals,
        initial_arrays=ArrayRecord({k: Array(v) for k, v in model.items()}),
        num_rounds=int(settings["rounds"]),
        timeout=float(spec.faults.get("round_timeout", 600)),
        train_config=config_record(spec, "train", "training", wants="update", patients=patients),
        evaluate_config=config_record(spec, "validate", "validation", wants="metrics"),
        evaluate_fn=remember,
    )
    if spec.dp is not None:
        final, privacy = (
            private.averaged(kept, private.training_of(spec, patients or 0)),
            _private_statement(grid, spec),
        )
        losses, note = [], f"mean over the last half of {len(kept)} rounds"
    else:
        losses = heard.by_round(set(grid.dropped))
        best = int(np.argmin(losses))
        final, privacy, note = kept[best], PRIVACY, f"round {best + 1} of {len(kept)} kept"
    return Outcome(
        models=Models({Models.SHARED: Weights.of(final)}),
        privacy=privacy,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        rounds=len(kept),
        round_metrics={"round/validation_loss": tuple(losses)} if losses else {},
        notes=(note,),
    )


PRIVATE = replace(
    PRIVACY,
    trust="nobody: each hospital's updates have the guarantee by themselves",
    leaks_if_collude="hospitals and coordinator together learn of another's patients what the guarantee allows",
    reversible="updates carry noise: what can be inverted is bounded by the guarantee",
)


def _private_statement(grid: MeteredGrid, spec: RunSpec) -> PrivacyStatement:
    return private.stated(PRIVATE, spec, private.ask_ledgers(grid, spec))


MOST = 10**9
"""Largest number of patients that is believed of one hospital."""


class Losses:
    """The validation losses of all hospitals and rounds: Flower keeps their mean over whoever answered.

    Parameters
    ----------
    counts
        Training patients of each hospital, where they are known already: its weight, which it can't change on the way.
    """

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self._said: dict[int, dict[str, tuple[float, float]]] = {}
        self._counts: dict[tuple[str, str], float] = {("update", site): n for site, n in (counts or {}).items()}

    def judge(self, site: str, content: RecordDict) -> str:
        """Listen to a reply; see that it has what Flower's averages take for granted, and nothing besides."""
        envelope, metrics = wire.read_envelope(content), wire.metrics_of(content)
        names = {"num-examples"} | ({"loss"} if envelope.kind == "metrics" else set())
        if odd := sorted(set(metrics) ^ names):
            return f"metric '{odd[0]}' is missing, or was not asked for"
        n = metrics["num-examples"]
        if isinstance(n, list) or not float(n).is_integer() or not 0 <= n <= MOST:
            return f"metric 'num-examples' is {n}: no number of patients"
        before = self._counts.setdefault((envelope.kind, site), n)
        if n != before:
            return f"metric 'num-examples' is {n:g} and was {before:g}: a hospital's weight can't change in a run"
        if envelope.kind == "metrics":
            loss = metrics["loss"]
            if isinstance(loss, list):
                return "its validation loss is a list"
            self._said.setdefault(envelope.round, {})[site] = float(loss), float(n)
        return ""

    def by_round(self, dropped: Collection[str]) -> list[float]:
        """Mean loss of each round, weighted by patients as Flower does, over the same hospitals in all rounds.

        Hospitals that were dropped count in no round: rounds with and without one could not be compared.
        """
        means = []
        for _, said in sorted(self._said.items()):
            pairs = [pair for site, pair in sorted(said.items()) if site not in dropped]
            total = sum(n for _, n in pairs)
            means.append(float(sum(loss * (n / total) for loss, n in pairs)))
        return means


def strategy(
    spec: RunSpec,
    model: dict[str, npt.NDArray[Any]],
    settings: Mapping[str, Json],
    hospitals: int,
    *,
    streams: bool = False,
) -> FedAvg:
    """Flower's strategy for a spec; every hospital takes part in every round.

    Parameters
    ----------
    hospitals
        How many are connected.
    streams
        Whether replies come one by one and are summed up on the way.
    """
    everyone = {
        "fraction_evaluate": 1.0 if spec.dp is None else 0.0,
        "min_train_nodes": hospitals,
        "min_evaluate_nodes": hospitals if spec.dp is None else 0,
        "min_available_nodes": hospitals,
    }
    name = spec.options["strategy"]
    if name == "fedsgd":
        return (StreamedSgd if streams else FedSgd)(settings, model, **everyone)
    if name == "fedadam":
        return (StreamedAdam if streams else FedAdam)(**everyone, eta_l=float(settings["learning_rate"]), **FEDADAM)  # type: ignore[arg-type]
    if name == "fedprox":
        return (StreamedProx if streams else FedProx)(**everyone, proximal_mu=float(spec.options["proximal_mu"]))  # type: ignore[arg-type]
    if name == "fedmedian":
        return FedMedian(**everyone)  # type: ignore[arg-type]
    if name == "fedtrimmedavg":
        return FedTrimmedAvg(**everyone, beta=float(spec.options["trim"]))  # type: ignore[arg-type]
    if name == "krum":
        return Krum(**everyone, num_malicious_nodes=int(spec.options["malicious"]))  # type: ignore[arg-type]
    return (StreamedAvg if streams else FedAvg)(**everyone)  # type: ignore[arg-type]
