"""A hospital's own record of what was spent on its patients, and the refusal to spend more.

Every noisy answer goes through :meth:`Ledger.answer`: it is refused *before* private rows are touched if
it would exceed the budget, and recorded before it leaves. A request that comes again gets the stored
answer, which costs nothing, since nothing new is learnt from it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pettoolkit.errors import Refused
from pettoolkit.privacy.accounting import ADD_REMOVE, REPLACE_ONE, accountant_of, compose
from pettoolkit.privacy.durable import Contents, Journal, Record
from pettoolkit.privacy.events import SUBSAMPLED, Event, Identity, Mechanism, merged
from pettoolkit.records import Json, from_json, to_json

ROUNDING = 1e-9
"""Relative slack of the comparison with the budget: calibration meets it to the last bits of a float."""


@dataclass(frozen=True)
class Budget:
    """What may be spent in total, for adding or removing one patient; an infinite epsilon only records."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise Refused(f"dp.epsilon: must be greater than 0 (got {self.epsilon})")
        if not 0 < self.delta < 1:
            raise Refused(f"dp.delta: must lie between 0 and 1 (got {self.delta})")


class Account:
    """Sums up mechanisms against one budget.

    Composing sampled events takes up to a second, so it is not done at each of a thousand steps: once it
    is known that ``n`` more steps of a mechanism fit, they are counted down.
    """

    def __init__(self, budget: Budget, mechanisms: Iterable[Mechanism] = ()) -> None:
        self.budget = budget
        self.spent = merged(mechanisms)
        self._room: dict[Mechanism, int] = {}

    def epsilon(self, adjacency: str = ADD_REMOVE) -> float:
        """Epsilon of everything so far, at the budget's delta."""
        return compose(self.spent, self.budget.delta, adjacency)

    def expect(self, mechanism: Mechanism) -> None:
        """Check a whole planned run at once, so that its steps need not be composed one by one."""
        done = sum(m.steps for m in self.spent)
        only_this = all(m.times(1) == mechanism.times(1) for m in self.spent)
        if only_this and compose([mechanism], self.budget.delta) <= self._limit:
            self._room = {mechanism.times(1): mechanism.steps - done}

    def admits(self, mechanism: Mechanism) -> bool:
        """Whether the mechanism, with all its steps, still fits; changes nothing."""
        if self._room.get(mechanism.times(1), 0) >= mechanism.steps:
            return True
        if math.isinf(self.budget.epsilon):
            return True
        fits = self._fits(mechanism)
        if fits and any(m.kind == SUBSAMPLED for m in (*self.spent, mechanism)):
            self._room = {mechanism.times(1): self._largest(mechanism)}
        return fits

    def add(self, mechanism: Mechanism) -> None:
        """Count what was spent."""
        left = self._room.get(mechanism.times(1), 0) - mechanism.steps
        self._room = {mechanism.times(1): left} if left > 0 else {}
        self.spent = merged((*self.spent, mechanism))

    @property
    def _limit(self) -> float:
        return self.budget.epsilon * (1 + ROUNDING)

    def _fits(self, mechanism: Mechanism) -> bool:
        return compose((*self.spent, mechanism), self.budget.delta) <= self._limit

    def _largest(self, mechanism: Mechanism) -> int:
        fits = mechanism.steps
        while self._fits(mechanism.times(2 * fits)):
            fits *= 2
        beyond = 2 * fits
        while beyond - fits > max(1, fits // 50):  # a few per cent too few only means another look later
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if self._fits(mechanism.times(middle)) else (fits, middle)
        return fits


class Lifetime:
    """What a hospital lets be spent on its patients over all runs, ever."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._unanswered: set[tuple[str, Mechanism]] = set()
        self._account = Account(budget)

    @property
    def epsilon(self) -> float:
        """Epsilon of everything so far."""
        return self._account.epsilon()

    def charge(self, event: Event) -> None:
        """Record one answer that is about to be given.

        One that was recorded here before and could not be given (:meth:`answered` was not called) is not counted
        again. What an earlier process recorded is: it can't be known whether its answer was lost before it left, or
        with a ledger after it left, and the answer made now has other noise.

        Raises
        ------
        Refused
            If the cap would be exceeded; nothing is then recorded.
        """
        with self._transaction():
            key = _key(event)
            if (key, event.mechanism) in self._unanswered:
                return
            if not self._account.admits(event.mechanism):
                raise Refused(
                    f"hospital {event.identity.site}: lifetime privacy budget of epsilon {self.budget.epsilon:g} "
                    f"has {self.epsilon:.3g} spent and can't take this request; only its owner can raise it"
                )
            self._write(key, event.mechanism)
            self._account.add(event.mechanism)
            self._unanswered.add((key, event.mechanism))

    def answered(self, event: Event) -> None:
        """Note that the answer to a recorded event is in its run's ledger: made again, it would be another one."""
        self._unanswered.discard((_key(event), event.mechanism))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        yield

    def _write(self, key: str, mechanism: Mechanism) -> None:
        """Nothing to write: this one lives in memory."""


class Ledger:
    """What one run spends on one hospital's patients (on all patients, where the coordinator holds them).

    Parameters
    ----------
    site, run
        Whose and which; requests for others are refused.
    budget
        Of the whole run.
    plan
        The mechanism that the run is calibrated for, with all its steps; spares repeated composition.
    lifetime
        Charged with every event as well, where the hospital keeps one.
    """

    def __init__(
        self, site: str, run: str, budget: Budget, plan: Mechanism | None = None, lifetime: Lifetime | None = None
    ) -> None:
        self.site, self.run, self.budget = site, run, budget
        self._answered: dict[str, list[tuple[Event, bytes]]] = {}  # by slot
        self._lifetime = lifetime
        self._events: list[Event] = []
        self._account = Account(budget)
        if plan is not None:
            self._account.expect(plan)

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that touched private data, in order."""
        return tuple(self._events)

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """The events' mechanisms, equal ones counted together."""
        return self._account.spent

    def epsilon(self, adjacency: str = ADD_REMOVE) -> float:
        """Epsilon spent so far, at the budget's delta."""
        return self._account.epsilon(adjacency)

    def answer(
        self, identity: Identity, mechanism: Mechanism, make: Callable[[int], bytes], *, simulated: bool = True
    ) -> bytes:
        """Answer a request once: stored if it was answered before, refused if it can't be afforded.

        Parameters
        ----------
        identity
            The request. Equal identity and mechanism: the stored answer, and nothing is spent. The same
            slot with another input: charged anew.
        mechanism
            What the answer costs, all its steps together.
        make
            Computes the answer from private rows. It gets the attempt number, which must enter its noise
            (:class:`pettoolkit.privacy.noise.Draw`): answers to different inputs must not share noise.
        simulated
            Whether that noise comes from a seed (:attr:`pettoolkit.privacy.noise.NoiseSource.simulated`).

        Raises
        ------
        Refused
            Before ``make`` is called, if the run's budget or the hospital's lifetime cap would be exceeded.
        """
        with self._transaction():
            if (identity.site, identity.run) != (self.site, self.run):
                raise Refused(f"hospital {self.site}: this ledger is of run {self.run}, not of {identity.slot}")
            earlier = self._answered.get(identity.slot, [])
            for event, given in earlier:
                if (event.identity, event.mechanism) == (identity, mechanism):
                    return given
            if not self._account.admits(mechanism):
                raise Refused(self._too_expensive(identity, mechanism, bool(earlier)))
            event = Event(identity, mechanism, len(earlier), simulated)
            if self._lifetime is not None:
                self._lifetime.charge(event)  # first: a crash may charge too much, never too little
            made = make(event.attempt)
            self._write(event, made)
            self._remember(event, made)
            if self._lifetime is not None:
                self._lifetime.answered(event)
            return made

    def summary(self) -> dict[str, Json]:
        """Sum up what may be shown outside: spent and budget, no inputs and no answers."""
        return {
            "site": self.site,
            "run": self.run,
            "budget": to_json(self.budget),
            "epsilon": self.epsilon(),
            "epsilon_replace_one": self.epsilon(REPLACE_ONE),
            "accountant": accountant_of(self.mechanisms),
            "answers": len(self._events),
            "simulated_noise": not self._events or any(e.simulated for e in self._events),
            "mechanisms": [to_json(m) for m in self.mechanisms],
        }

    def _remember(self, event: Event, answer: bytes) -> None:
        self._events.append(event)
        self._answered.setdefault(event.identity.slot, []).append((event, answer))
        self._account.add(event.mechanism)

    def _too_expensive(self, identity: Identity, mechanism: Mechanism, again: bool) -> str:
        spent, would = self.epsilon(), compose((*self._account.spent, mechanism), self.budget.delta)
        why = " (this round was already answered for another input)" if again else ""
        return (
            f"hospital {self.site}: {identity.purpose}, round {identity.round}, would take epsilon from {spent:.4g} to "
            f"{would:.4g}, beyond this run's budget of {self.budget.epsilon:g} at delta {self.budget.delta:g}{why}"
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        yield

    def _write(self, event: Event, answer: bytes) -> None:
        """Nothing to write: this one lives in memory."""


class FileLedger(Ledger):
    """A ledger in the hospital's own folder: on the disk before an answer leaves, safe between processes.

    What is not on the disk was never answered, and what was answered is on the disk: see
    :mod:`pettoolkit.privacy.durable`.
    """

    def __init__(
        self,
        path: Path,
        site: str,
        run: str,
        budget: Budget,
        plan: Mechanism | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        super().__init__(site, run, budget, plan, lifetime)
        self._header: Record = {"ledger": "run", "site": site, "run": run, "budget": to_json(budget)}
        self._journal = Journal(path, self._header, _answer_of, _version_1)
        with self._transaction():
            pass  # reads what is there, and refuses another budget right away

    @staticmethod
    def budget_of(path: Path) -> Budget | None:
        """The budget that a ledger's file was begun with; None if there is no file.

        Raises
        ------
        Refused
            If the file does not begin as a ledger does.
        """
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline().partition(b" ")[2])
            return from_json(Budget, header["budget"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{path}: this privacy ledger has no header that can be read; restore it") from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._journal.locked() as (header, answers):
            self._check(header)
            for event, answer in answers:
                self._remember(event, answer)
            yield

    def _write(self, event: Event, answer: bytes) -> None:
        self._journal.append({"event": to_json(event), "answer": base64.b64encode(answer).decode()})

    def _check(self, header: Record) -> None:
        if {name: header.get(name) for name in self._header} == self._header:
            return
        if (header.get("site"), header.get("run")) != (self.site, self.run):
            raise Refused(f"{self._journal.path}: this is not the ledger of hospital {self.site} and run {self.run}")
        raise Refused(
            f"hospital {self.site}: run {self.run} was begun with another budget ({header.get('budget')}); "
            "a run's budget can't change once it has begun"
        )


class FileLifetime(Lifetime):
    """A lifetime ledger in the hospital's own folder; the cap is the owner's policy, not part of the file."""

    def __init__(self, path: Path, budget: Budget) -> None:
        super().__init__(budget)
        self._journal = Journal(path, {"ledger": "lifetime"}, _spending_of, _lifetime_version_1)
        with self._transaction():
            pass

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._journal.locked() as (_, spendings):
            for mechanism in spendings:
                self._account.add(mechanism)
            yield

    def _write(self, key: str, mechanism: Mechanism) -> None:
        self._journal.append({"key": key, "mechanism": to_json(mechanism)})


def _answer_of(record: Record) -> tuple[Event, bytes]:
    return from_json(Event, record["event"]), base64.b64decode(record["answer"])


def _key(event: Event) -> str:
    return f"{event.identity.slot}/{event.attempt}/{event.identity.input_hash}"


def _spending_of(record: Record) -> Mechanism:
    return from_json(Mechanism, record["mechanism"])


def _version_1(state: Record) -> Contents:
    pairs = zip(state["events"], state["answers"], strict=True)
    header = {"ledger": "run", **{name: state[name] for name in ("site", "run", "budget")}}
    return header, [{"event": event, "answer": answer} for event, answer in pairs]


def _lifetime_version_1(state: Record) -> Contents:
    return {"ledger": "lifetime"}, [{"key": k, "mechanism": m} for k, m in state["events"].items()]
