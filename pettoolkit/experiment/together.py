"""What the shown cells give away together: a statement covers its own cell, but cells share their patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pettoolkit.experiment.cells import CellReport
from pettoolkit.privacy.statement import compose_cells
from pettoolkit.records import Guarantee, Json, PrivacyStatement

SHARED = " in a deployment (simulated cells of one seed and noise mode share their noise, and together they hide less)"
"""Arms are compared number by number on the same noise, whose differences then show what it hid."""

Ledgers = Mapping[str, Mapping[str, Json]]


def together(reports: Sequence[CellReport]) -> str:
    """One line under the table: what all shown cells with a guarantee add up to, and what the others make of it.

    A patient is in every cell in the worst case: seeds and models part the same patients differently, and none
    of that is taken into account. A ledger that serves several cells (a generator's) counts once.

    Returns
    -------
    str
        Empty where no shown cell has a guarantee.
    """
    shown = [report.result.privacy for report in reports if report.result is not None]
    private = [(privacy, privacy.guarantee) for privacy in shown if isinstance(privacy.guarantee, Guarantee)]
    if not private:
        return ""
    delta = max(guarantee.delta for _, guarantee in private)
    epsilon = compose_cells(_each_ledger_once([privacy for privacy, _ in private]), delta)
    what = "the one cell with a guarantee: " if len(private) == 1 else f"all {len(private)} cells with a guarantee: "
    said = f"Taken together on the same patients, {what}epsilon {epsilon:.3g} at delta {delta:g}"
    if len(private) > 1 and any(guarantee.simulated_noise for _, guarantee in private):
        said += SHARED
    open_cells = len(shown) - len(private)
    if not open_cells:
        return f"{said}; any release without a guarantee on the same patients makes it infinite."
    them = "1 cell without one makes" if open_cells == 1 else f"{open_cells} cells without one make"
    return f"{said}; the {them} it infinite."


def _each_ledger_once(statements: Sequence[PrivacyStatement]) -> list[Ledgers]:
    seen: set[tuple[str, str]] = set()
    cells: list[Ledgers] = []
    for statement in statements:
        new = {site: s for site, s in statement.ledgers.items() if (site, str(s["run"])) not in seen}
        seen |= {(site, str(s["run"])) for site, s in new.items()}
        cells.append(new)
    return cells
