"""Encrypted or plain, the released model gives away the same: a check on the run, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import AttackFigure, MeasuredRisk, RunSpec, digest_of, to_json

PLAIN, ENCRYPTED = "federated", "encrypted_aggregation"

TOLERANCE = 0.02
"""Encryption's error moves a score in the fourth decimal, and a rank here and there."""


def encrypted_as_plain(reports: Sequence[CellReport]) -> list[str]:
    """Compare membership figures of cells that differ in encryption alone.

    Returns
    -------
    list
        One sentence, or none if no two such cells were attacked.
    """
    plain = {_setting(r.spec): r for r in reports if r.spec.arm == PLAIN and _figures(r)}
    differences: list[float] = []
    for report in reports:
        other = plain.get(_setting(report.spec)) if report.spec.arm == ENCRYPTED else None
        if other is not None:
            mine, theirs = _figures(report), _figures(other)
            differences += [abs(mine[key].success - theirs[key].success) for key in mine.keys() & theirs.keys()]
    if not differences:
        return []
    worst = max(differences)
    said = f"Encrypted or plain: attacks on the released models differ by at most {worst:.3f}"
    if worst <= TOLERANCE:
        return [f"{said}: encryption hides updates, not what the model gives away."]
    return [f"{said}, more than rounding explains ({TOLERANCE}): CHECK this run, the models should be the same."]


def _figures(report: CellReport) -> dict[tuple[str, str, str], AttackFigure]:
    measured = report.result.privacy.measured if report.result is not None else None
    if not isinstance(measured, MeasuredRisk):
        return {}
    return {(f.attack, f.measure, f.site): f for f in _membership(measured)}


def _membership(measured: MeasuredRisk) -> Iterator[AttackFigure]:
    return (f for f in measured.figures if f.view == "release" and f.measure.startswith("membership_"))


def _setting(spec: RunSpec) -> str:
    """All that makes the released model, and nothing of encryption."""
    training = ("strategy", "rounds", "local_epochs", "batch_size", "learning_rate", "momentum", "proximal_mu")
    data = to_json(spec)
    for name in ("arm", "options", "contract", "experiment"):
        del data[name]
    options = {name: spec.options.get(name) or None for name in training}
    return digest_of([data, options])
