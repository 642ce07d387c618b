"""A page needs no other file, can be read in both schemes, and figures follow its colours."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from pettoolkit.report.page import DARK, INK, LIGHT, OKABE_ITO, WRITTEN, contrast, data_link, drawing, page, style, svg

VOID = {"meta", "br", "img", "hr", "input", "link"}


class WellFormed(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag]
        self.open.pop()


def figure_of(title: str) -> str:
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([0, 1], [0, 1], label="a < b & c")
        figure.axes[0].set_xlabel("patients' share")
        return svg(figure, title)


def test_known_contrasts() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("role", WRITTEN)
def test_text_has_the_contrast_that_wcag_asks_for(scheme: dict[str, str], role: str) -> None:
    assert contrast(scheme[role], scheme["ground"]) >= 4.5
    assert contrast(scheme[role], scheme["panel"]) >= 4.5


def test_every_colour_of_the_style_is_one_of_both_schemes() -> None:
    used = set(re.findall(r"var\(--(\w+)\)", style()))
    assert used <= set(LIGHT) == set(DARK)
    assert "prefers-color-scheme:dark" in style()
    assert "@media print" in style()


def test_a_page_is_well_formed_and_escapes_its_title() -> None:
    text = page("a < b", f"<p>x</p>{figure_of('one')}{figure_of('two')}", lang="da")
    parser = WellFormed()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert "<title>a &lt; b</title>" in text
    assert '<html lang="da">' in text


def test_nothing_is_fetched_from_elsewhere() -> None:
    text = page("t", figure_of("one"))
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "@import" not in text


def test_a_figure_keeps_its_text_and_follows_the_scheme() -> None:
    drawn = figure_of("accuracy")
    assert "patients' share" in drawn
    assert "var(--text)" in drawn
    assert INK not in drawn
    assert "#000000" not in drawn
    assert 'aria-label="accuracy"' in drawn
    assert drawn == figure_of("accuracy")


@pytest.mark.parametrize("colour", OKABE_ITO[:3])
def test_the_first_colours_are_seen_on_both_grounds(colour: str) -> None:
    assert min(contrast(colour, LIGHT["ground"]), contrast(colour, DARK["ground"])) >= 3


def test_a_table_travels_in_its_link() -> None:
    link = data_link("auroc.csv", ("arm", "auroc"), [("a, b", 0.5)])
    coded = re.search(r'base64,([^"]+)"', link)
    assert coded is not None
    assert base64.b64decode(coded[1]).decode() == 'arm,auroc\n"a, b",0.5\n'
    assert 'download="auroc.csv"' in link
