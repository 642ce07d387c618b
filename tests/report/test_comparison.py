"""The comparison report says what was measured, names no winner too early, and can be read by everybody."""

from __future__ import annotations

import base64
import csv
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from finished import NONE, done, private, spec

from pettoolkit.records import AttackFigure, DpSpec, Interval, MeasuredRisk, ModelSpec, NotMeasured, Verdict
from pettoolkit.report.comparison.content import LIMIT_BYTES, LISTED_PAIRS, Facts, html
from pettoolkit.report.comparison.figures import pareto
from pettoolkit.report.comparison.rows import MARGIN, Difference, Row, reference, rows
from pettoolkit.report.lines import lines

FACTS = Facts("x", "experiments/x.yaml", "simulated", (0, 1, 2), ("a note",), ("pooled: failed, 1 cell: why",))
SITES = {"a": 0.7, "b": 0.6}


class Parsed(HTMLParser):
    """Tags are closed in order; collects ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag]
        self.open.pop()

    def _read(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]


def table() -> list[Row]:
    cells = [
        done(spec("local"), SITES),
        done(spec("pooled"), SITES, sent=10_000, kind="raw_records"),
        done(spec("federated"), SITES, sent=1_000),
        done(spec("federated", dp=DpSpec(3.0)), SITES, sent=1_000, privacy=private(3.0)),
        done(spec("federated", dp=DpSpec(1.0)), SITES, sent=1_000, privacy=private(1.0)),
        done(spec("synthetic", model=ModelSpec("mlp", 32)), SITES, sent=5_000, kind="synthetic_records"),
    ]
    return rows(lines(cells))


def difference(low: float, high: float, seeds: int = 3) -> Difference:
    return Difference(3, 2, "pooled", (low + high) / 2, Interval(low, high), 0.04, seeds)


@pytest.fixture(scope="module")
def text() -> str:
    return html(table(), [difference(-0.01, 0.01)], [], FACTS)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (-0.5 * MARGIN, 0.5 * MARGIN, "no difference"),
        (-1.5 * MARGIN, 0.5 * MARGIN, "undecided"),
        (0.001, 2 * MARGIN, "better"),
        (-2 * MARGIN, -0.001, "worse"),
    ],
)
def test_a_winner_is_named_only_where_the_interval_leaves_zero_out(low: float, high: float, state: str) -> None:
    assert difference(low, high).state == state
    assert difference(low, high, seeds=1).state == "undecided"


def test_every_technology_is_named_in_verdicts_and_table(text: str) -> None:
    for row in table():
        assert text.count(f"{row.number}. {row.name}") >= 2
    assert "federated fedavg + DP, epsilon 3, logistic" in text


def test_there_are_intervals_and_nothing_that_is_no_figure(text: str) -> None:
    assert "0.650 (0.600 to 0.700)" in text
    read = re.sub(r'href="data:[^"]*"', "", text)
    assert not re.search(r"\b(nan|NaN|None|inf|NotMeasured)\b", read)


def test_it_is_well_formed_and_its_links_lead_somewhere(text: str) -> None:
    parsed = Parsed(text)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    inside = {link[1:] for link in parsed.links if link.startswith("#")}
    assert inside <= set(parsed.ids)
    assert all(link.startswith(("#", "data:")) for link in parsed.links)


def test_sections_come_in_the_order_of_a_decision(text: str) -> None:
    order = ("verdicts", "decision", "risk", "hospitals", "matrix", "epsilon", "diversity", "cost", "left")
    places = [text.index(f'id="{anchor}"') for anchor in (*order, "subgroups", "limits")]
    assert places == sorted(places)


def test_a_section_without_data_says_which_command_gives_it(text: str) -> None:
    assert "pettoolkit run experiments/x.yaml --set attacks=quick" in text
    assert "pettoolkit run builtin:diversity" in text


def test_every_figure_has_a_sentence_and_its_data(text: str) -> None:
    figures = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        coded = re.search(r'base64,([^"]+)"', figure)
        assert coded is not None
        assert len(base64.b64decode(coded[1]).splitlines()) > 1
        assert re.search(r"<figcaption>\w", figure)


def test_it_says_what_is_simulated_and_what_is_missing(text: str) -> None:
    assert "simulated: the figures compare technologies" in text
    assert "a note" in text
    assert "pooled: failed, 1 cell: why" in text


def test_it_does_not_deny_what_was_chosen_on_real_test_patients(text: str) -> None:
    assert "three by AUROC on its test patients" in " ".join(text.split())
    assert "No settings were searched on the test patients" not in text


def test_sixty_rows_and_all_their_pairs_are_under_a_megabyte() -> None:
    cells = [done(spec("federated", dp=DpSpec(float(i + 1)), features="compact"), SITES) for i in range(60)]
    pairs = [each_other(-0.1234, 0.1234, *two) for two in itertools.combinations(range(1, 61), 2)]
    assert len(html(rows(lines(cells)), [], pairs, FACTS).encode()) < LIMIT_BYTES


def test_text_from_outside_is_escaped() -> None:
    cells = [done(spec("pooled"), {"<b>a": 0.7, "b": 0.6})]
    assert "<b>a" not in html(rows(lines(cells)), [], [], FACTS)


def test_a_row_is_compared_with_its_own_kind() -> None:
    made = table()
    assert reference(made[2], made, "pooled") is made[1]
    assert reference(made[5], made, "pooled") is None
    assert reference(made[1], made, "pooled") is None


def test_a_pareto_front_has_no_point_that_another_beats() -> None:
    assert pareto([(0.5, 0.7), (0.1, 0.6), (0.3, 0.55), (0.5, 0.65)]) == [(0.1, 0.6), (0.5, 0.7)]


def measured(success: float, bound: float | None = None) -> MeasuredRisk:
    figure = AttackFigure(
        *("lira", "membership_auc", "release", "full"),
        *(success, 0.5, 2 * success - 1, Interval(2 * success - 1.1, 2 * success - 0.9), 100, 100, 100, 1.0),
        NotMeasured("no guarantee") if bound is None else bound,
    )
    state = "above" if success > 0.55 else "below"
    release = Verdict(state, figure.excess, 0.09, "why", strongest="lira membership_auc")
    insider = Verdict("undecided", NotMeasured("too few patients"), 0.09, "why")
    return MeasuredRisk((figure,), {}, release, insider)


def test_measured_risk_is_drawn_and_judged_against_its_threshold() -> None:
    made = [(spec("pooled"), 0.7), (spec("federated"), 0.52)]
    cells = [done(of, SITES, privacy=replace(NONE, measured=measured(success))) for of, success in made]
    text = re.sub(r"</?span[^>]*>", "", html(rows(lines(cells)), [], [], FACTS))
    assert "strongest attack 0.40 (0.30 to 0.50), above the threshold 0.09: why; the strongest" in text
    assert "strongest attack 0.04 (-0.06 to 0.14), below the threshold 0.09: why; the strongest attack is lira" in text
    assert "insider view: not measured (too few patients)" in text
    assert 'aria-label="Utility against measured risk"' in text
    assert "No attacks were run" not in text


def test_what_the_guarantee_leaves_room_for_stands_beside_what_attacks_got() -> None:
    with_bound = replace(private(3.0), measured=measured(0.52, 0.694))
    without = replace(NONE, measured=measured(0.7))
    cells = [
        done(spec("pooled"), SITES, privacy=without),
        done(spec("federated", dp=DpSpec(3.0)), SITES, privacy=with_bound),
    ]
    text = html(rows(lines(cells)), [], [], FACTS)
    assert text.count("AUC of membership 0.520 of at most 0.694") == 2
    assert text.count("no guarantee, hence no bound") == 1


def test_a_printed_decision_table_names_each_figure_and_cuts_no_column(text: str) -> None:
    body = text[text.index('<table class="decision">') :]
    body = body[: body.index("</table>")]
    names = re.findall(r'<th scope="col">([^<]*)</th>', body)[1:]
    assert re.findall(r'<td data-name="([^"]*)"', body) == names * len(table())
    printed = text[text.index("@media print") : text.index("</style>")]
    assert ".decision td{display:block" in printed


def each_other(low: float, high: float, row: int = 4, other: int = 5) -> Difference:
    return Difference(row, other, "each other", (low + high) / 2, Interval(low, high), 0.04, 3)


def test_pairs_are_told_to_both_and_listed_with_their_intervals() -> None:
    pairs = [each_other(0.03, 0.05), each_other(-0.1, 0.1, 3, 4)]
    text = re.sub(r"</?span[^>]*>", "", html(table(), [], pairs, FACTS))
    verdicts = re.findall(r"Against each other technology: ([^<]*)", text)
    assert verdicts == ["undecided against row 4.", "better than row 5; undecided against row 3.", "worse than row 4."]
    listed = text[text.index('id="pairs"') : text.index('id="risk"')]
    assert "+0.040 (+0.030 to +0.050)" in listed
    assert "2 pairs" in listed
    assert listed.index("<td>better</td>") < listed.index("<td>undecided</td>")


def test_all_pairs_are_in_the_data_even_where_the_page_lists_some() -> None:
    pairs = [each_other(-0.1, 0.1) for _ in range(LISTED_PAIRS + 5)]
    text = html(table(), [difference(-0.01, 0.01)], pairs, FACTS)
    listed = text[text.index('id="pairs"') : text.index('id="risk"')]
    assert listed.count("<td>") == 3 * LISTED_PAIRS
    assert f"The first {LISTED_PAIRS} are shown" in listed
    coded = re.search(r'download="paired_differences_each_other.csv" href="data:text/csv;base64,([^"]+)"', listed)
    assert coded is not None
    found = list(csv.DictReader(base64.b64decode(coded[1]).decode().splitlines()))
    assert len(found) == len(pairs)
    assert all(float(r["low"]) < float(r["high"]) for r in found)


def test_rows_that_train_on_other_patients_are_not_said_to_share_them(text: str) -> None:
    assert "All were trained and tested on the same patients" in text
    cells = [done(spec("federated", sites=names), dict.fromkeys(names, 0.7)) for names in (("a",), ("a", "b"))]
    assert "Not all were trained on the same patients" in html(rows(lines(cells)), [], [], FACTS)


def test_rows_of_other_seeds_or_without_a_dropped_hospital_are_not_said_to_share_patients() -> None:
    seeds = [done(spec("pooled", seed=0), SITES), done(spec("federated", seed=7), SITES)]
    assert "some lack results of seeds" in html(rows(lines(seeds)), [], [], FACTS)
    same = [done(spec(arm), SITES) for arm in ("pooled", "federated")]
    without = replace(FACTS, dropped=("went on without hospital b from round 2",))
    assert "Not all were trained on the same patients: went on without hospital b" in html(
        rows(lines(same)), [], [], without
    )


def test_more_hospitals_in_training_are_a_curve() -> None:
    cells = [done(spec("federated", sites=names), dict.fromkeys(names, 0.7)) for names in (("a",), ("a", "b"))]
    text = html(rows(lines(cells)), [], [], FACTS)
    assert 'aria-label="Accuracy by number of hospitals"' in text
    assert "federated fedavg, logistic, 1 hospital<" in text
