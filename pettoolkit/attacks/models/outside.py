"""Outside: from a finished cell to what an attacker of its model sees, and how shadows have to be trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from pettoolkit.arms import private
from pettoolkit.arms.central import encoded
from pettoolkit.arms.common import contract_of, start
from pettoolkit.arms.encrypted_records.descent import train_plain
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.arms.encrypted_statistics import fit, noise
from pettoolkit.arms.generators import balance_of, generator_of
from pettoolkit.arms.rounds import FEDADAM
from pettoolkit.attacks.models.recipe import Central, How, Newton, Noisy, Pool, Recipe, Rounds, Single
from pettoolkit.attacks.models.view import ModelView, logit_of
from pettoolkit.attacks.protocol import Group, NotRun, People, TooCostly
from pettoolkit.cohort.contract import Contract
from pettoolkit.models.dense import Params
from pettoolkit.models.predictor import TrainingSettings, lowest, predictor
from pettoolkit.models.seeding import derived_seed
from pettoolkit.models.training import Rows
from pettoolkit.privacy.bounds import AttackBound, attack_bound
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.noise import site_sd
from pettoolkit.records import Guarantee, NotMeasured, Outcome, RunSpec, digest_of, from_json
from pettoolkit.synthesis.anonymise import Scope, anonymise
from pettoolkit.synthesis.drawing import draw
from pettoolkit.synthesis.protocol import DpBudget

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Scorer = Callable[[Tensor], Floats]

ONE_GENERATOR = ("one_on_pooled", "secure_sum")
"""Scopes with one generator for the patients of all hospitals."""

AT_HOME = "if each hospital published its model (here it stays at home)"


def model_view(spec: RunSpec, outcome: Outcome, people: People, validation: Group | None = None) -> ModelView:
    """What is released of a finished cell; ``validation`` are the patients who chose the model's epoch or round.

    Raises
    ------
    NotRun
        If there is no way to train shadows as this model was.
    """
    contract = contract_of(spec)
    return ModelView(
        contract=contract,
        model=spec.model,
        weights={site: weights.unpack() for site, weights in outcome.models.by_site.items()},
        recipe=recipe_of(spec, contract, outcome, people),
        bound=bound_of(outcome),
        note="" if outcome.models.shared else AT_HOME,
        validation=validation,
    )


def bound_of(outcome: Outcome) -> AttackBound | NotMeasured:
    """Best that any attack can do against the worst-off hospital's guarantee."""
    stated = outcome.privacy.guarantee
    if not isinstance(stated, Guarantee):
        return NotMeasured(f"no guarantee, hence no bound ({stated.reason})")
    bounds = [attack_bound(_mechanisms(ledger), stated.delta) for ledger in outcome.privacy.ledgers.values()]
    return max(bounds, key=lambda bound: bound.tpr_at_1pct_fpr)


def recipe_of(spec: RunSpec, contract: Contract, outcome: Outcome, people: People) -> Recipe:
    """How shadows are trained; see :func:`model_view`.

    An encrypted aggregation's shadows are those of the plain federated arm with the same noise: the released model
    is the same, but for an error of a millionth.
    """
    net, initial = (None, {}) if spec.model.name == "gradient_boosting" else start(spec, contract)
    how = _how(spec, contract, outcome, people, initial)
    by_site = spec.arm in ("local", "augmented")
    named = {"how": asdict(how), "model": asdict(spec.model), "seed": spec.seed, "by_site": by_site}
    key = "" if isinstance(how, Single) else digest_of(named)
    return Recipe(how, net, initial, by_site, key)


