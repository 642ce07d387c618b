"""What the reports are made of: the documents of `declare` and `attack` about one table, and who answers for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from pettoolkit.errors import BadInput

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """One table: what was declared about it, what attacks measured, and what people say.

    Parameters
    ----------
    quality, declaration
        The table's part of the document of `pettoolkit declare`, and the document; None if quality was not measured.
    release, risk
        The same of `pettoolkit attack`.
    settings
        How the table was made, by dotted key.
    answers
        Answers of the data controller by item of the checklist.
    guarantee
        Of differential privacy, as a record of a run has it; None if it is known from the declaration alone.
    accepted_risk
        Why a table is released although an attack got more than its threshold allows.
    """

    name: str
    rows: int
    sha256: str | None
    quality: Json | None
    declaration: Json | None
    release: Json | None
    risk: Json | None
    responsible: Mapping[str, str]
    date: str
    version: str
    settings: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    guarantee: Json | None = None
    accepted_risk: str | None = None

    @property
    def anchors(self) -> Sequence[Json]:
        """The same attacks on tables of known risk, from floor to ceiling."""
        if self.risk is None or self.release is None:
            return ()
        found: Sequence[Json] = self.risk["anchors"].get(self.release["name"], ())
        return found

    @property
    def stated(self) -> str:
        """What is stated about differential privacy, in the declaration's words."""
        return "not stated" if self.quality is None else str(self.quality["guarantee"])


def tables(declaration: Json | None, risk: Json | None, **people: Any) -> list[Given]:
    """Pair what both documents say about the same table: by its SHA-256, or by its name where a document has none.

    Parameters
    ----------
    people
        The other fields of :class:`Given`.

    Raises
    ------
    BadInput
        If both documents are there and no table is in both.
    """
    declared = [] if declaration is None else list(declaration["candidates"])
    attacked = [] if risk is None else [m for m in risk["releases"] if single(m)]
    out, left = [], list(attacked)
    for quality in declared:
        release = next((m for m in left if _same(quality, m)), None)
        if release is not None:
            left.remove(release)
        out.append(
            Given(
                name=quality["name"],
                rows=quality["rows"],
                sha256=_hash(quality) or (None if release is None else digest_of(release)),
                quality=quality,
                declaration=declaration,
                release=release,
                risk=None if release is None else risk,
                **people,
            )
        )
    both = declaration is not None and risk is not None
    if both and not any(g.release for g in out):
        raise BadInput(
            "--risk: is about other tables than --declaration "
            f"({_named(attacked) or 'no table'}; not {_named(declared)}); measure the same files"
        )
    for release in left:
        name = PurePath(release["name"]).name
        out.append(Given(name, release["rows"], digest_of(release), None, None, release, risk, **people))
    return out


def single(release: Json) -> bool:
    """Whether an entry of a risk document is one table, and neither a model nor several tables together."""
    return release["source"] != "model" and len(release.get("sha256", {"": ""})) == 1


def _same(quality: Json, release: Json) -> bool:
    one, other = _hash(quality), digest_of(release)
    if one is not None and other is not None:
        return one == other
    return PurePath(release["name"]).name == PurePath(quality["name"]).name


def _hash(quality: Json) -> str | None:
    found = quality.get("sha256")
    return found if isinstance(found, str) else None


def digest_of(release: Json) -> str | None:
    """SHA-256 of the one table of an entry of a risk document; None in documents that had none yet."""
    return next(iter(release.get("sha256", {}).values()), None)


def _named(entries: Sequence[Json]) -> str:
    return ", ".join(str(e["name"]) for e in entries)
