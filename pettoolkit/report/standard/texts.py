"""All words of the reports: one YAML catalogue per language, with the same keys in each."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

from pettoolkit.errors import BadInput

FOLDER = Path(__file__).with_name("texts")
LANGUAGES = ("en", "da")

PHRASES = "phrases"
"""Key of the list of what measurements say in English: a pattern, and what to write for it."""


@dataclass(frozen=True)
class Texts:
    r"""The catalogue of one language.

    ``by_key`` has dotted keys; ``phrases`` are pairs of a pattern that matches a whole English phrase of a measurement,
    and its translation, in which ``\1`` stands for the first group.
    """

    lang: str
    by_key: Mapping[str, str]
    phrases: tuple[tuple[re.Pattern[str], str], ...]

    def __call__(self, key: str, **values: object) -> str:
        """Text of a key, with values filled in; not escaped."""
        return self.by_key[key].format(**values)

    def word(self, group: str, name: str) -> str:
        """Name of something that measurements name in code, as ``kind.number``; the name itself if not listed."""
        return self.by_key.get(f"{group}.{name}") or self.phrase(name) or name

    def phrase(self, text: str) -> str | None:
        """Translate a phrase of a measurement; None where the catalogue does not know it."""
        for pattern, written in self.phrases:
            found = pattern.fullmatch(text)
            if found:
                return found.expand(written)
        return None

    def said(self, text: str) -> str:
        """Return HTML of what a measurement says; what can't be translated is quoted, and marked as English."""
        known = text if self.lang == "en" else self.phrase(text)
        return escape(known) if known is not None else f'<q lang="en">{escape(text)}</q>'

    def number(self, value: float, form: str = ".3f") -> str:
        """Write a figure as the language does: decimal comma in Danish; never a minus before zero."""
        text = format(value, form)
        if text.startswith("-") and not text.strip("-0.,%"):
            text = text[1:]
        return text if self.lang == "en" else text.translate(str.maketrans(".,", ",."))


@functools.cache
def texts(lang: str) -> Texts:
    """Read the catalogue of a language.

    Raises
    ------
    BadInput
        If there is none.
    """
    if lang not in LANGUAGES:
        raise BadInput(f"--lang: must be one of {', '.join(LANGUAGES)} (got {lang})")
    data = yaml.safe_load((FOLDER / f"{lang}.yaml").read_text(encoding="utf-8"))
    phrases = tuple((re.compile(pattern), written) for pattern, written in data.pop(PHRASES).items())
    return Texts(lang, dict(_flat(data)), phrases)


def _flat(data: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in data.items():
        out += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", str(value))]
    return out
