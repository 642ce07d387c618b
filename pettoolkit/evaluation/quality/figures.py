"""What a quality declaration consists of: frozen values that survive a JSON round trip.

The names and types here are the declaration's schema; ``declaration.schema.json`` beside this file is made from them
(:mod:`pettoolkit.evaluation.quality.schema`). Raise :data:`VERSION` whenever one of them changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.records import NotMeasured

VERSION = 2
INTERNAL = (
    "Internal: this declaration was made from the rows of real patients (counts, histograms, models). "
    "It has no privacy guarantee of its own and is not for release."
)

Value = float | NotMeasured
Measured = Estimate | NotMeasured


NO_FILE = NotMeasured("the rows were not read from a file")


@dataclass(frozen=True)
class Fidelity:
    """A distance from the real rows beside its noise floor; 0 is no distance at all.

    ``value`` is the mean over random halvings of the real rows of the distance between one half and as many
    synthetic rows; ``floor`` is the mean of the same distance between the two halves, and ``floor_high`` what 95 % of
    the halvings stay below. ``all_rows`` is the distance between all rows of both tables, which others report: it is
    smaller because more rows are compared, and it must not be held against the floor.
    """

    value: Value
    floor: Value
    floor_high: Value
    all_rows: Value

    @property
    def verdict(self) -> str:
        """``within the floor``, ``beyond the floor`` or ``not measured``."""
        if isinstance(self.value, NotMeasured) or isinstance(self.floor_high, NotMeasured):
            return "not measured"
        return "beyond the floor" if self.value > self.floor_high else "within the floor"

    @property
    def excess(self) -> float:
        """What the distance is above the floor; 0 where it is not measured."""
        if isinstance(self.value, NotMeasured) or isinstance(self.floor, NotMeasured):
            return 0.0
        return self.value - self.floor


@dataclass(frozen=True)
class Beside:
    """The same figure of real rows (``real``), of other real rows (``floor``) and of synthetic rows."""

    real: Value
    floor: Value
    synthetic: Value


@dataclass(frozen=True)
class Histogram:
    """Shares of the rows with a value per bin or level; ``edges`` (n + 1, in units) or ``levels`` (n)."""

    edges: tuple[float, ...]
    levels: tuple[str, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]


@dataclass(frozen=True)
class ColumnQuality:
    """One column by itself: ``measure`` is ``ks`` (numbers) or ``tv`` (levels), over the values that are there."""

    name: str
    kind: str
    measure: str
    shape: Fidelity
    missing: Fidelity
    missing_real: float
    missing_synthetic: float
    histogram: Histogram

    @property
    def excess(self) -> float:
        """How far the worse of shape and missingness is above its floor."""
        return max(self.shape.excess, self.missing.excess)


@dataclass(frozen=True)
class PairQuality:
    """Two columns together.

    ``measure`` is ``correlation`` (half the difference of Pearson's r on the contract's scale; ``real`` and
    ``synthetic`` are the two r) or ``contingency`` (total variation of the two columns' joint table, numbers in ten
    bins, missing as a level of its own). ``missing_together``: half the difference of the correlation of being missing.
    """

    first: str
    second: str
    measure: str
    trend: Fidelity
    real: Value
    synthetic: Value
    missing_together: Fidelity

    @property
    def excess(self) -> float:
        """How far the worse of trend and missingness is above its floor."""
        return max(self.trend.excess, self.missing_together.excess)


@dataclass(frozen=True)
class Overall:
    """Means over columns or pairs, with how many are beyond their own floor (5 % of them are by chance, at most)."""

    mean: Value
    floor: Value
    measured: int
    beyond_floor: int


@dataclass(frozen=True)
class SdmetricsScores:
    """Sdmetrics' own scores (1 is best), all rows, as others report them; the floor is that of two real halves."""

    column_shapes: Value
    column_shapes_floor: Value
    column_pair_trends: Value
    column_pair_trends_floor: Value


@dataclass(frozen=True)
class Scores:
    """Figures of one model on the same real test patients, by name, with 95 % bootstrap intervals.

    ``auroc`` (of several classes: unweighted mean of each against the rest), ``accuracy``, ``majority_accuracy``,
    ``sensitivity``, ``precision`` and ``f1`` each as ``/<class>``, ``/weighted`` (by the classes' patients) and
    ``/macro``; of a continuous outcome ``r2``, ``rmse`` and ``mae``.
    """

    figures: Mapping[str, Measured]


@dataclass(frozen=True)
class Trained:
    """One model trained three times on equally many rows and scored on the same real test patients.

    ``loss`` is the headline figure (``auroc`` or ``r2``) trained on real rows minus trained on synthetic rows, with the
    interval of the paired difference; ``floor`` is the same for other real rows in place of the synthetic ones.
    """

    real: Scores
    floor_rows: Scores
    synthetic: Scores
    loss: Measured
    floor: Measured


@dataclass(frozen=True)
class GroupUtility:
    """One hospital or subgroup of the test patients, by model."""

    attribute: str
    level: str
    patients: int
    models: Mapping[str, Trained]


