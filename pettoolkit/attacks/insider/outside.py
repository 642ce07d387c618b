"""Outside: what those who took part in a finished cell saw.

Rounds are played again in the judge from the members' rows, with the same code, order and noise as in the hospitals;
that they end in the released model is checked. So no arm has to keep its messages, and the insider of an encrypted arm
is shown what its hospitals decrypted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.arms import private
from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.rounds import ServerState, server_step, settings_of
from pettoolkit.attacks.insider.counts.outside import counts_views
from pettoolkit.attacks.insider.decrypted.outside import regression_views
from pettoolkit.attacks.insider.gradients import each_gradient, flat, mean_of, minus
from pettoolkit.attacks.insider.hospitals import bound_of_sums, rows_of
from pettoolkit.attacks.insider.views import (
    BOTH,
    CIPHERTEXTS,
    COORDINATOR,
    HOSPITAL,
    NOTHING,
    OTHERS,
    RAW,
    HeldView,
    ObservedSum,
    SumsView,
    UpdatesView,
)
from pettoolkit.attacks.protocol import NotRun, People, View
from pettoolkit.cohort.contract import Contract
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.models.seeding import torch_generator
from pettoolkit.models.training import Rows, sgd_epochs, to_arrays, to_params
from pettoolkit.privacy.bounds import AttackBound, attack_bound
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.gradients import engine_for
from pettoolkit.privacy.noise import Draw, SeededNoise, site_sd
from pettoolkit.privacy.optimiser import Descent, PrivateRows, private_gradient
from pettoolkit.records import Guarantee, Json, NotMeasured, Outcome, RunSpec, from_json

Floats = npt.NDArray[np.float64]

AGREES = 2e-3
"""Largest difference of a weight between the released model and the rounds played again (encryption has an error)."""

MOST_ROUNDS, NUMBERS = 40, 2500
"""Rounds whose sums are used, evenly spread (neighbouring rounds say nearly the same): so many, or until there are so
many numbers."""

SIMULATED = 3
"""Trainings on random candidates from which the attacker learns how far local steps are from a sum."""

IN_ROUNDS = ("federated", "encrypted_aggregation")


@dataclass(frozen=True)
class Round:
    """One round: the shared model before it, and each hospital's update (gradient, or change by local steps)."""

    number: int
    model: Params
    updates: Mapping[str, Params]


@dataclass(frozen=True)
class _Cell:
    """What is needed to play a cell's rounds again."""

    spec: RunSpec
    contract: Contract
    net: DenseNet
    initial: Params
    rows: Mapping[str, Rows]
    settings: Mapping[str, Json]
    mechanism: Mechanism | None

    @property
    def gradients(self) -> bool:
        """Whether updates are gradients at the shared model, and not local steps from it."""
        return bool(self.spec.options["strategy"] == "fedsgd")

    @property
    def total(self) -> int:
        """Training patients of all hospitals."""
        return sum(map(len, self.rows.values()))


def held_views(spec: RunSpec) -> list[View]:
    """What the coordinator holds anyway, whatever else can be seen: raw records, nothing, or ciphertexts."""
    contract, scope = contract_of(spec), spec.options.get("scope")
    held = CIPHERTEXTS if spec.arm.startswith("encrypted") or scope == "secure_sum" else ""
    if spec.arm == "pooled" or scope == "one_on_pooled":
        held = RAW
    elif spec.arm == "local":
        held = NOTHING
    return [HeldView(contract, holder=f"the {COORDINATOR}", held=held)] if held else []


def seen_views(spec: RunSpec, outcome_: Outcome, people: People) -> list[View]:
    """What insiders of a finished cell saw beside what is held (:func:`held_views`).

    Raises
    ------
    NotRun
        If it can't be seen from here.
    """
    contract = contract_of(spec)
    if spec.options.get("scope") == "secure_sum":
        return counts_views(spec, contract, outcome_, people)
    if spec.arm in ("encrypted_statistics", "encrypted_records"):
        return regression_views(spec, contract, outcome_, people)
    if spec.arm not in IN_ROUNDS:
        return []
    cell = _cell(spec, contract, outcome_, people)
    rounds = replay(cell)
    _check(cell, rounds, outcome_)
    return _round_views(cell, rounds, outcome_)


