"""A declaration in words, for people who decide whether a table may be used: figures beside their noise floors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.evaluation.quality.figures import Candidate, Declaration, Measured, Overall, Utility, Value
from pettoolkit.evaluation.quality.worst import TITLES
from pettoolkit.records import Interval, NotMeasured

LISTED_GROUPS = 40
WIDTH = 110
WORDS = {"gradient_boosting": "gradient boosting", "logistic": "logistic regression", "random_forest": "random forest"}
TASKS = {"binary": "yes or no", "classes": "one of several classes", "number": "a number"}

Row = tuple[str, str, tuple[str, ...]]
"""Name of a figure, its noise floor, and its value for each candidate."""


def how(size: int, halvings: int, resamples: int, holdout: bool) -> tuple[str, ...]:
    """Say what was done, in sentences."""
    tested = (
        "The models are tested on the holdout, which must not have been used to make the synthetic tables."
        if holdout
        else "No holdout was given: the models are tested on 30 % of the real rows, which the generators may have "
        "seen, so that synthetic tables can look better than they are."
    )
    return (
        f"Distances: {halvings} times the real rows are halved at random; {size} rows of one half are compared with "
        f"{size} synthetic rows, and for the noise floor with {size} rows of the other half.",
        "A figure within its noise floor says that the synthetic rows are no further from real patients than other "
        "real patients are. A figure far below the floor is no praise: the rows may be copies.",
        "Models: each is trained on equally many real, other real (the floor) and synthetic rows. "
        f"{tested} Intervals: 95 %, {resamples} bootstrap resamples of the test patients.",
        "Nothing here says that a table is safe: similarity is not privacy. That is measured by attacks.",
    )


def lines(declaration: Declaration) -> list[str]:
    """Write the whole declaration as plain text."""
    d = declaration
    names = [c.name for c in d.candidates]
    out = [
        "QUALITY DECLARATION",
        *_wrapped(d.statement),
        "",
        f"Real table: {d.real}, {d.real_rows:,} patients"
        + (f" of {len(d.hospitals)} hospitals" if len(d.hospitals) > 1 else "")
        + (f"; holdout {d.holdout_rows:,}" if d.holdout_rows else ""),
        f"Outcome: {d.outcome} ({TASKS[d.task]})",
        *[f"Synthetic table: {c.name}, {c.rows:,} rows; guarantee: {c.guarantee}" for c in d.candidates],
        "",
        "In short",
        *[line for c in d.candidates for line in _wrapped(_in_short(c), "  ")],
        "",
        "How to read it",
        *[line for sentence in d.how for line in _wrapped(sentence, "  ")],
        "",
        *_table(["", "noise floor", *names], [row for section in _sections(d) for row in section]),
    ]
    for candidate in d.candidates:
        out += ["", *_candidate(candidate)]
    return out


def _in_short(c: Candidate) -> str:
    """One sentence, made of parts: there is no single score."""
    parts = [
        f"{_within(c.univariate)} distances of columns and {_within(c.bivariate)} of pairs are within their noise floor"
    ]
    if not isinstance(c.utility, NotMeasured):
        name, trained = next(iter(c.utility.models.items()))
        if isinstance(trained.loss, Estimate):
            title = TITLES[c.utility.headline]
            floor = f" (floor {trained.floor.value:+.3f})" if isinstance(trained.floor, Estimate) else ""
            parts.append(
                f"{_words(name, c.utility.headline)} trained on it loses {trained.loss.value:+.3f} {title}{floor}"
            )
    if not isinstance(c.distinguishability, NotMeasured) and isinstance(c.distinguishability.auroc, Estimate):
        parts.append(f"its rows are told from real ones with AUROC {c.distinguishability.auroc.value:.3f}")
    parts.append(f"{c.copies.identical:,} of {c.copies.rows:,} rows equal a real patient's")
    return f"{c.name}: {'; '.join(parts)}."


def _words(model: str, headline: str) -> str:
    return "ridge regression" if (model, headline) == ("logistic", "r2") else WORDS[model]


def _within(overall: Overall) -> str:
    return f"{overall.measured - overall.beyond_floor} of {overall.measured}"


def _wrapped(sentence: str, indent: str = "") -> list[str]:
    return textwrap.wrap(sentence, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table(head: Sequence[str], rows: Sequence[Row | str]) -> list[str]:
    texts = [list(head)] + [[row] if isinstance(row, str) else [row[0], row[1], *row[2]] for row in rows]
    full = [t for t in texts if len(t) > 1]
    widths = [max(len(t[i]) for t in full) for i in range(len(head))]
    out: list[str] = []
    for text in texts:
        if len(text) == 1:
            out += ["", text[0]] if out else [text[0]]
            continue
        cells = [text[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(text[1:], widths[1:], strict=True))]
        out.append("  ".join(cells).rstrip())
    return out


def _sections(d: Declaration) -> list[list[Row | str]]:
    return [s for s in (_fidelity(d), _use(d), _told(d), _bias(d), _counts(d), _ranks(d)) if len(s) > 1]


def _each(d: Declaration, figure: Callable[..., str], *what: object) -> tuple[str, ...]:
    """Text of a figure for each candidate; ``what`` says which figure it is."""
    return tuple(figure(c, *what) for c in d.candidates)


def _fidelity(d: Declaration) -> list[Row | str]:
    first = d.candidates[0]
    rows: list[Row | str] = ["Likeness (distances: 0 is none, 1 the largest)"]
    rows.append(("  columns, mean", value(first.univariate.floor), _each(d, lambda c: value(c.univariate.mean))))
    rows.append(
        ("  columns beyond their floor", _chance(first.univariate.measured), _each(d, lambda c: _of(c.univariate)))
    )
    rows.append(("  pairs of columns, mean", value(first.bivariate.floor), _each(d, lambda c: value(c.bivariate.mean))))
    rows.append(("  pairs beyond their floor", _chance(first.bivariate.measured), _each(d, lambda c: _of(c.bivariate))))
    if not isinstance(first.sdmetrics, NotMeasured):
        for name, key in (("Column Shapes", "column_shapes"), ("Column Pair Trends", "column_pair_trends")):
            rows.append(
                (
                    f"  sdmetrics {name} (1 is best)",
                    value(getattr(first.sdmetrics, f"{key}_floor")),
                    _each(d, _sdmetrics, key),
                )
            )
    return rows


def _sdmetrics(c: Candidate, key: str) -> str:
    return "-" if isinstance(c.sdmetrics, NotMeasured) else value(getattr(c.sdmetrics, key))


def _chance(measured: int) -> str:
    return f"up to {math.ceil(0.05 * measured)} by chance"


def _of(overall: Overall) -> str:
    return f"{overall.beyond_floor} of {overall.measured}"


def _use(d: Declaration) -> list[Row | str]:
    first = d.candidates[0].utility
    if isinstance(first, NotMeasured):
        return [f"Use for models: not measured ({first.reason})", ("", "", ("",) * len(d.candidates))]
    title = TITLES[first.headline]
    rows: list[Row | str] = [
        f"Use: {title} on {first.test_rows:,} real test patients, trained on {first.train_rows:,} rows each "
        f"(test patients: {first.test_from})"
    ]
    for name, trained in first.models.items():
        real, floor = trained.real.figures.get(first.headline), trained.floor_rows.figures.get(first.headline)
        rows.append(
            (
                f"  {_words(name, first.headline)}: trained on real {measured(real, short=True)}, on synthetic",
                measured(floor, short=True),
                _each(d, _on_synthetic, name),
            )
        )
        rows.append(
            (
                "    lost by training on synthetic rows",
                measured(trained.floor, sign=True),
                _each(d, _lost, name),
            )
        )
    return rows


def _on_synthetic(c: Candidate, model: str) -> str:
    if isinstance(c.utility, NotMeasured):
        return "-"
    return measured(c.utility.models[model].synthetic.figures.get(c.utility.headline))


def _lost(c: Candidate, model: str) -> str:
    return "-" if isinstance(c.utility, NotMeasured) else measured(c.utility.models[model].loss, sign=True)


def _told(d: Declaration) -> list[Row | str]:
    first = d.candidates[0].distinguishability
    if isinstance(first, NotMeasured):
        return []
    return [
        "Told apart (AUROC of a classifier that is shown real and synthetic rows; .5: it can't; far below .5: copies)",
        (
            f"  {first.classifier}",
            measured(first.floor),
            _each(
                d,
                lambda c: (
                    "-" if isinstance(c.distinguishability, NotMeasured) else measured(c.distinguishability.auroc)
                ),
            ),
        ),
    ]


def _bias(d: Declaration) -> list[Row | str]:
    rows: list[Row | str] = ["Groups (largest gap between groups; real rows have gaps too)"]
    kinds = (
        ("prevalence_gap", "outcome in the rows"),
        ("parity_gap", "alarms of a model (demographic parity)"),
        ("odds_gap", "error rates of a model (equalised odds)"),
        ("proxy", "AUROC with which other columns tell it"),
    )
    for i, bias in enumerate(d.candidates[0].bias):
        for key, words in kinds:
            here = getattr(bias, key)
            rows.append(
                (
                    f"  {bias.attribute}: {words}, real {value(here.real)}, synthetic",
                    value(here.floor),
                    _each(d, lambda c, i, key: value(getattr(c.bias[i], key).synthetic), i, key),
                )
            )
    return rows


def _prevalence(c: Candidate, i: int) -> str:
    share = c.prevalence[i].synthetic
    return "-" if isinstance(share, NotMeasured) else f"{share:.4g}"


def _counts(d: Declaration) -> list[Row | str]:
    first = d.candidates[0]
    rows: list[Row | str] = ["Counted"]
    for i, prevalence in enumerate(first.prevalence):
        rows.append(
            (
                f"  {d.outcome}, {prevalence.what}: real {prevalence.real:.4g}, synthetic",
                f"+-{prevalence.floor:.3g}",
                _each(d, _prevalence, i),
            )
        )
    rows.append(
        (
            "  rows identical to a real patient's",
            f"{first.copies.floor_share:.1%}",
            _each(d, lambda c: f"{c.copies.identical:,} ({c.copies.identical_share:.1%})"),
        )
    )
    rows.append(("  rows that repeat another synthetic row", "", _each(d, lambda c: f"{c.copies.repeated:,}")))
    for i, rule in enumerate(first.rules):
        if any(c.rules[i].synthetic or c.rules[i].real for c in d.candidates):
            rows.append(
                (
                    f"  {rule.rule}, per 1,000 rows (floor: real rows)",
                    f"{rule.real_per_1000:.3g}",
                    _each(d, lambda c, i: f"{c.rules[i].synthetic_per_1000:.3g}", i),
                )
            )
    for name, key in (
        ("classes lost", "classes_lost"),
        ("levels lost", "levels_lost"),
        ("levels that no real row has", "levels_new"),
        ("columns that became constant", "columns_constant"),
        ("columns with no value left", "columns_all_missing"),
    ):
        if any(getattr(c.levels, key) for c in d.candidates):
            rows.append((f"  {name}", "", _each(d, lambda c, key: str(len(getattr(c.levels, key))), key)))
    return rows


def _ranks(d: Declaration) -> list[Row | str]:
    first = d.candidates[0].ranks
    if isinstance(first, NotMeasured):
        return []

    def of(c: Candidate, key: str) -> str:
        return "-" if isinstance(c.ranks, NotMeasured) else measured(getattr(c.ranks, key), sign=True)

    return [
        "Ranking of eight models (Kendall's tau with the ranking by real rows; 1: same order, 0: unrelated)",
        ("  trained and tested within the table", measured(first.floor, sign=True), _each(d, lambda c: of(c, "tau"))),
        (
            "  trained on real rows, tested on the table",
            measured(first.same_models_floor, sign=True),
            _each(d, lambda c: of(c, "same_models")),
        ),
    ]


def _candidate(c: Candidate) -> list[str]:
    out = [f"{c.name}: where to look first"]
    if c.copies.copy:
        out.append(
            f"  WARNING: {c.copies.identical:,} of {c.copies.rows:,} rows equal a real patient's: this is a copy of "
            "patients and not a synthetic table."
        )
    elif c.copies.identical_share > 2 * c.copies.floor_share and c.copies.identical:
        out.append(
            f"  {c.copies.identical:,} rows equal a real patient's in every column: look at them before release."
        )
    for kind, found in (("column", c.worst.columns), ("pair", c.worst.pairs)):
        out += [f"  {kind} {text}" for text in found] or [f"  no {kind} is further from real than real rows are"]
    subgroup = c.worst.subgroup
    out.append(
        f"  subgroup: not named ({subgroup.reason})" if isinstance(subgroup, NotMeasured) else f"  subgroup {subgroup}"
    )
    for level in (*c.levels.classes_lost, *c.levels.levels_lost):
        out.append(f"  lost: {level.column} {level.level}, which {level.real} real rows have")
    for level in c.levels.levels_new:
        out.append(f"  new: {level.column} {level.level}, which {level.synthetic} synthetic and no real rows have")
    for what, names in (("constant", c.levels.columns_constant), ("all missing", c.levels.columns_all_missing)):
        out += [f"  {what}: {', '.join(names)}"] if names else []
    out += [f"  note: {note}" for note in c.notes]
    if isinstance(c.utility, NotMeasured):
        return out
    return [*out, "", *_groups(c.name, c.utility)]


def _groups(name: str, utility: Utility) -> list[str]:
    """One line per hospital and subgroup of the first model."""
    if not utility.groups:
        return []
    model = next(iter(utility.models))
    title = TITLES[utility.headline]
    rows: list[Row | str] = []
    for group in utility.groups[:LISTED_GROUPS]:
        trained = group.models[model]
        figures = (trained.real.figures.get(utility.headline), trained.synthetic.figures.get(utility.headline))
        rows.append(
            (
                f"  {group.attribute} {group.level} ({group.patients:,})",
                measured(trained.floor, sign=True),
                (*(measured(f) for f in figures), measured(trained.loss, sign=True)),
            )
        )
    rest = len(utility.groups) - LISTED_GROUPS
    more = [f"  ... and {rest} more groups, in the JSON"] if rest > 0 else []
    head = [
        f"{name}: {title} of {_words(model, utility.headline)} by group",
        "floor of the loss",
        "trained on real",
        "on synthetic",
        "lost",
    ]
    return [*_table(head, rows), *more]


def value(figure: Value) -> str:
    """Three decimals, or a dash."""
    return "-" if isinstance(figure, NotMeasured) else f"{figure:.3f}"


def measured(figure: Measured | None, *, sign: bool = False, short: bool = False) -> str:
    """A figure with its interval: ``.712 (.690 to .733)``; a dash where there is none."""
    if not isinstance(figure, Estimate):
        return "-"
    form = "{:+.3f}" if sign else "{:.3f}"
    text = form.format(figure.value)
    if short or not isinstance(figure.interval, Interval):
        return text
    return f"{text} ({form.format(figure.interval.low)} to {form.format(figure.interval.high)})"
