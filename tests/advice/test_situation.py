"""Questions: asked once, answered in words, checked."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pettoolkit.advice.situation import MARGIN, WORDS, Situation, ask, questions


def test_an_empty_situation_answers_nothing_and_has_the_stated_margin() -> None:
    assert Situation().open == WORDS
    assert Situation().margin == MARGIN == 0.02


def test_only_what_is_not_answered_is_asked_and_blanks_stay_open() -> None:
    asked = []

    def answer(question):  # type: ignore[no-untyped-def]
        asked.append(question.key)
        return {"phase": " operation ", "max_risk": "0.1"}.get(question.key, "")

    found = ask({"may_process": "yes"}, answer)
    assert found == {"may_process": "yes", "phase": "operation", "max_risk": "0.1"}
    assert "may_process" not in asked
    assert set(asked) == {q.key for q in questions()} - {"may_process"}


def test_a_word_that_is_no_answer_is_asked_again() -> None:
    said = iter(["perhaps", "no"])
    found = ask({}, lambda question: next(said) if question.key == "may_process" else "")
    assert found == {"may_process": "no"}


@pytest.mark.parametrize("wrong", [{"phase": "later"}, {"margin": 0}, {"max_risk": 2}, {"hospitals": 0}, {"colour": 1}])
def test_wrong_answers_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Situation(**wrong)  # type: ignore[arg-type]


def test_every_question_ends_as_one_and_names_its_words() -> None:
    for question in questions():
        assert question.text.endswith("?")
    assert {q.words for q in questions() if q.key == "records_may_leave"} == {("yes", "anonymous", "no")}


def test_a_number_that_is_none_is_asked_again() -> None:
    said, read = iter(["five", "0", "5"]), []

    def answer(question):  # type: ignore[no-untyped-def]
        read.append(question.text)
        return next(said) if question.key == "hospitals" else ""

    assert ask({}, answer) == {"hospitals": "5"}
    assert any(text.startswith("0: must be greater than or equal to 1. How many") for text in read)