def insider_views(spec: RunSpec, outcome_: Outcome, people: People) -> list[View]:
    """All that each insider of a finished cell held or saw.

    Raises
    ------
    NotRun
        If a part of it can't be seen from here.
    """
    return [*held_views(spec), *seen_views(spec, outcome_, people)]


def replay(cell: _Cell) -> list[Round]:
    """Play all rounds, and one more entry with the last model and no updates."""
    state = ServerState.begin(to_arrays(cell.initial))
    out: list[Round] = []
    for number in range(1, int(cell.settings["rounds"]) + 1):
        model = to_params(state.model)
        sent = {site: _contribution(cell, site, model, number) for site in sorted(cell.rows)}
        mean = {
            name: np.sum([sent[site][name].numpy() * (len(cell.rows[site]) / cell.total) for site in sent], axis=0)
            for name in cell.net.shapes()
        }
        out.append(Round(number, model, {s: p if cell.gradients else minus(p, model) for s, p in sent.items()}))
        state = server_step(state, mean, cell.settings, number)
    return [*out, Round(len(out) + 1, to_params(state.model), {})]


def _cell(spec: RunSpec, contract: Contract, outcome_: Outcome, people: People) -> _Cell:
    if len(people.members) > len(np.unique(people.members.patient)) and spec.dp is not None:
        raise NotRun("patients with several rows are clipped together, which the judge can't play again")
    rows = rows_of(spec.sites, contract, people)
    net, initial = start(spec, contract)
    mechanism = None
    if spec.dp is not None:
        ledger = next(iter(outcome_.privacy.ledgers.values()))
        mechanism = from_json(Mechanism, ledger["mechanisms"][0])
        if mechanism.q < 1:
            raise NotRun("sums over random batches: who was in which is not seen")
    settings = settings_of(spec, None if spec.dp is None else sum(map(len, rows.values())))
    return _Cell(spec, contract, net, initial, rows, settings, mechanism)


def _contribution(cell: _Cell, site: str, model: Params, number: int) -> Params:
    """What :func:`pettoolkit.arms.rounds.contribution` answered in the hospital."""
    rows, options = cell.rows[site], cell.settings
    if cell.mechanism is not None:
        return _private_contribution(cell, site, model, number)
    if cell.gradients:
        return {k: v / max(len(rows), 1) for k, v in cell.net.gradient_sum(model, rows.x, rows.y).items()}
    return _local(cell, model, rows, torch_generator(cell.spec.seed, "order", site, number), options)


def _local(cell: _Cell, model: Params, rows: Rows, generator: torch.Generator, options: Mapping[str, Json]) -> Params:
    return sgd_epochs(
        cell.net,
        model,
        rows,
        epochs=int(options["local_epochs"]),
        batch_size=int(options["batch_size"]),
        learning_rate=float(options["learning_rate"]),
        proximal_mu=float(options.get("proximal_mu") or 0.0),
        generator=generator,
    )


def _private_contribution(cell: _Cell, site: str, model: Params, number: int) -> Params:
    rows, mode, mechanism = cell.rows[site], private.mode_of(cell.spec), cell.mechanism
    assert mechanism is not None
    assert cell.spec.dp is not None
    engine = engine_for(cell.net, cell.spec.dp.gradients)
    noisy = PrivateRows(engine, rows.x, rows.y, SeededNoise(cell.spec.seed, site, mode), mode)
    if cell.gradients:
        total = noisy.noisy_sum(model, mechanism.times(1), Draw("training", number, 0))
        return {k: v / len(rows) for k, v in total.items()}
    steps = int(cell.spec.options["local_epochs"])
    training = replace(private.training_of(cell.spec, cell.total), steps=steps, average_from=1.0)
    descent = Descent(model, training)
    for step in range(steps):
        draw = Draw("training", number, 0, step)
        descent.step(private_gradient(noisy, descent.params, mechanism.times(steps), len(rows), draw))
    return descent.result()


