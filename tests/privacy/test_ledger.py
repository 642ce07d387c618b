from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.errors import Refused
from pettoolkit.privacy import ledger as module
from pettoolkit.privacy.accounting import calibrate, compose, mechanism_for
from pettoolkit.privacy.events import Identity, Mechanism, gaussian, zcdp
from pettoolkit.privacy.ledger import Account, Budget, FileLedger, FileLifetime, Ledger, Lifetime

BUDGET = Budget(1.0, 1e-5)
ONE_OF_30 = gaussian(calibrate(1.0, 1e-5, steps=30))


def request(round_: int = 0, input_hash: str = "a", purpose: str = "training", run: str = "run") -> Identity:
    return Identity(run, "north", round_, purpose, input_hash)


def in_memory(tmp_path: Path) -> Ledger:
    return Ledger("north", "run", BUDGET)


def on_disk(tmp_path: Path) -> Ledger:
    return FileLedger(tmp_path / "run.ledger", "north", "run", BUDGET)


both = pytest.mark.parametrize("make", [in_memory, on_disk])


@both
def test_the_planned_rounds_are_answered_and_the_next_is_refused(make, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for round_ in range(30):
        ledger.answer(request(round_), ONE_OF_30, lambda _: b"noisy")
    assert ledger.epsilon() == pytest.approx(1.0)
    with pytest.raises(Refused, match="beyond this run's budget of 1 "):
        ledger.answer(request(30), ONE_OF_30, lambda _: pytest.fail("private rows were touched"))
    assert len(ledger.events) == 30


@both
def test_the_same_request_again_gets_the_stored_answer_and_spends_nothing(make, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    first = ledger.answer(request(), ONE_OF_30, lambda _: b"\x00noisy\xff")
    spent = ledger.epsilon()
    again = ledger.answer(request(), ONE_OF_30, lambda _: pytest.fail("computed again"))
    assert again == first == b"\x00noisy\xff"
    assert ledger.epsilon() == spent


@both
def test_the_same_round_with_other_input_is_charged_anew_with_other_noise(make, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.answer(request(input_hash="a"), ONE_OF_30, lambda attempt: b"%d" % attempt)
    answer = ledger.answer(request(input_hash="b"), ONE_OF_30, lambda attempt: b"%d" % attempt)
    assert answer == b"1"
    assert ledger.epsilon() == compose([ONE_OF_30] * 2, 1e-5)
    assert ledger.answer(request(input_hash="a"), ONE_OF_30, lambda _: b"?") == b"0"


def test_the_same_input_with_less_noise_is_not_the_same_request() -> None:
    ledger = Ledger("north", "run", BUDGET)
    ledger.answer(request(), gaussian(50.0), lambda _: b"loud")
    assert ledger.answer(request(), gaussian(10.0), lambda _: b"quiet") == b"quiet"
    assert ledger.epsilon() == compose([gaussian(50.0), gaussian(10.0)], 1e-5)


def test_a_second_input_for_a_round_of_a_spent_budget_is_refused() -> None:
    ledger = Ledger("north", "run", BUDGET)
    ledger.answer(request(), mechanism_for(1.0, 1e-5, 30), lambda _: b"all")
    with pytest.raises(Refused, match="already answered for another input"):
        ledger.answer(request(input_hash="b"), ONE_OF_30, lambda _: b"")


@both
def test_a_failing_answer_spends_nothing(make, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    with pytest.raises(ZeroDivisionError):
        ledger.answer(request(), ONE_OF_30, lambda _: b"" * (1 // 0))
    assert ledger.events == ()
    assert ledger.epsilon() == 0


def test_release_without_noise_is_refused() -> None:
    with pytest.raises(Refused, match="inf, beyond"):
        Ledger("north", "run", BUDGET).answer(request(), gaussian(0.0), lambda _: b"bare")


def test_requests_of_another_run_are_refused() -> None:
    with pytest.raises(Refused, match="this ledger is of run run"):
        Ledger("north", "run", BUDGET).answer(request(run="other"), ONE_OF_30, lambda _: b"")


@pytest.mark.parametrize("sampling", ["shuffled", "fixed_size"])
def test_shuffled_batches_are_not_accounted_as_poisson(sampling: str) -> None:
    with pytest.raises(Refused, match="can't be accounted as Poisson"):
        Mechanism("subsampled_gaussian", sigma=1.0, q=0.1, sampling=sampling)


def test_a_sampling_rate_without_poisson_sampling_is_refused() -> None:
    with pytest.raises(Refused):
        Mechanism("subsampled_gaussian", sigma=1.0, q=0.1)
    with pytest.raises(Refused):
        Mechanism("gaussian", sigma=1.0, q=0.1)


KINDS = st.sampled_from([gaussian(40.0), gaussian(15.0, 3), zcdp(0.001), gaussian(25.0, 2)])


def ask(ledger: Ledger, first: int, some: list[Mechanism]) -> list[bytes]:
    """Ask for rounds ``first``, ``first + 1``, ..; what is refused is left out."""
    answers = []
    for i, mechanism in enumerate(some, start=first):
        with contextlib.suppress(Refused):
            answers.append(ledger.answer(request(i), mechanism, lambda attempt, i=i: f"{i}/{attempt}".encode()))
    return answers


@settings(max_examples=25, deadline=None)
@given(st.lists(KINDS, max_size=12), st.integers(0, 12))
def test_a_restored_ledger_equals_a_continuous_one(mechanisms: list[Mechanism], stop: int) -> None:
    continuous = Ledger("north", "run", BUDGET)
    answers = ask(continuous, 0, mechanisms)
    with tempfile.TemporaryDirectory() as folder:
        ask(on_disk(Path(folder)), 0, mechanisms[:stop])
        restored = on_disk(Path(folder))
        ask(restored, stop, mechanisms[stop:])
        assert restored.events == continuous.events
        assert ask(restored, 0, mechanisms) == answers  # stored ones, whatever is left of the budget
    assert restored.summary() == continuous.summary()
    assert restored.epsilon() <= 1.0 + 1e-8


def test_sampled_steps_are_admitted_up_to_the_budget_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    monkeypatch.setattr(module, "compose", lambda *a: composed.append(1) or compose(*a))
    whole = mechanism_for(1.0, 1e-5, steps=100, q=0.05)
    for plan in (whole, None):
        account = Account(BUDGET)
        if plan is not None:
            account.expect(plan)
        composed.clear()
        steps = 0
        while account.admits(whole.times(1)):
            account.add(whole.times(1))
            steps += 1
        assert 100 <= steps <= 104
        assert compose([whole.times(steps)], 1e-5) <= 1.0 < compose([whole.times(steps + 1)], 1e-5)
        assert len(composed) <= (25 if plan else 60)


def test_a_file_ledger_goes_on_in_a_new_process(tmp_path: Path) -> None:
    first = on_disk(tmp_path)
    first.answer(request(0), ONE_OF_30, lambda _: b"zero")
    second = on_disk(tmp_path)
    assert second.answer(request(0), ONE_OF_30, lambda _: b"?") == b"zero"
    second.answer(request(1), ONE_OF_30, lambda _: b"one")
    # the first process sees what the second one spent
    assert first.answer(request(1), ONE_OF_30, lambda _: b"?") == b"one"
    assert first.events == second.events


def test_the_ledger_is_on_the_disk_and_flushed_before_the_answer_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, flushed, fsync = on_disk(tmp_path), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    ledger.answer(request(), ONE_OF_30, lambda _: b"x")
    assert flushed == [str(tmp_path / name) for name in ("run.ledger.partial", "", "run.ledger")]
    ledger.answer(request(1), ONE_OF_30, lambda _: b"x")
    assert flushed[3:] == [str(tmp_path / "run.ledger")]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_full_disk_answers_nothing_and_spends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    ledger = on_disk(tmp_path)
    for round_ in range(earlier):
        ledger.answer(request(round_), ONE_OF_30, lambda _: b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Refused, match="No space left on device"):
            ledger.answer(request(9), ONE_OF_30, lambda _: b"lost")

    assert ledger.answer(request(9), ONE_OF_30, lambda _: b"kept") == b"kept"
    assert len(on_disk(tmp_path).events) == earlier + 1


def test_another_budget_for_a_run_that_has_begun_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path).answer(request(), ONE_OF_30, lambda _: b"x")
    with pytest.raises(Refused, match="another budget"):
        FileLedger(tmp_path / "run.ledger", "north", "run", Budget(10.0, 1e-5))


@pytest.mark.parametrize("content", ["", "{}", "[1]", "x\n", '{"version": 1', '{"version": 1}', '{"version": 99}'])
def test_an_unreadable_ledger_refuses_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.ledger").write_text(content)
    with pytest.raises(Refused, match="can't be read"):
        on_disk(tmp_path)


def test_the_summary_shows_no_inputs_and_no_answers() -> None:
    ledger = Ledger("north", "run", BUDGET)
    ledger.answer(request(input_hash="secret-hash"), ONE_OF_30, lambda _: b"secret-answer")
    text = json.dumps(ledger.summary())
    assert "secret" not in text
    assert ledger.summary()["epsilon_replace_one"] > ledger.summary()["epsilon"] > 0


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_the_lifetime_cap_holds_over_runs(kind: str, tmp_path: Path) -> None:
    def lifetime() -> Lifetime:
        cap = Budget(1.5, 1e-5)
        return Lifetime(cap) if kind == "memory" else FileLifetime(tmp_path / "lifetime.ledger", cap)

    shared = lifetime()
    whole = mechanism_for(1.0, 1e-5, 30)
    for run in ("a", "b"):
        shared = shared if kind == "memory" else lifetime()
        ledger = Ledger("north", run, BUDGET, lifetime=shared)
        ledger.answer(request(run=run), whole, lambda _: b"x")
        ledger.answer(request(run=run), whole, lambda _: b"x")
    assert shared.epsilon == pytest.approx(compose([whole] * 2, 1e-5))
    with pytest.raises(Refused, match="lifetime privacy budget"):
        Ledger("north", "c", BUDGET, lifetime=shared).answer(request(run="c"), whole, lambda _: pytest.fail("touched"))


def test_a_crash_between_lifetime_and_answer_is_not_charged_twice() -> None:
    lifetime = Lifetime(Budget(1.1, 1e-5))
    ledger = Ledger("north", "run", BUDGET, lifetime=lifetime)
    whole = mechanism_for(1.0, 1e-5, 30)
    with pytest.raises(ZeroDivisionError):
        ledger.answer(request(), whole, lambda _: b"" * (1 // 0))
    assert ledger.answer(request(), whole, lambda _: b"x") == b"x"
    assert lifetime.epsilon == pytest.approx(1.0)


@pytest.mark.parametrize("lost", [True, False])
def test_an_answer_that_may_have_left_and_is_gone_is_charged_anew(tmp_path: Path, lost: bool) -> None:
    """The run's ledger is lost, or its process died before it was written: the lifetime's file can't tell."""
    whole = mechanism_for(1.0, 1e-5, 30)
    for run in range(2):
        lifetime = FileLifetime(tmp_path / "lifetime.ledger", Budget(1.6, 1e-5))
        ledger = FileLedger(tmp_path / "run.ledger", "north", "run", BUDGET, lifetime=lifetime)
        if lost:
            ledger.answer(request(), whole, lambda _, run=run: b"%d" % run)
            (tmp_path / "run.ledger").unlink()
        else:
            with pytest.raises(ZeroDivisionError):
                ledger.answer(request(), whole, lambda _: b"" * (1 // 0))
        assert lifetime.epsilon == pytest.approx(compose([whole] * (run + 1), 1e-5))
    lifetime = FileLifetime(tmp_path / "lifetime.ledger", Budget(1.6, 1e-5))
    with pytest.raises(Refused, match="lifetime privacy budget"):
        FileLedger(tmp_path / "run.ledger", "north", "run", BUDGET, lifetime=lifetime).answer(
            request(), whole, lambda _: pytest.fail("touched")
        )


def test_a_lost_ledger_of_a_run_that_is_going_on_gets_no_second_answer_for_nothing() -> None:
    """In one process too: what was answered is not taken for what could not be."""
    lifetime, whole = Lifetime(Budget(1.1, 1e-5)), mechanism_for(1.0, 1e-5, 30)
    Ledger("north", "run", BUDGET, lifetime=lifetime).answer(request(), whole, lambda _: b"first")
    with pytest.raises(Refused, match="lifetime privacy budget"):
        Ledger("north", "run", BUDGET, lifetime=lifetime).answer(request(), whole, lambda _: pytest.fail("touched"))


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (float("nan"), 1e-5), (1, 0), (1, 1)])
def test_impossible_budgets_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(Refused, match="dp"):
        Budget(epsilon, delta)
