"""Anonymised: the hospital generalises its training records by Mondrian and hands them over."""

from __future__ import annotations

import numpy as np

from pettoolkit.arms.central import validate
from pettoolkit.arms.private import not_under_dp
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.seeding import derived_seed
from pettoolkit.synthesis.anonymise import AnonymityReport, Scope, anonymise


def records(site: Site, request: Request) -> Envelope:
    """The training patients' generalised rows in an order of their own, and what was achieved.

    Intervals are handed over as their midpoints, the form in which the models take them.

    Raises
    ------
    Refused
        If the hospital has fewer than k patients, or several rows of one patient.
    """
    spec = request.spec
    not_under_dp(site, spec, "rows")
    k = int(spec.options["k"])
    patient, patients = site.training_patients(spec)
    if patient is not None:
        raise Refused(f"hospital {site.name}: k-anonymity counts rows, and some of its patients have several")
    if patients < k:
        raise Refused(
            f"hospital {site.name}: has fewer training patients than k = {k} (choose a smaller k or leave it out)"
        )
    scope: Scope = "all" if spec.options["scope"] == "all" else "quasi_identifiers"
    made = anonymise(site.table(spec, "train"), site.narrowed(spec), k=k, scope=scope)
    # the order of the table would tell which row was whose
    order = np.random.default_rng(derived_seed(spec.seed, "order of rows", site.name)).permutation(len(made.rows))
    return Envelope("anonymised_records", "training", Table(made.rows.iloc[order]), _figures(made.report))


def _figures(report: AnonymityReport) -> dict[str, float]:
    named: dict[str, float] = {"k": report.k, "groups": report.groups}
    named |= {f"l/{column}": value for column, value in report.l_diversity.items()}
    named |= {f"t/{column}": value for column, value in report.t_closeness.items()}
    return named | {f"width/{column}": value for column, value in report.width.items()}


HANDLERS = {"records": records, "validate": validate}