def _check(cell: _Cell, rounds: list[Round], outcome_: Outcome) -> None:
    """See that the rounds end in the released model: one of them, or under DP the mean of the last half."""
    released = to_params(outcome_.models.by_site["*"].unpack())
    models = [each.model for each in rounds[1:]]
    if cell.spec.dp is not None:
        arrays = [to_arrays(model) for model in models]
        models = [to_params(private.averaged(arrays, private.training_of(cell.spec, cell.total)))]
    apart = min(max(float((released[k] - m[k]).abs().max()) for k in released) for m in models)
    if not apart <= AGREES:
        raise NotRun(f"the rounds could not be played again (the models differ by {apart:.2g})")


def _round_views(cell: _Cell, rounds: list[Round], outcome_: Outcome) -> list[View]:
    """The coordinator's updates (in the clear, or by collusion), and what one hospital sees of the others."""
    plain = cell.spec.arm == "federated"
    chosen = _spread(rounds[:-1])
    noise = {site: _misfit(cell, (site,), chosen) for site in cell.rows}
    updates = [_of_site(cell, each, site, noise[site]) for site in sorted(cell.rows) for each in chosen]
    views: list[View] = [
        SumsView(
            cell.contract,
            holder=COORDINATOR if plain else BOTH,
            sums=tuple(updates),
            bound=_bound_of_updates(cell, outcome_),
        )
    ]
    if plain:
        seen = tuple(each.updates for each in rounds[:-1])
        views.append(UpdatesView(cell.contract, net=cell.net, start=cell.initial, updates=seen, answer=_answer(cell)))
    if len(cell.rows) > 1:
        views += _hospitals_views(cell, rounds[:-1], chosen, outcome_)
    return views


def _hospitals_views(cell: _Cell, rounds: list[Round], chosen: list[Round], outcome_: Outcome) -> list[View]:
    """The largest hospital subtracts its own part from each round's sum: what is left is of the fewest patients."""
    own = max(sorted(cell.rows), key=lambda site: len(cell.rows[site]))
    weight = {site: len(cell.rows[site]) for site in sorted(cell.rows) if site != own}
    noise = _misfit(cell, tuple(weight), chosen)
    sums = SumsView(
        cell.contract,
        holder=HOSPITAL,
        sums=tuple(_of_others(cell, each, tuple(weight), noise) for each in chosen),
        bound=bound_of_sums(cell.mechanism, len(cell.rows), outcome_.privacy),
        note=f"{own}, which subtracts its own part from each round's sum",
    )
    seen = tuple({OTHERS: mean_of(each.updates, weight)} for each in rounds)
    read = UpdatesView(cell.contract, net=cell.net, start=cell.initial, updates=seen, answer=None, others=tuple(weight))
    return [sums, read]


def _of_site(cell: _Cell, seen: Round, site: str, misfit: Floats) -> ObservedSum:
    scale = len(cell.rows[site]) if cell.gradients else 1.0
    share = _share(cell, _middle(cell, seen.model, seen.updates[site]))
    return ObservedSum((site,), flat(seen.updates[site]) * scale, share, misfit + _noise(cell, 1))


def _of_others(cell: _Cell, seen: Round, others: tuple[str, ...], misfit: Floats) -> ObservedSum:
    """The sum of the others' parts: gradients over their patients, or changes weighted by their patients."""
    weight = {site: len(cell.rows[site]) for site in others}
    observed = np.asarray(sum(weight[site] * flat(seen.updates[site]) for site in others))
    share = _share(cell, _middle(cell, seen.model, mean_of(seen.updates, weight)))
    if cell.gradients:
        return ObservedSum(others, observed, share, misfit + _noise(cell, len(others)))

    def weighted(x: Tensor, y: Tensor, site: str) -> Floats:
        return share(x, y, site) * weight[site]

    spread = sum(w**2 for w in weight.values())
    return ObservedSum(others, observed, weighted, misfit + _noise(cell, 1) * spread)


