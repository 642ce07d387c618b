"""The rules and their sources (knowledge.yaml), typed: a rule without a source cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pettoolkit.advice.situation import DATA, WORDS, Situation
from pettoolkit.cohort.yamlfile import parse

FILE = Path(__file__).with_name("knowledge.yaml")
DP = "differential_privacy"
ITEMS = ("storage", "testing", "skills", "compliance", "long_term")
"""What a checklist asks of each technology (DSIT and ICO, 2024)."""

Sources = Annotated[tuple[str, ...], Field(min_length=1)]


class Part(BaseModel):
    """Base of what stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Part):
    """Where something stands, and exactly what it supports."""

    title: str
    supports: str


class Rule(Part):
    """What an answer means for the technologies that match; all that is written must hold."""

    id: str
    when: Mapping[str, tuple[str, ...]] = {}
    """Question to the answers at which the rule applies."""
    arms: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    """Kinds of which the recorded run let one out of a hospital."""
    guarantee: bool | None = None
    release_verdict: tuple[str, ...] = ()
    hospitals_at_most: int | None = None
    effect: Literal["rule_out", "condition", "note"]
    because: str
    sources: Sources

    @model_validator(mode="after")
    def _answers_exist(self) -> Self:
        for key, answers in self.when.items():
            allowed = Situation.model_fields[key].annotation if key in WORDS else None
            if allowed is None or any(f"'{answer}'" not in str(allowed) for answer in answers):
                raise ValueError(f"rule {self.id}: {key} has no answer {', '.join(answers)}")
        return self


class Limit(Part):
    """A number that the situation may set, and the measured figure that it limits."""

    id: str
    measure: Literal["epsilon", "risk", "megabytes", "seconds"]
    limit: str
    because: str
    sources: Sources


class Family(Part):
    """Technologies of one kind."""

    arms: tuple[str, ...]


class Maturity(Part):
    """How far a kind of technology is with a kind of data, and who says so."""

    level: Literal["mature", "experimental", "not measured here"]
    says: str
    sources: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _claims_have_sources(self) -> Self:
        if self.level != "not measured here" and not self.sources:
            raise ValueError(f"{self.level}: a level needs a source")
        return self


class Knowledge(Part):
    """The whole file."""

    sources: Mapping[str, Source]
    rules: tuple[Rule, ...]
    limits: tuple[Limit, ...]
    answers: Mapping[str, Sources]
    families: Mapping[str, Family]
    maturity: Mapping[str, Mapping[str, Maturity]]
    checklist: Mapping[str, Mapping[str, str]]

    @model_validator(mode="after")
    def _nothing_is_missing(self) -> Self:
        used = {source for rule in self.rules for source in rule.sources}
        used |= {source for limit in self.limits for source in limit.sources}
        used |= {s for kinds in self.maturity.values() for found in kinds.values() for s in found.sources}
        used |= {source for sources in self.answers.values() for source in sources}
        if used != set(self.sources):
            raise ValueError(f"sources that are used and sources that there are: {sorted(used ^ set(self.sources))}")
        if set(self.maturity) != {*self.families, DP} or any(
            set(kinds) != set(DATA) for kinds in self.maturity.values()
        ):
            raise ValueError(f"maturity: each family and {DP} needs {', '.join(DATA)}")
        if set(self.checklist) != set(self.families) or any(set(c) != set(ITEMS) for c in self.checklist.values()):
            raise ValueError(f"checklist: each family needs {', '.join(ITEMS)}")
        return self

    def family_of(self, arm: str) -> str | None:
        """Which kind of technology an arm is; None for one that the file does not know."""
        return next((name for name, family in self.families.items() if arm in family.arms), None)


@cache
def knowledge() -> Knowledge:
    """Read the file that comes with the package."""
    return parse(Knowledge, FILE)