def _how(spec: RunSpec, contract: Contract, outcome: Outcome, people: People, initial: Params) -> How:
    options = spec.options
    if spec.arm == "augmented":
        raise TooCostly("a shadow needs the generators of all other hospitals; attack arm synthetic's rows instead")
    if spec.arm in ("synthetic", "anonymised"):
        return Single(_from_table(spec, contract, people))
    if spec.arm == "encrypted_statistics":
        if spec.dp is not None:
            return Single(_noisy_statistics(spec, initial))
        return Newton(str(options["method"]), float(options["ridge"]), int(options["rounds"]))
    if spec.arm == "encrypted_records":
        return Single(_on_records(spec, contract, initial))
    if spec.dp is not None:
        return _noisy(spec, outcome, people)
    if spec.arm in ("local", "pooled"):
        if spec.model.name == "gradient_boosting":
            return Single(_central(spec, contract))
        return Central(options.get("epochs"), int(options["batch_size"]), float(options["learning_rate"]))
    if spec.arm in ("federated", "encrypted_aggregation"):
        return Rounds(
            strategy=str(options["strategy"]),
            rounds=int(options["rounds"]),
            local_epochs=int(options["local_epochs"]),
            batch_size=int(options["batch_size"]),
            learning_rate=float(options["learning_rate"]),
            momentum=float(options["momentum"]),
            proximal_mu=float(options.get("proximal_mu") or 0.0),
            server=FEDADAM if options["strategy"] == "fedadam" else {},
        )
    raise NotRun(f"no shadow models are known for arm {spec.arm}")


def _noisy(spec: RunSpec, outcome: Outcome, people: People) -> Noisy:
    """Training with noise: steps by the rule, noise as the ledgers have it."""
    if len(people.members) > len(np.unique(people.members.patient)):
        raise NotRun("patients with several rows are clipped together, which shadows can't do yet")
    patients = len(np.unique(people.members.patient))
    training = private.training_of(spec, patients)
    mode = private.mode_of(spec)
    used = [mechanism for ledger in outcome.privacy.ledgers.values() for mechanism in _mechanisms(ledger)[:1]]
    each = [site_sd(m.sigma, m.sensitivity, mode, m.honest_sites) for m in used]
    local_steps = 0 if options_strategy(spec) in ("", "fedsgd") else int(spec.options["local_epochs"])
    one_place = mode in ("alone", "central") or bool(local_steps)
    return Noisy(
        steps=training.steps,
        clip=training.clip,
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        average_from=training.average_from,
        sd=float(np.mean(each)) if one_place else math.sqrt(sum(sd**2 for sd in each)),
        q=float(np.mean([m.q for m in used])),
        local_steps=local_steps,
    )


def options_strategy(spec: RunSpec) -> str:
    """The strategy of an arm that trains in rounds, else empty."""
    return str(spec.options.get("strategy") or "")


def _mechanisms(ledger: Mapping[str, object]) -> list[Mechanism]:
    return [from_json(Mechanism, m) for m in ledger["mechanisms"]]  # type: ignore[attr-defined]


def _central(spec: RunSpec, contract: Contract) -> Callable[[Pool, Bools, int], Scorer]:
    """Training in one place, one shadow after the other."""

    def train(pool: Pool, included: Bools, number: int) -> Scorer:
        rows = torch.from_numpy(np.flatnonzero(included))
        return _fitted(spec, contract, Rows(pool.x[rows], pool.y[rows]), Rows(pool.held_x, pool.held_y), number)

    return train


def _fitted(spec: RunSpec, contract: Contract, rows: Rows, held: Rows, number: int) -> Scorer:
    model = predictor(spec.model, rows.x.shape[1])
    settings = TrainingSettings(
        epochs=spec.options.get("epochs"),
        batch_size=spec.options.get("batch_size"),
        learning_rate=spec.options.get("learning_rate"),
        prevalence=contract.prevalence,
    )
    if spec.dp is None:
        candidates = model.fit(rows, settings, spec.seed, "shadow", str(number))
        chosen = model.pick(candidates, lowest(model.losses(candidates, held)))
    else:
        chosen = dict(model.fit_fixed(rows, settings, spec.seed, "shadow", str(number)))
    return lambda x: logit_of(model.scores(chosen, x).astype(np.float64))


