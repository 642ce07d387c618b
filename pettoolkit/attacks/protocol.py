"""What an attack is: it sees one view, knows what is stated, and is judged beside patients who can't be exposed.

An attack registers from one file::

    @register
    class NearestNeighbour:
        name = "nearest_neighbour"
        sees = TableView
        knowledge = "full"

        def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
            start = time.perf_counter()
            hits = Hits(patient=.., hit=.., control_patient=.., control_hit=..)
            return [finding(self, "near_match", hits, wanted=effort.attacks, seconds=time.perf_counter() - start)]

Ours are found in ``attacks/tables/``, ``attacks/models/`` and ``attacks/insider/``; anybody's in a module named
by ``--plugin`` or by the entry-point group ``pettoolkit.attacks`` (:func:`attacks_for`).

``run`` may return several findings (one per secret, per measure, per hospital), none, or raise :class:`NotRun` with
the reason, which is reported instead of a figure.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.attacks.statistics import (
    LEVEL,
    Bools,
    Floats,
    Ints,
    excess,
    excess_interval,
    half_of,
    rate_of,
)
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput
from pettoolkit.records import AttackFigure, Interval, NotMeasured

NO_BOUND = NotMeasured("no guarantee, hence no bound")
ROOMS = ("pettoolkit.attacks.tables", "pettoolkit.attacks.models", "pettoolkit.attacks.insider")
PLUGINS = "pettoolkit.attacks"
"""Entry-point group: each entry is a module whose import registers attacks."""

MESSAGES = (".inside", ".outside")
"""Files that know messages and arms: no attacks are in them, and they are slow to import."""

RELEASE, INSIDER = "release", "insider"
KNOWLEDGE = ("none", "quasi-identifiers", "full")


class NotRun(Exception):
    """Raised by an attack that can't run on what it was given; the text says why. Nothing is then called *below*."""


class NotApplicable(NotRun):
    """Raised by an attack that has nothing to attack here (groups in a synthetic table): no verdict waits for it."""


class TooCostly(NotRun):
    """Raised by an attack that was not run for its cost; what a model reveals beyond its table is then not known."""


@dataclass(frozen=True)
class Group:
    """Real rows of one role in natural units, columns of the contract's features and outcome.

    ``patient`` numbers the distinct patients (the same number in several rows: the same patient), ``site`` is each
    row's hospital; both have shape (n,).
    """

    rows: pd.DataFrame
    patient: Ints
    site: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: npt.NDArray[Any]) -> Group:
        """The rows of a mask or of positions."""
        return Group(
            self.rows.loc[index].reset_index(drop=True)
            if index.dtype == bool
            else self.rows.iloc[index].reset_index(drop=True),
            self.patient[index],
            self.site[index],
        )


@dataclass(frozen=True)
class People:
    """Whom attacks are run on: ``members`` were used, ``control`` and ``attacker`` never.

    ``control`` patients are attacked like members: what succeeds on them is no exposure. ``attacker`` rows are what
    an attacker may own (density reference), and pose as a release in the null row.
    """

    members: Group
    control: Group
    attacker: Group


@dataclass(frozen=True)
class Effort:
    """How much is spent: attacks per table attack, targets and shadows per model attack; the seed of all of it."""

    name: str = "full"
    attacks: int = 2000
    targets: int = 2000
    shadows: int = 64
    seconds: float = 600.0
    """Shadows of one cell may take so long in all, by the time that the first one took."""
    seed: int = 0


QUICK = Effort("quick", attacks=500, shadows=16, seconds=10.0)
FULL = Effort()


@dataclass(frozen=True)
class View:
    """Base of what an attack may see; ``kind`` is ``release`` or ``insider``."""

    contract: Contract
    kind: str = RELEASE


@dataclass(frozen=True)
class TableView(View):
    """Released tables, by release (several: of overlapping patients), columns as in the contract.

    Cells of an anonymised table are generalised (a range, a set of levels, suppressed); ``source`` says what made
    the table (``synthetic``, ``anonymised``, ``raw``, or ``null`` for fresh patients posing as a release).
    """

    releases: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    source: str = "synthetic"
    quasi_identifiers: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()


class Evidence(Protocol):
    """Raw outcome of an attack, from which figure, interval at any level and either half of the targets follow."""

    @property
    def success(self) -> float:
        """On members."""
        ...

    @property
    def control(self) -> float:
        """On control patients, or by chance."""
        ...

    @property
    def patients(self) -> int:
        """Distinct patients attacked."""
        ...

    @property
    def achieved(self) -> int:
        """Attacks made."""
        ...

    def interval(self, level: float = LEVEL) -> Interval:
        """Interval of the excess."""
        ...

    def half(self, number: int) -> Evidence:
        """The same over half of the targets, 0 or 1."""
        ...


@dataclass(frozen=True)
class Hits:
    """Each attack either succeeds or not. Arrays of shape (attacks,) and (control attacks,).

    ``patient`` is the number of the patient attacked; an attack on nobody in particular has a number of its own.
    """

    patient: Ints
    hit: Bools
    control_patient: Ints
    control_hit: Bools

    @property
    def success(self) -> float:
        """Share of attacks on members that succeed."""
        return rate_of(self.patient, self.hit).value

    @property
    def control(self) -> float:
        """Share of attacks on control patients that succeed."""
        return rate_of(self.control_patient, self.control_hit).value

    @property
    def patients(self) -> int:
        """Distinct members attacked."""
        return rate_of(self.patient, self.hit).patients

    @property
    def achieved(self) -> int:
        """Attacks on members."""
        return len(self.hit)

    def interval(self, level: float = LEVEL) -> Interval:
        """See :meth:`Evidence.interval`."""
        return excess_interval(rate_of(self.patient, self.hit), rate_of(self.control_patient, self.control_hit), level)

    def half(self, number: int) -> Hits:
        """See :meth:`Evidence.half`."""
        mine, other = half_of(self.patient) == number, half_of(self.control_patient) == number
        return Hits(self.patient[mine], self.hit[mine], self.control_patient[other], self.control_hit[other])


