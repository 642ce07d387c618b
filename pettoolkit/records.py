"""The frozen value types that cross rooms. Imports nothing of ours, so that every room may use it.

Each type that is written to disk carries ``schema_version`` and survives a JSON round trip. What is
not yet measured is :class:`NotMeasured` with its reason, never ``None`` or ``0``.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

if typing.TYPE_CHECKING:
    import numpy.typing as npt

SCHEMA_VERSION = 1
RESULT_VERSION = 5
"""Raised whenever the numbers of a cell may change; finished cells of another version run again."""

Json = Any  # a value that json.dumps takes: dict, list, str, int, float, bool or None


@dataclass(frozen=True)
class NotMeasured:
    """Stands where a figure would stand, and says why there is none."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise ValueError("NotMeasured: a reason is needed")


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, ``low <= high``, in the unit of the figure it belongs to."""

    low: float
    high: float


@dataclass(frozen=True)
class ModelSpec:
    """Which model is trained: ``logistic``, ``mlp`` with its hidden units, or ``gradient_boosting``."""

    name: str
    hidden: int = 0


@dataclass(frozen=True)
class DpSpec:
    """The differential privacy asked for: the budget of the whole run, unit = patient.

    ``noise`` says who adds it: ``local`` (full noise at each hospital), ``shared`` (each hospital adds
    sigma / sqrt(honest_sites) under encryption) or ``central`` (at the coordinator).
    """

    epsilon: float
    delta: float = 1e-5
    noise: str = "local"
    honest_sites: int | None = None
    gradients: str = "auto"
    batch: int | None = None
    """Expected size of a Poisson-sampled batch; ``None`` is the full batch."""
    target: str = "patients"
    """``patients``; or ``downstream``: only training on a generator's rows is private, patients have no guarantee."""


@dataclass(frozen=True)
class RunSpec:
    """One cell, fully resolved: everything that an arm needs to know, and nothing else.

    ``contract`` is the resolved row contract (JSON). In messages to hospitals it is replaced by its
    digest (:meth:`wire`), since each hospital holds its own copy.
    """

    task: str
    arm: str
    options: Mapping[str, Json]
    model: ModelSpec
    features: str
    seed: int
    sites: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    dp: DpSpec | None = None
    patients_per_site: int | None = None
    contract: Mapping[str, Json] = field(default_factory=dict)
    contract_digest: str = ""
    experiment: str = ""
    faults: Mapping[str, Json] = field(default_factory=dict)
    attacks: str = "none"
    """How much the judge attacks what the cell gave away: ``none``, ``quick`` or ``full``."""
    risk: Mapping[str, Json] = field(default_factory=dict)
    """``thresholds`` of the verdict, where the experiment file writes some."""
    schema_version: int = SCHEMA_VERSION

    @property
    def run_id(self) -> str:
        """Short name of this cell inside a hospital's store and ledger."""
        return digest_of(self.wire())[:16]

    @property
    def variant(self) -> str:
        """What tells an arm's variants apart: strategy, method, k, or generator with its dials; else ``-``."""
        options = self.options
        for key in ("strategy", "generator", "method", "k"):
            value = options.get(key)
            if value is not None:
                break
        else:
            return "-"
        if (poison := options.get("poison")) is not None:
            times = "" if poison["kind"] == "label_flip" else f" x{poison['factor']:g}"
            return f"{value}, {len(poison['sites'])} poisoned ({poison['kind']}{times})"
        if key == "k":
            return f"k={value} all" if options.get("scope") == "all" else f"k={value}"
        return str(value) if key != "generator" else " ".join([str(value), *_dials(options)])

    def wire(self) -> dict[str, Json]:
        """What travels to a hospital: the spec without the contract's text and the experiment's name."""
        data = to_json(self)
        data["contract"] = {}
        data["experiment"] = ""
        if self.attacks == "none":  # a cell without attacks is the cell that it was before there were any
            del data["attacks"], data["risk"]
        return typing.cast("dict[str, Json]", data)


def _dials(options: Mapping[str, Json]) -> list[str]:
    """What was written besides a generator's name, in words; nothing where all is as usual."""
    words = [] if options.get("scope") in (None, "per_hospital") else [str(options["scope"])]
    words += [f"{key} {options[key]:g}" for key in ("fit_epochs", "smoothing") if options.get(key) is not None]
    if options.get("pairs") is not None:
        words.append("pairs" if options["pairs"] else "no pairs")
    if options.get("filter") not in (None, "none"):
        words.append(f"filter {options['filter']}")
    if (balance := options.get("balance")) is not None:
        words.append(f"balance {balance['column']} {balance['to']:g}")
    return words


