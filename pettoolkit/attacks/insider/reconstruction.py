"""Reading records out of single updates of dense layers.

Of one patient, the gradient of a dense layer is ``delta a'`` for the weights and ``delta`` for the bias: their ratio is
the layer's input, exactly (Phong et al. 2018, IEEE TIFS 13:1333). Of several, the ratio of a hidden unit is the
weighted mean of those who activate it: exact again where that is one. A coordinator who sends a model of its own
making sees to it that each unit's neighbour is activated by nearly the same patients, so that differences isolate
single ones (the imprint layer of Fowl et al. 2022, arXiv:2110.13057).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.attacks.insider.views import HOSPITAL, OTHERS, UpdatesView
from pettoolkit.attacks.protocol import Effort, Finding, Group, Hits, People, finding, register
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.models.dense import DenseNet, Params

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CLOSE = 0.02
"""A record is read if each of its encoded values, in [-1, 1], is met to so much: 1 % of its public range."""

OF_SUMS = "sum_reconstruction"
"""The attack's name where a hospital reads what it decrypted, less its own part."""

BATCHES = (1, 4, 16, 64)
"""Patients in an update, for the figures beside the run's own."""

TRIES = 10
ROUNDS = 10
"""So many rounds' updates are read, evenly spread."""


def candidates(update: Params) -> Floats:
    """Inputs of the first layer that explain an update if one patient is behind each unit: (units, features)."""
    weight, bias = update["layer0.weight"].double().numpy(), update["layer0.bias"].double().numpy()
    usable = np.abs(bias) > 1e-12
    found: Floats = weight[usable] / bias[usable, None]
    return found


def imprint(net: DenseNet, rows: Floats) -> Params:
    """A model that sorts patients into the hidden units' bins, from rows (n, features) that the attacker owns.

    All units look in one direction and differ in their bias alone; all count alike in the second layer.
    """
    units = net.hidden[0]
    direction = np.random.default_rng(0).standard_normal(net.n_features) / np.sqrt(net.n_features)
    edges = np.quantile(rows @ direction, np.linspace(0, 1, units + 1)[:-1])
    params = {k: torch.zeros(shape) for k, shape in net.shapes().items()}
    params["layer0.weight"][:] = torch.tensor(direction, dtype=torch.float32)
    params["layer0.bias"] = torch.tensor(-edges, dtype=torch.float32)
    for i in range(1, net.depth):
        params[f"layer{i}.weight"][:] = 1e-3
    return params


def imprinted(update: Params) -> Floats:
    """Candidates from an answer to :func:`imprint`: differences between neighbouring units, (units, features)."""
    weight, bias = update["layer0.weight"].double(), update["layer0.bias"].double()
    between = {
        "layer0.weight": torch.cat([weight[:-1] - weight[1:], weight[-1:]]),
        "layer0.bias": torch.cat([bias[:-1] - bias[1:], bias[-1:]]),
    }
    return candidates(between)


def read(found: Floats, x: Floats, close: float = CLOSE) -> Bools:
    """Which rows (n, features) are among the candidates (m, features)."""
    hit = np.zeros(len(x), dtype=bool)
    for candidate in found:
        hit |= np.abs(x - candidate).max(axis=1) <= close
    return hit


@register
class Reconstruction:
    """Single hospitals' updates are read; records that are met by chance count against the attack."""

    name = "reconstruction"
    sees = UpdatesView
    knowledge = "none"

    def run(self, view: UpdatesView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        began = time.perf_counter()
        members, control = (_sent_by(view, group) for group in (people.members, people.control))
        x, y = (torch.from_numpy(f(members.rows, view.contract)) for f in (encode, outcome))
        others = encode(control.rows, view.contract).astype(np.float64)
        hit, false = np.zeros(len(x), dtype=bool), np.zeros(len(others), dtype=bool)
        chosen = np.unique(np.linspace(0, len(view.updates) - 1, ROUNDS).round().astype(int))
        rows = x.numpy().astype(np.float64)
        for number in chosen:
            for site, update in view.updates[number].items():
                found = candidates(update)
                here, there = (g.site == site if site != OTHERS else _all(g) for g in (members, control))
                hit[here] |= read(found, rows[here])
                false |= read(found, others) & there
        hits = Hits(members.patient, hit, control.patient, false)
        owned = encode(people.attacker.rows, view.contract).astype(np.float64)
        details = by_batch(view, x, y, owned, effort.seed)
        made = finding(
            self,
            "reconstruction",
            hits,
            wanted=len(x),
            seconds=time.perf_counter() - began,
            view=view.kind,
            details=details,
            note=_said(details) if details else f"seen by {HOSPITAL} in the mean of the others' parts",
        )
        return [replace(made, figure=replace(made.figure, attack=OF_SUMS)) if view.others else made]


def _sent_by(view: UpdatesView, group: Group) -> Group:
    return group.take(np.isin(group.site, view.others)) if view.others else group


def _all(group: Group) -> Bools:
    return np.ones(len(group), dtype=bool)


def by_batch(view: UpdatesView, x: Tensor, y: Tensor, owned: Floats, seed: int) -> dict[str, float]:
    """Share of records read from updates of so many patients, honestly asked for and by an imprint layer."""
    rng = np.random.default_rng([seed, 13])
    out: dict[str, float] = {}
    if view.answer is None:
        return out
    crafted = imprint(view.net, owned) if view.net.hidden else None
    for size in BATCHES:
        if size > len(x):
            continue
        plain, planted = [], []
        for _ in range(TRIES):
            batch = torch.from_numpy(rng.permutation(len(x))[:size])
            rows = x[batch].numpy().astype(np.float64)
            plain.append(read(candidates(view.answer(view.start, x[batch], y[batch])), rows).mean())
            if crafted is not None:
                planted.append(read(imprinted(view.answer(crafted, x[batch], y[batch])), rows).mean())
        out[f"read_of_{size}"] = float(np.mean(plain))
        if planted:
            out[f"imprint_read_of_{size}"] = float(np.mean(planted))
    return out


def _said(details: dict[str, float]) -> str:
    def listed(prefix: str) -> str:
        return ", ".join(
            f"{n}: {v:.0%}" for size in BATCHES for n, v in [(size, details.get(f"{prefix}{size}"))] if v is not None
        )

    said = f"records read from an update of so many patients: {listed('read_of_')}"
    planted = listed("imprint_read_of_")
    return f"{said}; by a malicious imprint layer {planted}" if planted else said