@dataclass(frozen=True)
class Exact:
    """A figure that is read off what was released (largest 1 / class size): there is nothing to sample."""

    success: float
    patients: int
    achieved: int
    control: float = 0.0

    def interval(self, level: float = LEVEL) -> Interval:
        """See :meth:`Evidence.interval`."""
        value = excess(self.success, self.control)
        return Interval(value, value)

    def half(self, number: int) -> Exact:
        """See :meth:`Evidence.half`."""
        return self


@dataclass(frozen=True)
class Finding:
    """A figure, and the evidence that the verdict needs beside it."""

    figure: AttackFigure
    evidence: Evidence


V = TypeVar("V", bound=View)


@runtime_checkable
class Attack(Protocol):
    """One attack. ``sees`` is the type of view that it takes, ``knowledge`` what it is told beforehand."""

    @property
    def name(self) -> str:
        """Of the attack, in figures and lists."""
        ...

    @property
    def sees(self) -> type[View]:
        """Which views it is run on."""
        ...

    @property
    def knowledge(self) -> str:
        """One of :data:`KNOWLEDGE`."""
        ...

    def run(self, view: Any, people: People, effort: Effort) -> Sequence[Finding]:
        """Attack members and control patients.

        Raises
        ------
        NotRun
            With the reason, if it can't.
        """
        ...


def finding(
    attack: Attack,
    measure: str,
    evidence: Evidence,
    *,
    wanted: int,
    seconds: float,
    view: str = RELEASE,
    bound: float | NotMeasured = NO_BOUND,
    site: str = "*",
    details: Mapping[str, float] | None = None,
    note: str = "",
) -> Finding:
    """Put a figure together from an attack's evidence."""
    return Finding(
        AttackFigure(
            attack=attack.name,
            measure=measure,
            view=view,
            knowledge=attack.knowledge,
            success=evidence.success,
            control=evidence.control,
            excess=excess(evidence.success, evidence.control),
            interval=evidence.interval(),
            patients=evidence.patients,
            wanted=wanted,
            achieved=evidence.achieved,
            seconds=seconds,
            bound=bound,
            site=site,
            details=dict(details or {}),
            note=note,
        ),
        evidence,
    )


_REGISTERED: dict[str, Attack] = {}
A = TypeVar("A")


def register(attack: type[A]) -> type[A]:
    """Class decorator: make one of this attack and offer it to every run.

    Raises
    ------
    ValueError
        If another attack has that name.
    """
    made: Any = attack()
    known = _REGISTERED.get(made.name)
    if known is not None and type(known).__qualname__ != attack.__qualname__:
        raise ValueError(f"attack {made.name}: two classes have this name")
    _REGISTERED[made.name] = made
    return attack


def attacks_for(view: View, plugins: Iterable[str] = ()) -> list[Attack]:
    """All registered attacks that take this view, sorted by name; files of our rooms and plug-ins are imported.

    Parameters
    ----------
    view
        What there is to attack.
    plugins
        Modules (dotted names) to import beside those of the entry-point group.

    Raises
    ------
    BadInput
        If a module of ``plugins`` can't be imported.
    """
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.iter_modules(package.__path__, f"{room}."):
            if not module.name.endswith(MESSAGES):
                importlib.import_module(module.name)
    for entry in importlib.metadata.entry_points(group=PLUGINS):
        entry.load()
    for name in plugins:
        try:
            importlib.import_module(name)
        except Exception as error:  # somebody's file: whatever it raises is theirs to read, in one line
            raise BadInput(f"--plugin {name}: can't be imported ({type(error).__name__}: {error})") from error
    return sorted((a for a in _REGISTERED.values() if isinstance(view, a.sees)), key=lambda a: a.name)


def run_attacks(
    attacks: Iterable[Attack], view: View, people: People, effort: Effort
) -> tuple[list[Finding], dict[str, str]]:
    """Run attacks on one view.

    Returns
    -------
    findings, not_run
        What they achieved, and ``{attack: why}`` for those that did not run.
    """
    findings: list[Finding] = []
    not_run: dict[str, str] = {}
    for attack in attacks:
        try:
            findings += attack.run(view, people, effort)
        except NotApplicable as why:
            not_run[attack.name] = f"does not apply: {why}"
        except TooCostly as why:
            not_run[attack.name] = f"cost: {why}"
        except NotRun as why:
            not_run[attack.name] = str(why)
        except Exception as error:  # a defect of one attack must not take the cell, nor hide: nothing is then *below*
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            not_run[attack.name] = f"failed: {type(error).__name__} at {where} (a defect of the attack)"
    return findings, not_run


__all__ = [
    "FULL",
    "INSIDER",
    "QUICK",
    "RELEASE",
    "Attack",
    "Effort",
    "Evidence",
    "Exact",
    "Finding",
    "Floats",
    "Group",
    "Hits",
    "NotApplicable",
    "NotRun",
    "People",
    "TableView",
    "TooCostly",
    "View",
    "attacks_for",
    "finding",
    "register",
    "run_attacks",
]