def _share(cell: _Cell, model: Params) -> Callable[[Tensor, Tensor, str], Floats]:
    """What one patient adds to a hospital's update at this model, (n, numbers): clipped under DP.

    Local steps: each patient is in one batch an epoch, so that the first-order change is the sum of gradients times
    rate and epochs over the size of a batch (of all patients, under DP).
    """
    clip = cell.mechanism.sensitivity if cell.mechanism is not None else math.inf

    def share(x: Tensor, y: Tensor, site: str) -> Floats:
        each = each_gradient(cell.net, model, x, y, clip)
        if cell.gradients:
            return each
        n = len(cell.rows[site])
        batch = n if cell.mechanism is not None else min(n, int(cell.settings["batch_size"]))
        return each * (-float(cell.settings["learning_rate"]) * int(cell.settings["local_epochs"]) / batch)

    return share


def _middle(cell: _Cell, model: Params, moved: Mapping[str, Any]) -> Params:
    """Half-way along local steps, where gradients stand for those on the way; gradients are taken at the model."""
    return model if cell.gradients else {k: v + moved[k] / 2 for k, v in model.items()}


def _misfit(cell: _Cell, sites: tuple[str, ...], chosen: list[Round]) -> Floats:
    """Variance of what the linear picture of local steps leaves out, (numbers,); 0 for gradients.

    The attacker trains on random halves of a hospital's rows, as often as it likes, and sees how far off the sum is.
    """
    numbers = sum(math.prod(shape) for shape in cell.net.shapes().values())
    if cell.gradients:
        return np.zeros(numbers)
    total = np.zeros(numbers)
    for site in sites:
        rows = cell.rows[site]
        weight = len(rows) if len(sites) > 1 else 1
        errors = []
        for number in range(SIMULATED):
            generator = torch_generator(cell.spec.seed, "misfit", site, number)
            some = torch.rand(len(rows), generator=generator) < 0.9
            part = Rows(rows.x[some], rows.y[some])
            model = chosen[number % len(chosen)].model
            moved = minus(_local(cell, model, part, generator, cell.settings), model)
            share = _share(cell, _middle(cell, model, moved))
            errors.append(flat(moved) - share(part.x, part.y, site).sum(0))
        total += weight**2 * np.mean(np.square(errors), axis=0)
    return total


def _noise(cell: _Cell, places: int) -> float:
    """Variance of the privacy noise in the sum of so many hospitals' parts, in the unit of that sum."""
    if cell.mechanism is None:
        return 0.0
    m = cell.mechanism
    each = site_sd(m.sigma, m.sensitivity, private.mode_of(cell.spec), m.honest_sites) ** 2
    if cell.gradients:
        return places * each
    size = min(map(len, cell.rows.values()))
    steps = int(cell.spec.options["local_epochs"])
    return places * each * steps * (float(cell.settings["learning_rate"]) / size) ** 2


def _bound_of_updates(cell: _Cell, outcome_: Outcome) -> AttackBound | NotMeasured:
    """For who sees single updates: local noise covers them in full, shared noise with a hospital's part alone."""
    if cell.mechanism is None or not isinstance(outcome_.privacy.guarantee, Guarantee):
        return NotMeasured("no guarantee, hence no bound")
    m = cell.mechanism
    return attack_bound([m.quieter(1 / math.sqrt(m.honest_sites))], outcome_.privacy.guarantee.delta)


def _answer(cell: _Cell) -> Callable[[Params, Tensor, Tensor], Params]:
    """What an honest hospital of these patients would answer to a model: the same training, clipping and noise."""

    def answer(model: Params, x: Tensor, y: Tensor) -> Params:
        changed = replace(cell, rows={"asked": Rows(x, y)})
        sent = _contribution(changed, "asked", model, 1)
        return sent if cell.gradients else minus(sent, model)

    return answer


def _spread(rounds: list[Round]) -> list[Round]:
    numbers = sum(value.numel() for value in rounds[0].model.values())
    wanted = min(MOST_ROUNDS, max(2, math.ceil(NUMBERS / numbers)))
    index = np.unique(np.linspace(0, len(rounds) - 1, wanted).round().astype(int))
    return [rounds[i] for i in index]
