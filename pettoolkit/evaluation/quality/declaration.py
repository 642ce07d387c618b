"""The quality declaration of one or several synthetic tables: the same figures, in the same order, every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput
from pettoolkit.evaluation.quality import bivariate, rules, sdv_scores, univariate
from pettoolkit.evaluation.quality.bias import biases
from pettoolkit.evaluation.quality.distances import Draws
from pettoolkit.evaluation.quality.distinguish import FOLDS, proxy_strength, told_apart
from pettoolkit.evaluation.quality.distinguish import ROWS_AT_MOST as TOLD_APART_AT_MOST
from pettoolkit.evaluation.quality.figures import (
    INTERNAL,
    Bias,
    Candidate,
    Declaration,
    Distinguishability,
    Measured,
    RankAgreement,
    SdmetricsScores,
    Utility,
    Value,
)
from pettoolkit.evaluation.quality.groups import Names, protected
from pettoolkit.evaluation.quality.mode import FULL, Mode, Steps
from pettoolkit.evaluation.quality.models import one_thread
from pettoolkit.evaluation.quality.ranks import Trial, agreement, trial
from pettoolkit.evaluation.quality.tables import LEAST_REAL, LEAST_SYNTHETIC, Table, checked, labelled, task_of
from pettoolkit.evaluation.quality.text import how
from pettoolkit.evaluation.quality.utility import (
    REAL,
    ROWS_AT_MOST,
    SYNTHETIC,
    Answers,
    Parts,
    parts,
    train_and_answer,
    utility,
)
from pettoolkit.evaluation.quality.worst import worst
from pettoolkit.records import NotMeasured

NO_RANKS = NotMeasured("not asked for (--models)")
NOT_QUICK = NotMeasured("left out of a quick declaration")


@dataclass(frozen=True)
class Given:
    """What a declaration is about.

    Parameters
    ----------
    real
        Rows of real patients, with the contract's features and outcome.
    candidates
        Synthetic tables of the same columns, by name.
    contract
        Row contract, narrowed to the columns that the tables have.
    hospital, holdout_hospital
        Hospital of each row, where it is known.
    holdout
        Real patients that no generator has seen.
    guarantees
        What is stated about each candidate's privacy, in words.
    hashes
        SHA-256 of each candidate's file, for those that are files.
    """

    real: pd.DataFrame
    candidates: Mapping[str, pd.DataFrame]
    contract: Contract
    real_name: str = "real"
    hospital: Names | None = None
    holdout: pd.DataFrame | None = None
    holdout_hospital: Names | None = None
    guarantees: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


def declare(
    given: Given, *, seed: int = 0, mode: Mode = FULL, ranks: bool = False, steps: Steps | None = None
) -> Declaration:
    """Measure the candidates against the real rows.

    The same input, seed and mode give the same declaration, on one core or many.

    Parameters
    ----------
    ranks
        Whether eight models are ranked on each table (:mod:`pettoolkit.evaluation.quality.ranks`).
    steps
        Is told what is being done.

    Raises
    ------
    BadInput
        With all findings about the tables.
    """
    real, made, holdout = _checked(given)
    with one_thread():
        work = _Work.begin(given, real, made, holdout, seed, mode, ranks, steps or Steps())
        candidates = tuple(work.candidate(name, frame) for name, frame in made.items())
    work.steps.end()
    return Declaration(
        internal=True,
        statement=INTERNAL,
        real=given.real_name,
        real_rows=len(real),
        holdout_rows=0 if holdout is None else len(holdout),
        hospitals=() if given.hospital is None else tuple(sorted(set(given.hospital))),
        outcome=given.contract.outcome.name,
        task=task_of(given.contract),
        seed=seed,
        mode=mode.name,
        matched_rows=work.size,
        halvings=mode.halvings,
        how=how(work.size, mode.halvings, mode.resamples, holdout is not None),
        candidates=candidates,
        contract={"name": given.contract.name, "digest": given.contract.digest()},
    )


def _checked(given: Given) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame | None]:
    lines: list[str] = []

    def check(rows: pd.DataFrame, name: str, least: int) -> pd.DataFrame:
        try:
            return checked(rows, given.contract, name, least)
        except BadInput as error:
            lines.extend(error.lines)
            return rows

    real = check(given.real, given.real_name, LEAST_REAL)
    made = {name: check(rows, name, LEAST_SYNTHETIC) for name, rows in given.candidates.items()}
    holdout = None if given.holdout is None else check(given.holdout, "holdout", LEAST_SYNTHETIC)
    if not given.contract.feature_columns:
        lines.append(f"contract {given.contract.name}: has no feature; a declaration needs one beside the outcome")
    if not made:
        lines.append("there is no synthetic table to declare")
    if lines:
        raise BadInput(lines)
    return real, made, holdout


@dataclass(frozen=True)
class _Work:
    """What all candidates are compared with, computed once, and the measuring of one of them."""

    given: Given
    real: Table
    holdout: Table | None
    size: int
    seed: int
    mode: Mode
    parts: Parts | NotMeasured
    on_real: Mapping[str, Mapping[str, Answers | None]]
    trials: tuple[Trial, Trial] | None
    steps: Steps

    @classmethod
    def begin(
        cls,
        given: Given,
        real: pd.DataFrame,
        made: Mapping[str, pd.DataFrame],
        holdout: pd.DataFrame | None,
        seed: int,
        mode: Mode,
        ranks: bool,
        steps: Steps,
    ) -> _Work:
        """Train the models of the real rows.

        All candidates are compared at the size of the smallest, so that one noise floor holds for all of them.
        """
        contract = given.contract
        steps.begin(2 * len(mode.models) + 2 * ranks + len(made) * (3 + len(mode.models) + mode.sdmetrics + ranks))
        size = min(len(real) // 2, *(len(frame) for frame in made.values()))
        table = Table.of(real, contract)
        held = None if holdout is None else Table.of(holdout, contract)
        divided = parts(table, held, given.hospital, given.holdout_hospital, size, seed)
        on_real: dict[str, dict[str, Answers | None]] = {name: {} for name in mode.models}
        if not isinstance(divided, NotMeasured):
            for name in mode.models:
                for part, rows in divided.train.items():
                    steps.next(f"{name.replace('_', ' ')} on {part} rows")
                    on_real[name][part] = train_and_answer(name, rows, divided.test, contract, seed)
        trials = None
        if ranks:
            both = Draws.of(len(table), size, min(size, ROWS_AT_MOST), 1, seed).halves[0]
            steps.next("eight models on real rows")
            first = trial(table.take(both[0]), contract, seed)
            steps.next("eight models on other real rows")
            trials = (first, trial(table.take(both[1]), contract, seed))
        return cls(given, table, held, size, seed, mode, divided, on_real, trials, steps)

    def candidate(self, name: str, frame: pd.DataFrame) -> Candidate:
        """Measure one synthetic table."""
        contract, mode, real, held = self.given.contract, self.mode, self.real, self.holdout
        draws = Draws.of(len(real), len(frame), self.size, mode.halvings, self.seed)
        self.steps.next(f"{name}: columns and pairs")
        columns = univariate.columns(real.frame, frame, contract, draws)
        pairs = bivariate.pairs(real.frame, frame, contract, draws)
        made = Table.of(frame, contract)
        used, bias = self._models(name, made)
        return Candidate(
            name=name,
            rows=len(frame),
            univariate=univariate.overall([f for c in columns for f in (c.shape, c.missing)]),
            bivariate=univariate.overall([f for p in pairs for f in (p.trend, p.missing_together)]),
            columns=columns,
            pairs=pairs,
            utility=used,
            bias=bias,
            distinguishability=self._told_apart(name, made, draws),
            sdmetrics=self._sdmetrics(name, frame, draws),
            ranks=self._ranks(name, made),
            rules=rules.rules(real.frame, frame, contract),
            levels=rules.levels(real.frame, frame, contract),
            prevalence=rules.prevalence(real.frame, frame, contract, draws),
            copies=rules.copies(real.frame, frame, None if held is None else held.frame, contract, draws),
            worst=worst(columns, pairs, None if isinstance(used, NotMeasured) else used),
            guarantee=self.given.guarantees.get(name, "not stated"),
            sha256=self.given.hashes.get(name, NotMeasured("the rows were not read from a file")),
            notes=self._notes(made),
        )

    def _models(self, name: str, made: Table) -> tuple[Utility | NotMeasured, tuple[Bias, ...]]:
        """Train the models on synthetic rows; what they do for patients, and for groups of them."""
        if isinstance(self.parts, NotMeasured):
            return self.parts, ()
        contract, mode = self.given.contract, self.mode
        size = len(self.parts.train[REAL])
        rows = made.take(np.random.default_rng([self.seed, 7]).permutation(len(made))[:size])
        said: dict[str, Answers | None] = {}
        for model in mode.models:
            self.steps.next(f"{name}: {model.replace('_', ' ')}")
            said[model] = train_and_answer(model, rows, self.parts.test, contract, self.seed)
        self.steps.next(f"{name}: intervals, groups and bias")
        judge = mode.models[0]
        proxy = {**self.proxies, SYNTHETIC: self._proxies(rows)}
        answers = {**self.on_real[judge], SYNTHETIC: said[judge]}
        bias = biases({**self.parts.train, SYNTHETIC: rows}, self.parts.test, answers, proxy, contract)
        return utility(self.parts, self.on_real, said, contract, mode.resamples), bias

    @cached_property
    def proxies(self) -> dict[str, dict[str, Value]]:
        """Proxy strengths within the real parts."""
        return {} if isinstance(self.parts, NotMeasured) else {k: self._proxies(t) for k, t in self.parts.train.items()}

    def _proxies(self, rows: Table) -> dict[str, Value]:
        contract, mode = self.given.contract, self.mode
        return {
            column.name: proxy_strength(rows, column, contract, name=mode.proxy, seed=self.seed, trees=mode.trees)
            for column in protected(contract)
        }

    def _told_apart(self, name: str, made: Table, draws: Draws) -> Distinguishability:
        self.steps.next(f"{name}: told apart from real rows")
        few = min(self.size, TOLD_APART_AT_MOST)
        half = self.real.take(draws.halves[0][0][:few])
        return Distinguishability(
            classifier=f"gradient boosting ({self.mode.trees} trees, {FOLDS} folds)",
            rows=few,
            auroc=self._apart(half, made.take(draws.picks[0][:few])),
            floor=self.told_apart_floor,
        )

    @cached_property
    def told_apart_floor(self) -> Measured:
        """How well the two halves of the real rows are told apart: .5, but for chance."""
        few = min(self.size, TOLD_APART_AT_MOST)
        first, second = Draws.of(len(self.real), self.size, self.size, 1, self.seed).halves[0]
        return self._apart(self.real.take(first[:few]), self.real.take(second[:few]))

    def _apart(self, first: Table, second: Table) -> Measured:
        mode, contract = self.mode, self.given.contract
        return told_apart(first, second, contract, seed=self.seed, trees=mode.trees, resamples=mode.resamples)

    def _sdmetrics(self, name: str, frame: pd.DataFrame, draws: Draws) -> SdmetricsScores | NotMeasured:
        if not self.mode.sdmetrics:
            return NOT_QUICK
        self.steps.next(f"{name}: sdmetrics")
        half = self.real.frame.iloc[draws.halves[0][0]]
        floor = self.sdmetrics_floor
        return sdv_scores.scores(half, frame.iloc[draws.picks[0]], floor, self.given.contract)

    @cached_property
    def sdmetrics_floor(self) -> Mapping[str, Value] | NotMeasured:
        """Sdmetrics' scores of the two halves of the real rows."""
        first, second = Draws.of(len(self.real), self.size, self.size, 1, self.seed).halves[0]
        real = self.real.frame
        return sdv_scores.properties(real.iloc[first], real.iloc[second], self.given.contract)

    def _ranks(self, name: str, made: Table) -> RankAgreement | NotMeasured:
        if self.trials is None:
            return NO_RANKS
        self.steps.next(f"{name}: eight models")
        size = min(self.size, ROWS_AT_MOST)
        rows = made.take(np.random.default_rng([self.seed, 8]).permutation(len(made))[:size])
        found = trial(rows, self.given.contract, self.seed)
        return agreement(*self.trials, found, self.given.contract, self.mode.resamples)

    def _notes(self, made: Table) -> tuple[str, ...]:
        notes = []
        unusable = int((~labelled(made.y)).sum())
        if unusable:
            notes.append(f"{unusable} rows have no usable outcome; models are trained without them")
        if self.size < len(self.real) // 2:
            notes.append(
                f"compared at {self.size} rows, the size of the smallest synthetic table: small differences don't show"
            )
        return tuple(notes)
