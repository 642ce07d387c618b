"""What stands on the pages: figures with intervals and floors, nothing undefined, and links that lead somewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import jsonschema
import pytest

from pettoolkit.errors import BadInput
from pettoolkit.report.standard import checklist, schema, write
from pettoolkit.report.standard.given import Given, tables
from pettoolkit.report.standard.texts import LANGUAGES, texts
from tests.report.standard.conftest import PEOPLE
from tests.report.test_page import WellFormed

KINDS = (*write.REPORTS, "label")
UNDEFINED = re.compile(r"\b(NaN|nan|None|null|inf|not_measured)\b|\{\w*\}")
COLOUR = re.compile(r'(?:fill|stroke|style|color)="[^"]*#[0-9a-fA-F]{3,6}')


def document(given: Given, report: str, lang: str = "en") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(write.files(report, given, lang)[f"{report}.json"])
    return found


def page(given: Given, report: str, lang: str = "en") -> str:
    return write.files(report, given, lang)[f"{report}.html"].decode()


def words(html: str) -> str:
    """What a person reads: the body without tags."""
    body = html[html.index("<body>") :]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("report", KINDS)
def test_documents_keep_their_schema_and_pages_are_whole(made: Given, copied: Given, report: str, lang: str) -> None:
    for given in (made, copied):
        jsonschema.validate(document(given, report, lang), schema.schema(report))
        html = page(given, report, lang)
        parser = WellFormed()
        parser.feed(html)
        assert parser.open == []
        assert f'<html lang="{lang}">' in html
        assert not UNDEFINED.search(words(html))
        assert not COLOUR.search(html)  # colours come from the page's roles, whose contrast is tested with them
        assert "http" not in html


@pytest.mark.parametrize("report", ["summary", "utility", "privacy", "checklist"])
def test_what_was_not_measured_is_said_with_the_command_that_measures_it(
    measured: tuple[dict[str, Any], dict[str, Any]], report: str
) -> None:
    quality, risk = measured
    for lang in LANGUAGES:
        for given, kind in ((tables(quality, None, **PEOPLE)[0], "risk"), (tables(None, risk, **PEOPLE)[0], "quality")):
            found = document(given, report, lang)
            jsonschema.validate(found, schema.schema(report))
            text = words(page(given, report, lang))
            assert not UNDEFINED.search(text)
            concerned = report == "summary" or report == {"risk": "privacy", "quality": "utility"}[kind]
            assert (texts(lang)(f"missing.command_{kind}") in text) >= concerned


def test_each_distance_stands_beside_its_floor_and_each_model_has_intervals(made: Given) -> None:
    text = words(page(made, "utility"))
    assert made.quality is not None
    for column in made.quality["columns"]:
        shape = column["shape"]
        beside = f"{shape['value']:.3f} {shape['floor']:.3f} / {shape['floor_high']:.3f} "
        assert beside + ("beyond" if shape["value"] > shape["floor_high"] else "within") in text, column["name"]
    for trained in made.quality["utility"]["models"].values():
        for key in ("loss", "floor"):
            ends = trained[key]["interval"]
            assert f"({ends['low']:+.3f} to {ends['high']:+.3f})" in text
    told = made.quality["distinguishability"]["floor"]
    assert f"{told['value']:.3f} ({told['interval']['low']:.3f} to {told['interval']['high']:.3f})" in text


def test_each_attack_stands_with_its_interval_and_the_tables_of_known_risk(made: Given) -> None:
    text = words(page(made, "privacy"))
    en = texts("en")
    assert made.release is not None
    for figure in made.release["figures"]:
        name = en.word("attack", figure["attack"])
        assert name != figure["attack"], "has no name for people"
        assert name in text
        low, high = (round(figure["interval"][k], 2) + 0.0 for k in ("low", "high"))
        assert (
            "(exact)" if low == high and figure["attack"] == "reidentification" else f"({low:.2f} to {high:.2f})"
        ) in text
    for anchor in made.anchors:
        assert anchor["name"] in text
    for name in made.release["not_run"]:
        assert en.word("attack", name) in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_an_attack_that_too_few_patients_let_decide_has_no_figure(copied: Given, lang: str) -> None:
    assert copied.release is not None
    verdict = dict(copied.release["verdict"])
    (attack,) = (a for a in document(copied, "privacy")["risk"]["attacks"] if a["attack"] == "exact_match")
    name = f"exact_match {attack['measure']}"
    verdict["left_out"] = {name: "can't decide: 9 patients leave +-0.30 around it; about 90 would do"}
    few = replace(copied, release={**copied.release, "verdict": verdict})

    before, text = (words(page(given, "privacy", lang)) for given in (copied, few))

    assert attack["above"]
    assert " ? (" not in before
    assert text.count(" ? (") == 1
    assert texts(lang)("privacy.attacks.undecidable") in text
    assert texts(lang)("privacy.attacks.undecidable") not in words(page(copied, "privacy", lang))
    attacks = {a["attack"]: a for a in document(few, "privacy", lang)["risk"]["attacks"]}
    assert not attacks["exact_match"]["above"]


def test_a_copy_of_patients_is_called_above_and_its_matches_are_counted(copied: Given) -> None:
    text = words(page(copied, "privacy"))
    assert "Above a threshold" in text
    assert "Found in the table: 300 of 300 rows" in text
    assert "Above a threshold" in words(page(copied, "summary"))
    attacks = {a["attack"]: a for a in document(copied, "privacy")["risk"]["attacks"]}
    assert attacks["exact_match"]["above"]
    assert "300 of 300" in words(page(copied, "label"))


def test_links_of_the_summary_lead_to_the_pages_beside_it(made: Given) -> None:
    found = write.reports(made)
    links = re.findall(r'href="([^"#]+)"', found["summary.html"].decode())
    assert sorted(links) == ["checklist.html", "privacy.html", "utility.html"]
    assert set(links) < set(found)


def test_names_can_hold_anything(made: Given) -> None:
    odd = replace(made, name="<script>x</script>.csv", responsible={"name": "A & <b>", "email": "a@b.c"})
    for report in KINDS:
        html = page(odd, report)
        assert "<script" not in html
        assert "A &amp; &lt;b&gt;" in html


def test_the_checklist_is_filled_where_the_run_knows_and_asks_where_only_people_do(made: Given) -> None:
    items = {i["id"]: i for i in document(made, "checklist")["items"]}
    for known in ("fitness", "data", "attacks", "matches", "guarantee", "responsible", "identity", "reproducible"):
        assert items[known]["status"] == "filled", known
    for asked in ("purpose", "business_case", "legal_basis", "dpia", "approval", "anonymous", "projects"):
        assert items[asked]["status"] == "open", asked
    assert str(made.sha256) in items["data"]["known"]
    assert "no legal advice" in words(page(made, "checklist")).lower()
    assert {i["group"] for i in items.values()} == set(checklist.GROUPS)


def test_answers_of_the_controller_stand_in_the_checklist_and_unknown_ones_are_refused(made: Given) -> None:
    answered = replace(made, answers={"purpose": "teaching at the university", "attacks": "accepted by the board"})
    items = {i["id"]: i for i in document(answered, "checklist")["items"]}
    assert items["purpose"]["status"] == items["attacks"]["status"] == "answered"
    assert "teaching at the university" in words(page(answered, "checklist"))
    with pytest.raises(BadInput, match=r"purpos: is no item of the checklist"):
        document(replace(made, answers={"purpos": "x"}), "checklist")
