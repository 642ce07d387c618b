"""Synthetic data: the hospital fits a generator on its training patients and hands over made-up rows."""

from __future__ import annotations

import io

import pandas as pd

from pettoolkit.arms.central import validate
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.seeding import derived_seed
from pettoolkit.records import digest_of, to_json
from pettoolkit.synthesis import protocol


def rows(site: Site, request: Request) -> Envelope:
    """Synthetic rows of this hospital; a generator is fitted once per (seed, generator, budget) for all models."""
    table = pd.read_parquet(io.BytesIO(once(site.store, _key(request), lambda: _make(site, request))))
    return Envelope("synthetic_records", "training", Table(table))


def _key(request: Request) -> str:
    spec = request.spec
    fitted = {
        "generator": [spec.options[k] for k in ("generator", "scope", "rows")],
        "seed": spec.seed,
        "dp": to_json(spec.dp),
        "features": spec.features,
        "patients": spec.patients_per_site,
        "contract": spec.contract_digest,
    }
    return f"synthetic/{digest_of(fitted)}"


def _make(site: Site, request: Request) -> bytes:
    spec = request.spec
    real = site.table(spec, "train")
    generator = protocol.create(str(spec.options["generator"]))
    generator.fit(real, site.narrowed(spec), seed=derived_seed(spec.seed, "fit", site.name), dp=None)
    made = generator.sample(int(spec.options["rows"] or len(real)), seed=derived_seed(spec.seed, "sample", site.name))
    buffer = io.BytesIO()
    made.to_parquet(buffer, index=False)
    return buffer.getvalue()


HANDLERS = {"rows": rows, "validate": validate}
