"""Inside: synthetic rows of one hospital, for every arm that hands some over."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pettoolkit.arms.central import encoded
from pettoolkit.arms.common import predictor_of, train_here
from pettoolkit.arms.generators import balance_of, generator_of
from pettoolkit.arms.private import budget_of, summary_of
from pettoolkit.errors import Refused
from pettoolkit.evaluation.metrics import auroc
from pettoolkit.hospital.accounts import ledger_of, noise_of
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.seeding import derived_seed
from pettoolkit.privacy import conditions
from pettoolkit.privacy.accounting import gaussian_mu
from pettoolkit.privacy.events import Identity
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.noise import Draw
from pettoolkit.records import NotMeasured, RunSpec, digest_of, to_json
from pettoolkit.synthesis.drawing import draw
from pettoolkit.synthesis.protocol import DpBudget, one_mechanism
from pettoolkit.synthesis.release_filter import release_filter

PURPOSE = "synthetic rows"
"""What the ledger and the noise are told."""

FIGURES = b"figures"
"""Key of the stored table's metadata that holds its figures."""

DECIDES = ("generator", "scope", "rows", "fit_epochs", "smoothing", "pairs", "balance", "filter")
"""Options that a table of synthetic rows depends on."""


@dataclass(frozen=True)
class Made:
    """One hospital's synthetic rows, and figures about the work: counts of drawn rows, never patients' values."""

    rows: pd.DataFrame
    figures: Mapping[str, float]

    def to_bytes(self) -> bytes:
        """The table as Parquet, with the figures among its metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(self.rows, preserve_index=False)
        marked = {**(table.schema.metadata or {}), FIGURES: json.dumps(dict(self.figures)).encode()}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(marked), buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Made:
        """Inverse of :meth:`to_bytes`."""
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(data))
        return cls(table.to_pandas(), json.loads(table.schema.metadata[FIGURES]))


def rows(site: Site, request: Request) -> Envelope:
    """Synthetic rows of this hospital; a generator is fitted once per (seed, generator, budget) for all models."""
    if _private(request.spec):
        made = _private_rows(site, request.spec)
    else:
        key = f"synthetic/{fit_id(request.spec)}"
        made = once(site.store, key, lambda: _made(site, request.spec, None).to_bytes())
    return envelope_of(Made.from_bytes(made))


def envelope_of(made: Made) -> Envelope:
    """Synthetic rows on their way out."""
    return Envelope("synthetic_records", "training", Table(made.rows), made.figures)


def ledger(site: Site, request: Request) -> Envelope:
    """The ledger of the generator that made the rows: the models trained on them spend nothing more."""
    return summary_of(site, request, fit_id(request.spec))


def _private(spec: RunSpec) -> bool:
    return spec.dp is not None and spec.dp.target == "patients"


def fit_id(spec: RunSpec) -> str:
    """Names a fitted generator: everything that its rows depend on; the model only where it judges a filter."""
    fitted = {
        "generator": [spec.options.get(key) for key in DECIDES],
        "sites": list(spec.sites) if spec.options.get("scope") == "secure_sum" else None,
        "judge": to_json(spec.model) if _filter(spec) != "none" else None,
        "seed": spec.seed,
        "dp": to_json(spec.dp) if _private(spec) else None,
        "features": spec.features,
        "patients": spec.patients_per_site,
        "contract": spec.contract_digest,
    }
    return digest_of(fitted)[:16]


def _private_rows(site: Site, spec: RunSpec) -> bytes:
    """Rows of a generator with a guarantee, which spends the whole budget of the run."""
    dp = budget_of(spec)
    run = fit_id(spec)
    account = ledger_of(site, run, Budget(dp.epsilon, dp.delta))
    return charged(site, spec, run, account, gaussian_mu(dp.epsilon, dp.delta) ** 2 / 2)


def charged(site: Site, spec: RunSpec, run: str, account: Ledger, rho: float) -> bytes:
    """Rows of a generator that spends ``rho``: charged to the ledger before a patient is read, stored for good.

    All queries of the generator are Gaussian mechanisms, together one (:func:`one_mechanism`).
    """
    dp = budget_of(spec)
    patients = one_row_each(site, spec)
    source = noise_of(site, spec.seed, dp.noise)
    generator = generator_of(spec.options)
    planned = generator.plan(site.narrowed(spec), DpBudget(rho, source.generator(Draw(PURPOSE)), patients))
    identity = Identity(run, site.name, 0, PURPOSE, fit_id(spec))

    def make(attempt: int) -> bytes:
        noise = source.generator(Draw(PURPOSE, attempt=attempt))
        return _made(site, spec, DpBudget(rho, noise, patients)).to_bytes()

    return account.answer(identity, one_mechanism(planned), make, simulated=source.simulated)


def one_row_each(site: Site, spec: RunSpec) -> int:
    """See that differential privacy for rows is one for patients; gives the (public) number of training patients.

    Raises
    ------
    Refused
        If some patients have several rows, or the budget would not mean what it says.
    """
    patient, patients = site.training_patients(spec)
    conditions.check(budget_of(spec), sites=len(spec.sites), patients=patients, patient_known=site.patients_known)
    if patient is not None:
        raise Refused(
            f"hospital {site.name}: some patients have several rows, and a generator's histograms count rows, not "
            "patients; keep one row per patient, or take arm: federated, whose gradients are clipped per patient"
        )
    return patients


def _made(site: Site, spec: RunSpec, budget: DpBudget | None) -> Made:
    real, contract = site.table(spec, "train"), site.narrowed(spec)
    generator = generator_of(spec.options)
    began = time.perf_counter()
    generator.fit(real, contract, seed=derived_seed(spec.seed, "fit", site.name), dp=budget)
    # How long a fit takes depends on the patients: under a budget nothing that it does not cover leaves.
    took = {"fit_seconds": time.perf_counter() - began} if budget is None else {}
    n = int(spec.options["rows"] or len(real))
    seed = derived_seed(spec.seed, "sample", site.name)
    drawn = draw(generator, contract, n, seed=seed, balance=balance_of(spec.options))
    made = Made(drawn.rows, {"rows": float(len(drawn.rows)), **took, **drawn.figures})
    return made if _filter(spec) == "none" else _filtered(site, spec, made, real)


def _filter(spec: RunSpec) -> str:
    return str(spec.options.get("filter", "none"))


def _filtered(site: Site, spec: RunSpec, made: Made, real: pd.DataFrame) -> Made:
    """Hold rows back, and say what a model for this hospital's validation patients loses by it."""
    if spec.dp is not None and spec.dp.target == "patients":
        raise Refused(f"hospital {site.name}: a release filter reads real rows, which no epsilon covers")
    kept = release_filter(made.rows, real, site.narrowed(spec), "close" if _filter(spec) == "close" else "exact")
    if kept.rows.empty:
        raise Refused(
            f"hospital {site.name}: the release filter holds back every synthetic row "
            "(take a less faithful generator, or filter: exact)"
        )
    figures = {"filter/exact": float(kept.exact), "filter/close": float(kept.close), "filter/limit": kept.limit}
    for when, table in (("before", made.rows), ("after", kept.rows)):
        figures |= {f"filter/auroc_{when}": value for value in _utility(site, spec, table)}
    return Made(kept.rows, {**made.figures, **figures, "rows": float(len(kept.rows))})


def _utility(site: Site, spec: RunSpec, table: pd.DataFrame) -> list[float]:
    """AUROC on this hospital's validation patients of a model trained on the table; empty where it is undefined."""
    contract, held_out = site.narrowed(spec), site.part(spec, "validation")
    model = predictor_of(spec, contract)
    trained, _ = train_here(spec, contract, encoded(table, contract), lambda made: model.losses(made, held_out))
    value = auroc(held_out.y.numpy(), model.scores(trained, held_out.x))
    return [] if isinstance(value, NotMeasured) else [value]