def _from_table(spec: RunSpec, contract: Contract, people: People) -> Callable[[Pool, Bools, int], Scorer]:
    """The table is made again from the shadow's patients, hospital by hospital, and the model trained on it."""
    raw = pd.concat([people.members.rows, people.control.rows], ignore_index=True)
    site = np.concatenate([people.members.site, people.control.site])
    if spec.dp is not None and spec.dp.target == "downstream":
        raise TooCostly("a shadow needs its own generator and its own private training")
    places = [np.ones(len(raw), dtype=bool)]
    if spec.options.get("scope") not in ONE_GENERATOR:
        places = [site == name for name in np.unique(site)]

    def train(pool: Pool, included: Bools, number: int) -> Scorer:
        tables = [_table(spec, contract, raw.loc[place & included], number, i) for i, place in enumerate(places)]
        rows = encoded(pd.concat(tables, ignore_index=True), contract)
        return _fitted(spec, contract, rows, Rows(pool.held_x, pool.held_y), number)

    return train


def _table(spec: RunSpec, contract: Contract, real: pd.DataFrame, number: int, place: int) -> pd.DataFrame:
    """One place's released rows, from a shadow's patients, with randomness of the shadow's own."""
    real = real.reset_index(drop=True)
    if spec.arm == "anonymised":
        scope: Scope = "all" if spec.options["scope"] == "all" else "quasi_identifiers"
        return anonymise(real, contract, k=int(spec.options["k"]), scope=scope).rows
    seed = derived_seed(spec.seed, "shadow", number, place)
    budget = None
    if spec.dp is not None:
        budget = DpBudget.for_epsilon(spec.dp.epsilon, spec.dp.delta, np.random.default_rng(seed))
    generator = generator_of(spec.options)
    generator.fit(real, contract, seed=seed, dp=budget)
    n = int(spec.options["rows"] or len(real))
    return draw(generator, contract, n, seed=seed + 1, balance=balance_of(spec.options)).rows


def _noisy_statistics(spec: RunSpec, initial: Params) -> Callable[[Pool, Bools, int], Scorer]:
    """Encrypted sums with noise: clipped rows, noise on each round's sum, the step from it."""
    began = _flat(initial)

    def train(pool: Pool, included: Bools, number: int) -> Scorer:
        rng = np.random.default_rng([spec.seed, number, 11])
        scale, sd = noise.scale_of(spec), noise.sd_of_sum(spec)
        x = noise.clipped(_design(pool.x.numpy()[included]), float(spec.options["clip"])) * scale
        y = pool.y.numpy()[included].astype(np.float64)
        weights = began
        for _ in range(int(spec.options["rounds"])):
            exact = fit.sums(spec, x, y, weights / scale)
            upper = np.triu(rng.normal(0, sd, exact.gram.shape))
            gram = exact.gram + upper + np.triu(upper, 1).T
            moment = exact.moment + rng.normal(0, sd, exact.moment.shape)
            weights = noise.step(spec, replace(exact, gram=gram, moment=moment), weights)["weights"]
        return _linear_scorer(weights)

    return train


def _on_records(spec: RunSpec, contract: Contract, initial: Params) -> Callable[[Pool, Bools, int], Scorer]:
    """Steps on encrypted rows, taken in the clear: they agree to the fourth decimal."""
    began = _flat(initial)

    def train(pool: Pool, included: Bools, number: int) -> Scorer:
        x, y = _design(pool.x.numpy()[included]), pool.y.numpy()[included].astype(np.float64)
        plan = plan_of(spec, contract, len(x))
        return _linear_scorer(train_plain(plan, x, y, began, int(spec.options["iterations"])))

    return train


def _flat(initial: Params) -> Floats:
    both = [initial["layer0.bias"].numpy(), initial["layer0.weight"][0].numpy()]
    weights: Floats = np.concatenate(both, dtype=np.float64)
    return weights


def _design(x: npt.NDArray[np.float32]) -> Floats:
    return np.hstack([np.ones((len(x), 1)), x.astype(np.float64)])


def _linear_scorer(weights: Floats) -> Scorer:
    return lambda x: np.asarray(_design(x.numpy()) @ weights)