@dataclass(frozen=True)
class Utility:
    """Train on synthetic, test on real, against train on real, test on real."""

    headline: str
    train_rows: int
    test_rows: int
    test_from: str
    decision: str
    models: Mapping[str, Trained]
    groups: tuple[GroupUtility, ...]


@dataclass(frozen=True)
class Distinguishability:
    """AUROC of a cross-validated classifier that tells synthetic rows from real ones; .5 is none."""

    classifier: str
    rows: int
    auroc: Measured
    floor: Measured


@dataclass(frozen=True)
class Bias:
    """One protected attribute.

    ``prevalence_gap``: largest difference between groups in the share of an outcome class (of the mean, in standard
    deviations, for a continuous outcome). ``parity_gap``: the same for what a model says of real test patients,
    trained on each table. ``odds_gap``: the larger of the differences in true and in false positive rate.
    ``proxy``: AUROC with which the other columns tell the attribute (of several levels: mean of each against the rest).
    """

    attribute: str
    groups: tuple[str, ...]
    prevalence_gap: Beside
    parity_gap: Beside
    odds_gap: Beside
    proxy: Beside


@dataclass(frozen=True)
class Rule:
    """How often a rule of the contract or of physiology is broken; real rows break some too."""

    rule: str
    real: int
    synthetic: int
    real_per_1000: float
    synthetic_per_1000: float


@dataclass(frozen=True)
class LevelCount:
    """A level of a column (or a class of the outcome), and how many rows of each table have it."""

    column: str
    level: str
    real: int
    synthetic: int


@dataclass(frozen=True)
class Levels:
    """What is in one table only, and columns that vary in the real table and not in the synthetic one."""

    classes_lost: tuple[LevelCount, ...]
    levels_lost: tuple[LevelCount, ...]
    levels_new: tuple[LevelCount, ...]
    columns_constant: tuple[str, ...]
    columns_all_missing: tuple[str, ...]


@dataclass(frozen=True)
class Prevalence:
    """Share of one outcome class (or the mean or SD of a continuous outcome) in each table."""

    what: str
    real: float
    synthetic: Value
    floor: float
    """Mean absolute difference between two halves of the real rows; to be held against the one at equal size."""
    difference: Value
    """Mean absolute difference between half of the real rows and as many synthetic rows."""


@dataclass(frozen=True)
class Copies:
    """Rows that are equal in all columns and the outcome, to the last digit.

    ``identical`` synthetic rows equal some real row; ``floor`` is the number expected of as many other real rows, from
    two halves; ``repeated`` are synthetic rows beyond the first of each kind. None of them says that a table is safe:
    a row can be too close without being equal.
    """

    rows: int
    identical: int
    identical_share: float
    floor_share: float
    repeated: int
    identical_to_holdout: int | NotMeasured

    @property
    def copy(self) -> bool:
        """Whether the table must be taken for a copy of patients: most of its rows, and far more than by chance."""
        return self.identical_share > max(0.5, 2 * self.floor_share)


@dataclass(frozen=True)
class RankAgreement:
    """Whether the synthetic table puts models in the order in which real data put them (Kendall's tau-b).

    ``on_synthetic`` and ``on_real``: the headline figure of each configuration, trained and tested within each table.
    ``tau`` with a bootstrap interval over test rows; ``floor`` is that of two real parts: what agreement noise allows.
    ``same_models``: tau where the models trained on real rows are tested on synthetic rows and on real rows.
    """

    configurations: tuple[str, ...]
    on_real: tuple[float, ...]
    on_synthetic: tuple[float, ...]
    tau: Measured
    floor: Measured
    same_models: Measured
    same_models_floor: Measured
    same_best: bool
    test_rows: int


@dataclass(frozen=True)
class Worst:
    """Where to look first."""

    columns: tuple[str, ...]
    pairs: tuple[str, ...]
    subgroup: str | NotMeasured


@dataclass(frozen=True)
class Candidate:
    """Everything that is declared about one synthetic table; ``sha256`` is that of its file, by which it is known."""

    name: str
    rows: int
    univariate: Overall
    bivariate: Overall
    columns: tuple[ColumnQuality, ...]
    pairs: tuple[PairQuality, ...]
    sdmetrics: SdmetricsScores | NotMeasured
    utility: Utility | NotMeasured
    distinguishability: Distinguishability | NotMeasured
    bias: tuple[Bias, ...]
    rules: tuple[Rule, ...]
    levels: Levels
    prevalence: tuple[Prevalence, ...]
    copies: Copies
    ranks: RankAgreement | NotMeasured
    worst: Worst
    guarantee: str = "not stated"
    notes: tuple[str, ...] = ()
    sha256: str | NotMeasured = NO_FILE


@dataclass(frozen=True)
class Declaration:
    """Quality of one or several synthetic tables of the same real one.

    ``matched_rows`` is how many rows of each side every distance compares, and ``halvings`` how often the real rows
    were halved; ``how`` says in sentences what was done.
    """

    internal: bool
    statement: str
    real: str
    real_rows: int
    holdout_rows: int
    hospitals: tuple[str, ...]
    outcome: str
    task: str
    seed: int
    mode: str
    matched_rows: int
    halvings: int
    how: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    contract: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = VERSION