@dataclass(frozen=True)
class Guarantee:
    """A differential-privacy statement about one cell.

    ``epsilon`` is for add/remove adjacency and ``epsilon_replace_one`` for replace-one. The two
    ``if_*`` figures state what is left of it under collusion.
    """

    epsilon: float
    epsilon_replace_one: float | NotMeasured
    delta: float
    accountant: str
    mechanism: str
    unit: str = "patient"
    assumptions: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    epsilon_if_sites_collude: Mapping[str, float] = field(default_factory=dict)
    epsilon_if_coordinator_and_site_collude: float | NotMeasured = NotMeasured("noise is not shared")
    simulated_noise: bool = True
    noise_multiplier: float | NotMeasured = NotMeasured("the mechanism has several noise scales")


@dataclass(frozen=True)
class AttackFigure:
    """What one attack achieved on one view, beside what it achieves on patients who can't be exposed.

    ``success`` is the attack on patients whose data were used, ``control`` the same attack on ``control`` patients
    (or the success that is chance by construction: .5 for an AUC, .01 for the true-positive rate at 1 % false
    positives), ``excess`` = (success - control) / (1 - control), and ``interval`` is the excess's, 95 %.
    ``patients`` counts distinct patients attacked; ``wanted`` and ``achieved`` count attacks. ``bound`` is the highest
    ``success`` that the guarantee of the cell leaves room for.
    """

    attack: str
    measure: str
    view: str  # "release" or "insider"
    knowledge: str  # "none", "quasi-identifiers" or "full"
    success: float
    control: float
    excess: float
    interval: Interval
    patients: int
    wanted: int
    achieved: int
    seconds: float
    bound: float | NotMeasured = NotMeasured("no guarantee, hence no bound")
    site: str = "*"
    details: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """One view's figures against the thresholds: ``below``, ``above`` or ``undecided``.

    ``figure`` is the strongest attack's excess (chosen on one half of the targets, reported on the other),
    ``null`` the same attack's where nobody can be exposed; ``left_out`` names attacks that too few patients let decide.
    ``strongest`` is the strongest attack and its measure, empty where none decides.
    """

    state: str
    figure: float | NotMeasured
    threshold: float
    why: str
    left_out: Mapping[str, str] = field(default_factory=dict)
    null: float | NotMeasured = NotMeasured("no null row was attacked")
    strongest: str = ""


NO_OBSTACLE = ("does not apply", "cost")
"""How the reasons begin why an attack did not run, of those without which the other figures are judged all the same."""


@dataclass(frozen=True)
class MeasuredRisk:
    """All attacks of one cell: what they achieved, which did not run and why, and one verdict per view."""

    figures: tuple[AttackFigure, ...]
    not_run: Mapping[str, str]
    verdict_release: Verdict
    verdict_insider: Verdict
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class PrivacyStatement:
    """Guarantee, measured risk and trust: three columns, never mixed."""

    guarantee: Guarantee | NotMeasured
    trust: str
    leaks_if_collude: str
    reversible: str
    measured: MeasuredRisk | NotMeasured = NotMeasured("no attacks were run")
    ledgers: Mapping[str, Json] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Traffic:
    """Messages of one (site, direction, kind, purpose): how many, and their serialised bytes."""

    site: str
    direction: str  # "out" of the hospital, or "in"
    kind: str
    purpose: str
    messages: int
    bytes: int

    @property
    def protocol(self) -> bool:
        """Whether it belongs to the technology: neither instrumentation nor the roll call (names and counts)."""
        return self.purpose not in INSTRUMENTATION and not (self.purpose == "setup" and self.kind in SETUP_KINDS)


@dataclass(frozen=True)
class Exposure:
    """What left (and entered) the hospitals: the meter on the wire, read out."""

    traffic: tuple[Traffic, ...]
    out_of_band: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def bytes_per_site(self, direction: str, *, protocol_only: bool = True) -> dict[str, int]:
        """Bytes per site in one direction: of the technology's own protocol (:attr:`Traffic.protocol`), or of all."""
        totals: dict[str, int] = {}
        for row in self.traffic:
            if row.direction == direction and (row.protocol or not protocol_only):
                totals[row.site] = totals.get(row.site, 0) + row.bytes
        return totals

    def kinds_out(self) -> tuple[str, ...]:
        """Kinds that left a hospital as part of the technology's own protocol, sorted.

        Set-up aside: there a hospital says its name and, for some arms, its count of patients.
        """
        return tuple(sorted({r.kind for r in self.traffic if r.direction == "out" and r.protocol}))


INSTRUMENTATION = frozenset({"evaluation", "audit"})
"""Purposes that belong to the benchmark and not to a technology's protocol."""

SETUP_KINDS = frozenset({"metrics", "request"})
"""What is said in set-up: a hospital's name and its public count of patients."""


