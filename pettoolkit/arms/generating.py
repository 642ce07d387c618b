"""Inside: synthetic rows of one hospital, for every arm that hands some over."""

from __future__ import annotations

import io
import math

import pandas as pd

from pettoolkit.arms.private import budget_of, summary_of
from pettoolkit.errors import Refused
from pettoolkit.hospital.accounts import ledger_of, noise_of
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.seeding import derived_seed
from pettoolkit.privacy import conditions
from pettoolkit.privacy.events import GAUSSIAN, Identity, Mechanism
from pettoolkit.privacy.ledger import Budget
from pettoolkit.privacy.noise import Draw
from pettoolkit.records import RunSpec, digest_of, to_json
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.protocol import DpBudget

PURPOSE = "synthetic rows"
"""What the ledger and the noise are told."""


def rows(site: Site, request: Request) -> Envelope:
    """Synthetic rows of this hospital; a generator is fitted once per (seed, generator, budget) for all models."""
    if _private(request.spec):
        data = _private_rows(site, request.spec)
    else:
        data = once(site.store, f"synthetic/{_fit_id(request.spec)}", lambda: _made(site, request.spec, None))
    return Envelope("synthetic_records", "training", Table(pd.read_parquet(io.BytesIO(data))))


def ledger(site: Site, request: Request) -> Envelope:
    """The ledger of the generator that made the rows: the models trained on them spend nothing more."""
    return summary_of(site, request, _fit_id(request.spec))


def _private(spec: RunSpec) -> bool:
    return spec.dp is not None and spec.dp.target == "patients"


def _fit_id(spec: RunSpec) -> str:
    """Names a fitted generator: everything that its rows depend on, which the model is not."""
    fitted = {
        "generator": [spec.options[k] for k in ("generator", "scope", "rows")],
        "seed": spec.seed,
        "dp": to_json(spec.dp) if _private(spec) else None,
        "features": spec.features,
        "patients": spec.patients_per_site,
        "contract": spec.contract_digest,
    }
    return digest_of(fitted)[:16]


def _private_rows(site: Site, spec: RunSpec) -> bytes:
    """Rows of a generator with a guarantee: charged to the ledger before a patient is read, stored for good.

    All queries of the generator are Gaussian with rho-zCDP costs that add up; one Gaussian event of
    sigma = 1/sqrt(2 rho) at sensitivity 1 is the same as all of them together (Dong et al. 2022, corollary 3.3).
    """
    dp = budget_of(spec)
    patient, patients = site.training_patients(spec)
    if patient is not None:
        raise Refused(f"hospital {site.name}: a generator with dp needs one row per patient (some have several)")
    conditions.check(dp, sites=len(spec.sites), smallest=patients)
    noise = noise_of(site, spec.seed, dp.noise)
    generator = protocol.create(str(spec.options["generator"]))
    planned = generator.plan(
        site.narrowed(spec), DpBudget.for_epsilon(dp.epsilon, dp.delta, noise.generator(Draw(PURPOSE)))
    )
    mechanism = Mechanism(GAUSSIAN, sigma=1 / math.sqrt(2 * protocol.total_rho(planned)), replace_factor=math.sqrt(2))
    run = _fit_id(spec)
    account = ledger_of(site, run, Budget(dp.epsilon, dp.delta), mechanism)
    identity = Identity(run, site.name, 0, PURPOSE, run)

    def make(attempt: int) -> bytes:
        budget = DpBudget.for_epsilon(dp.epsilon, dp.delta, noise.generator(Draw(PURPOSE, attempt=attempt)))
        return _made(site, spec, budget)

    return account.answer(identity, mechanism, make)


def _made(site: Site, spec: RunSpec, budget: DpBudget | None) -> bytes:
    real = site.table(spec, "train")
    generator = protocol.create(str(spec.options["generator"]))
    generator.fit(real, site.narrowed(spec), seed=derived_seed(spec.seed, "fit", site.name), dp=budget)
    made = generator.sample(int(spec.options["rows"] or len(real)), seed=derived_seed(spec.seed, "sample", site.name))
    buffer = io.BytesIO()
    made.to_parquet(buffer, index=False)
    return buffer.getvalue()
