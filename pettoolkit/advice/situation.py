"""What a person is asked: what the situation allows, and what is good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pettoolkit.cohort.yamlfile import read_value
from pettoolkit.errors import BadInput

MARGIN = 0.02
"""AUROC that may be lost against pooled real data, if nothing is written."""

DATA = ("table", "relational", "series", "text", "image")

Answer = Literal["yes", "no"] | None
Number = Annotated[float, Field(gt=0)] | None
Count = Annotated[int, Field(strict=True, ge=1)] | None


class Situation(BaseModel):
    """The answers; ``null`` is *not answered*, and what depends on it is then said as a condition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    may_process: Answer = Field(
        default=None, description="May real patients' data be processed for this purpose, in the hospitals?"
    )
    records_may_leave: Literal["yes", "anonymous", "no"] | None = Field(
        default=None, description="May patients' rows leave the hospital: as they are, only anonymous, or not at all?"
    )
    trusted_coordinator: Answer = Field(
        default=None, description="Is there a coordinator whom all hospitals trust with what they send?"
    )
    may_collude: Answer = Field(default=None, description="Could the coordinator and one of the hospitals collude?")
    is_released: Answer = Field(default=None, description="Will the model be given to others than these hospitals?")
    phase: Literal["hypothesis", "development", "operation"] | None = Field(
        default=None, description="What is it for: to find a hypothesis, to develop a model, or to operate one?"
    )
    data: Literal["table", "relational", "series", "text", "image"] = Field(
        default="table", description="What are the data: a table, several related ones, series, text or images?"
    )
    hospitals: Count = Field(default=None, description="How many hospitals take part?")
    patients: Count = Field(default=None, description="How many patients to train on has a typical hospital?")
    max_risk: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Largest excess risk that attacks may be measured to have?"
    )
    max_epsilon: Number = Field(
        default=None, description="Largest epsilon, if a guarantee for each patient is asked for?"
    )
    min_auroc: Annotated[float, Field(gt=0.5, lt=1)] | None = Field(
        default=None, description="Lowest AUROC that is of any use?"
    )
    max_megabytes: Number = Field(default=None, description="Most megabytes that may leave a hospital in one run?")
    max_seconds: Number = Field(default=None, description="Most seconds that training may take?")
    margin: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=MARGIN, description="AUROC that may be lost against pooled real data?"
    )

    @property
    def open(self) -> tuple[str, ...]:
        """Questions of words that are not answered."""
        return tuple(name for name in WORDS if getattr(self, name) is None)


@dataclass(frozen=True)
class Question:
    """One question as a person reads it."""

    key: str
    text: str
    words: tuple[str, ...]
    """The answers there are; empty where a number is asked for."""
    usual: str
    """What an empty answer means; empty: not answered."""


def questions() -> tuple[Question, ...]:
    """All questions, in the order in which they are asked; those that `--margin` answers come last."""
    return tuple(
        Question(
            name,
            str(field.description),
            _words(field.annotation),
            "" if field.default is None else str(field.default),
        )
        for name, field in Situation.model_fields.items()
    )


def ask(given: dict[str, Any], answer: Callable[[Question], str]) -> dict[str, Any]:
    """Put the questions that are not answered yet, one by one; what is no answer is asked again.

    Parameters
    ----------
    given
        Answers that are there already: they are not asked again.
    answer
        Shows one question and returns what was typed; an empty text leaves it at what is usual.
    """
    asked = dict(given)
    for question in questions():
        if question.key in given:
            continue
        said = answer(question).strip()
        while said and (why := _wrong(question.key, said)):
            said = answer(replace(question, text=f"{said}: {why}. {question.text}")).strip()
        if said:
            asked[question.key] = said
    return asked


def _wrong(key: str, said: str) -> str:
    """Why that is no answer; empty where it is one."""
    try:
        Situation.model_validate({key: read_value(said)})
    except BadInput:
        return "can't be read"
    except ValidationError as error:
        return error.errors()[0]["msg"].replace("Input should be", "must be", 1)
    return ""


def _words(kind: Any) -> tuple[str, ...]:
    """Words of a Literal, alone or beside None."""
    found: tuple[str, ...] = ()
    for part in (kind, *get_args(kind)):
        if not found and all(isinstance(word, str) for word in get_args(part)):
            found = tuple(get_args(part))
    return found


WORDS = tuple(question.key for question in questions() if question.words and not question.usual)
