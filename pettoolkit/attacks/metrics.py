"""Measured risk under the names that MLflow shows (``risk/...``)."""

from __future__ import annotations

from pettoolkit.attacks.verdict import name_of
from pettoolkit.records import MeasuredRisk, NotMeasured

LARGEST = (
    "membership_auc",
    "membership_tpr_at_1pct_fpr",
    "singling_out",
    "linkability",
    "inference",
    "reidentification_probability",
)
"""Measures of the release view that are a metric each: of the membership ones the success, of the others the excess."""

RAW = ("membership_auc", "membership_tpr_at_1pct_fpr", "reidentification_probability")
IN_TURN = "other models"


def risk_metrics(risk: MeasuredRisk | NotMeasured) -> dict[str, float]:
    """``risk/<measure>`` of the strongest attack on the release, ``risk/reid_max`` and ``risk/insider_max``.

    The strongest of several is a little too high by chance; the verdict's own figures (``*_max``) are not. An excess
    that its patients can't decide anything about is noise, and no metric.
    """
    if isinstance(risk, NotMeasured):
        return {}
    out: dict[str, float] = {}
    for measure in LARGEST:
        found = [
            f.success if measure in RAW else f.excess
            for f in risk.figures
            if f.measure == measure
            and f.view == "release"
            and f.site == "*"
            and IN_TURN not in f.attack
            and (measure in RAW or name_of(f) not in risk.verdict_release.left_out)
        ]
        if found:
            out[f"risk/{measure}"] = max(found)
    lowest = [f.details["epsilon_lower_bound"] for f in risk.figures if "epsilon_lower_bound" in f.details]
    if lowest:
        out["privacy/epsilon_lower_bound"] = max(lowest)
    for name, verdict in (("reid_max", risk.verdict_release), ("insider_max", risk.verdict_insider)):
        if not isinstance(verdict.figure, NotMeasured):
            out[f"risk/{name}"] = verdict.figure
    return out
