"""Both languages are complete, and Danish pages are Danish."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml

from pettoolkit.errors import BadInput
from pettoolkit.report.standard import given, write
from pettoolkit.report.standard.given import Given
from pettoolkit.report.standard.texts import FOLDER, LANGUAGES, PHRASES, texts
from tests.report.standard.conftest import PEOPLE

PACKAGE = Path(write.__file__).parent

ALIKE = {
    "figure_name.auroc",
    "figure_name.r2",
    "figure_name.rmse",
    "figure_name.mae",
    "head.sha256",
    "measure.ks",
    "measure.tv",
    "model.gradient_boosting",
    "model.random_forest",
    "utility.ranks.value",
    "checklist.group.five_safes",
    "group.hospital",
    "utility.multivariate.model",
}
"""Keys whose text may be the same in both languages: names and terms without a Danish word in use."""

ENGLISH = re.compile(
    r"\b(the|of|and|is|are|was|were|not|with|from|than|that|which|this|these|by|rows?|real|other|table|no|"
    r"attack|success|beyond|within|below|above|open|filled|does|apply|too|few)\b"
)
"""Words that no Danish sentence has (Danish ``for``, ``at``, ``to``, ``under``, ``over`` and ``her`` are left out)."""


def flat(data: dict[str, Any], before: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in data.items():
        out |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": str(value)}
    return out


def catalogue(lang: str) -> tuple[dict[str, str], dict[str, str]]:
    data = yaml.safe_load((FOLDER / f"{lang}.yaml").read_text(encoding="utf-8"))
    phrases = data.pop(PHRASES)
    return flat(data), phrases


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_key_is_in_every_language_with_the_same_blanks() -> None:
    (en, _), (da, _) = (catalogue(lang) for lang in LANGUAGES)
    assert set(en) == set(da)
    assert {key: blanks(text) for key, text in en.items()} == {key: blanks(text) for key, text in da.items()}


def test_nothing_is_left_in_english() -> None:
    (en, _), (da, _) = (catalogue(lang) for lang in LANGUAGES)
    same = {key for key in en if en[key] == da[key] and re.search("[a-z]{3}", re.sub(r"\{\w+\}", "", en[key]))}
    assert {key for key in same if not key.startswith("missing.command_")} <= ALIKE
    plain = {key: re.sub(r"\{\w+\}", "", text) for key, text in da.items() if not key.startswith("missing.command_")}
    english = {key: text for key, text in plain.items() if ENGLISH.search(text)}
    assert english == {}


def test_what_measurements_say_is_known_in_danish_with_the_same_groups() -> None:
    (_, en), (_, da) = (catalogue(lang) for lang in LANGUAGES)
    assert set(en) <= set(da)
    for pattern, written in da.items():
        groups = re.compile(pattern).groups
        used = {int(n) for n in re.findall(r"\\(\d)", written)}
        assert used <= set(range(1, groups + 1)), pattern
        assert not ENGLISH.search(written.replace("real_", "")) or "EMA" in written, written


def test_every_key_that_the_code_asks_for_is_there() -> None:
    en, _ = catalogue("en")
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    asked = {key for key in re.findall(r'\bt\(\s*"([a-z_.]+)"', code) if not key.endswith(".")}
    assert len(asked) > 50
    assert asked <= set(en)


@pytest.mark.parametrize("report", [*write.REPORTS, "label"])
def test_danish_pages_hold_no_english_but_what_is_marked_as_quoted(made: Given, copied: Given, report: str) -> None:
    for table in (made, copied):
        html = write.files(report, table, "da")[f"{report}.html"].decode()
        body = html[html.index("<body>") :]
        body = re.sub(r'<q lang="en">.*?</q>|<code>.*?</code>', " ", body, flags=re.DOTALL)
        text = " ".join(re.sub(r"<[^>]+>", " ", body).split())
        found = ENGLISH.search(text)
        assert found is None, text[max(0, found.start() - 60) : found.end() + 60]


def test_danish_numbers_have_a_decimal_comma_and_english_ones_a_point() -> None:
    assert texts("da").number(1234.5, ",.1f") == "1.234,5"
    assert texts("en").number(1234.5, ",.1f") == "1,234.5"
    assert texts("en").number(-0.0004, "+.3f") == "0.000"


def test_what_can_not_be_translated_is_quoted_and_marked_as_english() -> None:
    assert texts("da").said("a <plugin> said so") == '<q lang="en">a &lt;plugin&gt; said so</q>'
    assert texts("en").said("a <plugin> said so") == "a &lt;plugin&gt; said so"


def test_another_language_is_refused() -> None:
    with pytest.raises(BadInput, match=r"--lang: must be one of en, da \(got de\)"):
        texts("de")


def test_both_languages_say_the_same_figures(measured: tuple[dict[str, Any], dict[str, Any]]) -> None:
    made = given.tables(*measured, **PEOPLE)[0]
    for report in ("summary", "utility", "privacy"):
        en, da = (json.loads(write.files(report, made, lang)[f"{report}.json"]) for lang in LANGUAGES)
        assert {**en, "language": "da"} == da
