from pathlib import Path

import numpy as np
import pytest
from federation_app import make_app

from pettoolkit.errors import SiteFailed
from pettoolkit.federation import wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.journal import Journal
from pettoolkit.federation.metered import MeteredGrid


def question(number):
    return wire.request(action="echo", purpose="training", kind="model", round=number, arrays={"x": np.arange(number)})


def answer(number):
    return wire.reply(site="alder", kind="update", purpose="training", round=number, arrays={"x": np.arange(number)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "unfinished" / "run.journal")
    for number in (1, 2, 3):
        journal.keep("alder", question(number), answer(number))
    return tmp_path / "unfinished" / "run.journal"


def test_an_answer_is_given_to_its_own_question_and_hospital_alone(path):
    journal = Journal(path)
    assert wire.arrays_of(journal.answer("alder", question(3)))["x"].tolist() == [0, 1, 2]
    assert journal.answer("alder", question(4)) is None
    assert journal.answer("birch", question(3)) is None
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_what_a_kill_cut_off_is_dropped_and_can_be_written_again(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    journal = Journal(path)
    assert len(journal) == 2
    journal.keep("alder", question(3), answer(3))
    assert len(Journal(path)) == 3


def test_nothing_behind_a_damaged_entry_is_believed(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert len(Journal(path)) == 1


@pytest.mark.parametrize("size", [0, 31, 2**40, 2**64 - 1])
def test_a_size_that_was_tampered_with_is_not_believed(path, size):
    data = path.read_bytes()
    path.write_bytes(size.to_bytes(8, "little") + data[8:])
    assert len(Journal(path)) == 0
    assert path.stat().st_size == 0


def test_an_answer_that_was_forged_stands_the_checks_of_any_other(hosted, tmp_path):
    journal, asked = Journal(tmp_path / "run.journal"), question(2)
    forged = wire.reply(site="alder", kind="model", purpose="training", round=2, arrays={"x": np.array([0.0, np.nan])})
    journal.keep("alder", asked, forged)
    grid = MeteredGrid(InProcessGrid(make_app, hosted))
    grid.resume(journal)
    with pytest.raises(SiteFailed, match="hospital alder: array 'x'"):
        grid.ask(dict.fromkeys(grid.sites, asked))


def test_a_grid_with_a_journal_asks_each_question_once_and_meters_the_same(hosted, tmp_path):
    exposures = []
    for _ in range(2):
        inner = InProcessGrid(make_app, hosted)
        grid = MeteredGrid(inner)
        grid.resume(Journal(tmp_path / "run.journal"))
        for number in (1, 2):
            grid.ask({site: question(number) for site in grid.sites})
        exposures.append(grid.exposure())
        sent = inner._sent
    assert exposures[0] == exposures[1]
    assert sent == len(hosted)  # to learn their names, and nothing else


def test_only_its_owner_can_read_what_the_coordinator_saw(tmp_path):
    Journal(tmp_path / "unfinished" / "run.journal")
    modes = [p.stat().st_mode & 0o777 for p in (tmp_path / "unfinished", tmp_path / "unfinished" / "run.journal")]
    assert modes == [0o700, 0o600]
