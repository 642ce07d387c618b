"""Encrypted statistics: the coordinator adds the hospitals' encrypted sums, and gets the fitted model in the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pettoolkit.arms.adding import Additions
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted import trust
from pettoolkit.arms.encrypted_statistics.fit import NO_ERROR
from pettoolkit.arms.encrypted_statistics.scheme import scheme_of
from pettoolkit.arms.exchange import ask
from pettoolkit.arms.private import ask_ledgers, ask_patients, stated
from pettoolkit.cohort.features import feature_names
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, Models, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = trust("the coordinator and any one hospital together can read every hospital's sums")
Z = 1.959964
"""Half-width of a 95 % interval in standard errors."""
TOLD = 5
"""So many coefficients are named in the notes; all are in the result."""
STEADY = 1e-3
"""A longer last step means that more rounds were needed."""

ONE_SHOT = (
    "ridge LINEAR regression of the outcome from one encrypted sum, not logistic regression; probabilities by "
    "logit p = logit m + (prediction - m) / (m (1 - m)) with m the mean outcome, which keeps the order of patients"
)

NOISY = (
    "rows clipped to a public norm, noise shared by the hospitals; no standard errors, which would not count the noise"
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Rounds of additions; then one hospital releases the fit of the last one."""
    began = time.perf_counter()
    contract = contract_of(spec)
    names = feature_names(contract)
    patients = ask_patients(grid, spec)
    additions = Additions(grid, spec, scheme_of(spec, contract))
    rounds = int(spec.options["rounds"])
    for number in range(1, rounds + 1):
        additions.round(number, {"patients": patients})
    first = min(spec.sites)
    errors = spec.options["method"] == "newton" and spec.dp is None
    shapes: dict[str, tuple[int, ...]] = {"layer0.weight": (1, len(names)), "layer0.bias": (1,)}
    if errors:
        shapes |= {"standard_errors": (len(names) + 1,), "last_step": (1,)}
    reply = ask(
        grid,
        spec,
        "release",
        "release",
        wants="model",
        sites=(first,),
        extra={"patients": patients},
        expect=shapes,
    )[first]
    model = {name: reply.arrays[name] for name in ("layer0.weight", "layer0.bias")}
    coefficients = table(names, model, reply.arrays["standard_errors"]) if errors else {}
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=_statement(grid, spec),
        exposure=grid.exposure(out_of_band=("keys",)),
        cost=Cost(time.perf_counter() - began, extra=additions.cost()),
        rounds=rounds,
        encryption=additions.parameters(reply.figures),
        coefficients=coefficients,
        notes=(
            f"fit of {patients} patients' sums, ridge {spec.options['ridge']:g}; released once by hospital {first} "
            "with flooding noise",
            *((ONE_SHOT,) if spec.options["method"] == "one_shot" else ()),
            *(_newton_notes(coefficients, float(reply.arrays["last_step"][0]), rounds) if errors else ()),
            *((NOISY,) if spec.dp is not None else ()),
        ),
    )


def _statement(grid: MeteredGrid, spec: RunSpec) -> PrivacyStatement:
    if spec.dp is None:
        return PRIVACY
    honest = spec.dp.honest_sites or len(spec.sites)
    return replace(
        stated(PRIVACY, spec, ask_ledgers(grid, spec)),
        trust=f"{PRIVACY.trust}; {honest} of {len(spec.sites)} hospitals add their part of the noise",
    )


def table(
    names: tuple[str, ...], model: Mapping[str, npt.NDArray[np.float32]], errors: npt.NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Coefficient, standard error, odds ratio and its 95 % interval of each feature (Wald).

    For one unit of the *encoded* feature: half of its public range, or 0 to 1 of an indicator. Features that are zero
    in all rows are left out.
    """
    out: dict[str, dict[str, float]] = {}
    weights = (float(model["layer0.bias"][0]), *(float(w) for w in model["layer0.weight"][0]))
    for name, weight, error in zip(("intercept", *names), weights, map(float, errors), strict=True):
        if error < NO_ERROR:
            continue
        out[name] = {
            "coefficient": weight,
            "standard_error": error,
            "odds_ratio": float(np.exp(weight)),
            "low": float(np.exp(weight - Z * error)),
            "high": float(np.exp(weight + Z * error)),
        }
    return out


def _newton_notes(coefficients: Mapping[str, Mapping[str, float]], last_step: float, rounds: int) -> tuple[str, ...]:
    features = [name for name in coefficients if name != "intercept"]
    features.sort(key=lambda n: -abs(coefficients[n]["coefficient"]) / coefficients[n]["standard_error"])
    told = "; ".join(
        f"{n} {coefficients[n]['odds_ratio']:.2f} ({coefficients[n]['low']:.2f}-{coefficients[n]['high']:.2f})"
        for n in features[:TOLD]
    )
    steady = f"the last of {rounds} Newton steps moved no weight by more than {abs(last_step):.1g}"
    if abs(last_step) > STEADY:
        steady += f": not steady yet, write rounds: {rounds + 3}"
    return (
        "odds ratios (95 % interval) for half of a feature's public range, or for a missing value (?), "
        f"clearest of {len(features)}: {told}",
        steady,
    )
