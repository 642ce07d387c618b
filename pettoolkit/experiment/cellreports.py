"""The files of a cell beside its result: its table, what was declared, and the standard reports of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pettoolkit.experiment.quality import ARTIFACT
from pettoolkit.experiment.released import MARK, TABLE, table_files
from pettoolkit.records import MeasuredRisk, RunResult

if TYPE_CHECKING:
    from pettoolkit.experiment.config import ResponsibleKeys
    from pettoolkit.experiment.execute import Executed

FOLDER = "reports"
"""Of the standard reports among a cell's artifacts."""


def cell_files(done: Executed, responsible: ResponsibleKeys) -> dict[str, bytes]:
    """Return further artifacts of a cell by name.

    The standard reports are among them where its table was declared and attacked, and the experiment file names who
    answers for it; `pettoolkit assess --experiment` makes them of any cell with a table.
    """
    files = {**done.files, **table_files(done.table, done.result.privacy.guarantee, responsible.model_dump())}
    return {**files, **_reports(done.result, files, responsible)}


def _reports(result: RunResult, files: Mapping[str, bytes], responsible: ResponsibleKeys) -> dict[str, bytes]:
    has_both = ARTIFACT in files and TABLE in files and isinstance(result.privacy.measured, MeasuredRisk)
    if not has_both or not responsible.name or not responsible.email:
        return {}
    from pettoolkit.experiment.assess import people
    from pettoolkit.experiment.assesscells import given_of
    from pettoolkit.report.standard import write

    who = people(responsible.name, responsible.email, None)
    given = given_of(result, files[TABLE], json.loads(files[MARK]), files[ARTIFACT], who)
    return {f"{FOLDER}/{name}": data for name, data in write.reports(given).items()}