@dataclass(frozen=True)
class Cost:
    """Seconds and memory of one cell; ``extra`` holds an arm's own figures by metric name."""

    train_seconds: float
    cpu_seconds: float | NotMeasured = NotMeasured("not reported by this engine")
    cpu_seconds_site_max: float | NotMeasured = NotMeasured("not reported by this engine")
    cpu_seconds_coordinator: float | NotMeasured = NotMeasured("not reported by this engine")
    peak_rss_mb: float | NotMeasured = NotMeasured("not reported by this engine")
    extra: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Weights:
    """Named arrays of one model, exact: ``{name: {"shape": [..], "dtype": "float32", "data": base64}}``."""

    arrays: Mapping[str, Mapping[str, Json]]

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Weights:
        """Pack named numpy arrays."""
        return cls(
            {
                name: {"shape": list(a.shape), "dtype": str(a.dtype), "data": base64.b64encode(a.tobytes()).decode()}
                for name, a in arrays.items()
            }
        )

    def unpack(self) -> dict[str, npt.NDArray[Any]]:
        """Named numpy arrays (copies)."""
        import numpy as np

        return {
            name: np.frombuffer(base64.b64decode(a["data"]), dtype=a["dtype"]).reshape(a["shape"]).copy()
            for name, a in self.arrays.items()
        }


@dataclass(frozen=True)
class Models:
    """What an arm trained: ``shared`` under the key ``*``, or one entry per site."""

    by_site: Mapping[str, Weights]

    SHARED: typing.ClassVar[str] = "*"

    @property
    def shared(self) -> bool:
        """Whether all hospitals use one model."""
        return set(self.by_site) == {self.SHARED}


@dataclass(frozen=True)
class Outcome:
    """What an arm's outside half returns; serialisable, so that it can come from another process."""

    models: Models
    privacy: PrivacyStatement
    exposure: Exposure
    cost: Cost
    rounds: int = 0
    round_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    released_table: Mapping[str, Json] | None = None
    encryption: Mapping[str, float] = field(default_factory=dict)
    coefficients: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of a fit that has standard errors: feature -> coefficient, standard_error, odds_ratio, low, high (95 %)."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """An arm's own metrics by full name (``anonymity/k``)."""
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class RunResult:
    """One finished cell. ``metrics`` uses the names of DESIGN section 7."""

    spec: RunSpec
    config_hash: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    per_site: Mapping[str, Mapping[str, float | NotMeasured]]
    cross_site: Mapping[str, Mapping[str, float | NotMeasured]] | NotMeasured
    subgroups: Mapping[str, Mapping[str, float | NotMeasured]]
    privacy: PrivacyStatement
    exposure: Exposure
    cost: Cost
    round_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    coefficients: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    result_version: int = RESULT_VERSION
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Summary:
    """The seeds of one variant together: mean and SD of each metric, intervals over patients and seeds.

    ``spec`` is the first seed's; what seeds may differ in (``seed``, ``sites``) is not to be read from it.
    """

    spec: RunSpec
    seeds: tuple[int, ...]
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    intervals: Mapping[str, Interval]
    worst_site: str | NotMeasured = NotMeasured("undefined at every site")
    schema_version: int = SCHEMA_VERSION


def digest_of(value: Json) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def to_json(value: Any) -> Json:
    """Turn a record into plain JSON values; unions are resolved on the way back by their keys."""
    if isinstance(value, NotMeasured):
        return {"not_measured": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return value


T = TypeVar("T")


def from_json(kind: type[T], data: Json) -> T:
    """Inverse of :func:`to_json`.

    Raises
    ------
    ValueError
        If ``schema_version`` is newer than this program knows, or a field is unknown.
    """
    return typing.cast("T", _decode(kind, data))


def _decode(kind: Any, data: Json) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, data)
    if origin is tuple:
        return tuple(_decode(args[0], item) for item in data)
    if origin is not None and issubclass(origin, Mapping):
        return {key: _decode(args[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind is NotMeasured:
            return NotMeasured(data["not_measured"])
        # A document of its own, like the quality declaration, counts its own versions: the field's default is the last.
        last = next((f.default for f in dataclasses.fields(kind) if f.name == "schema_version"), SCHEMA_VERSION)
        if data.get("schema_version", 0) > last:
            newer = f"schema_version {data['schema_version']} is newer than {last}"
            raise ValueError(f"{kind.__name__}: {newer}, the last that this program knows")
        hints = typing.get_type_hints(kind)
        if unknown := sorted(set(data) - set(hints)):
            raise ValueError(f"{kind.__name__}: unknown fields {', '.join(unknown)}")
        return kind(**{key: _decode(hints[key], item) for key, item in data.items()})
    if kind is float and data is not None:
        return float(data)
    return data


def _decode_union(args: tuple[Any, ...], data: Json) -> Any:
    if data is None:
        return None
    if isinstance(data, dict) and set(data) == {"not_measured"}:
        return NotMeasured(data["not_measured"])
    rest = [a for a in args if a is not type(None) and a is not NotMeasured]
    return _decode(rest[0], data)
