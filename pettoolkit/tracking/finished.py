"""What the store knows about a finished cell without opening its files, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pettoolkit.records import RESULT_VERSION, Json, digest_of

if TYPE_CHECKING:
    from mlflow.entities import Run

SUPERSEDED = "pet.superseded"
TAG_LENGTH = 8000
"""Longest value of a tag that MLflow takes."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell whose result is stored, with what its hash covers in parts."""

    run_id: str
    name: str
    config_hash: str
    spec_hash: str
    digests: Mapping[str, str]
    contract_digest: str
    result_version: int
    params: Mapping[str, str]
    row: str = ""
    """Which row of the table it is (:func:`names.row_of`)."""
    cohort: str = ""
    superseded: bool = False


def finished_cell(run: Run) -> FinishedCell:
    """Read a cell from the tags of its run."""
    tags: dict[str, Any] = run.data.tags
    return FinishedCell(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        config_hash=tags["pet.config_hash"],
        spec_hash=tags["pet.spec_hash"],
        digests=json.loads(tags["pet.digests"]),
        contract_digest=tags["pet.contract_digest"],
        result_version=int(tags["pet.result_version"]),
        params=run.data.params,
        row=tags.get("pet.row", ""),
        cohort=tags.get("pet.cohort", ""),
        superseded=tags.get(SUPERSEDED) == "true",
    )


def digests_tag(digests: Json) -> str:
    """Digests of the sites' tables, shortened; one for all of them where a tag could not hold so many."""
    short = {site: str(digest)[:16] for site, digest in digests.items()}
    text = json.dumps(short, sort_keys=True)
    return text if len(text) <= TAG_LENGTH else json.dumps({"*": digest_of(short)[:16]})


def changes(cell: FinishedCell, identity: Mapping[str, Json]) -> list[str]:
    """What of data, contract and version is not as it was."""
    now: dict[str, str] = json.loads(digests_tag(identity["digests"]))
    sites = sorted(set(now) | set(cell.digests))
    found = [
        "a hospital's table changed" if site == "*" else f"table of hospital {site} changed"
        for site in sites
        if now.get(site) != cell.digests.get(site)
    ]
    if cell.contract_digest != identity["contract_digest"]:
        found.append("contract changed")
    if cell.result_version != RESULT_VERSION:
        found.append(f"RESULT_VERSION {cell.result_version} -> {RESULT_VERSION}")
    return found
