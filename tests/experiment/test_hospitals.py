"""Where the simulated hospitals keep what they must not forget."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pettoolkit.experiment.runner import Prepared
from pettoolkit.hospital.accounts import ledger_of
from pettoolkit.privacy.ledger import Budget, FileLedger, Ledger


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return runner.prepare(load("builtin:quickstart_dp", ["sites.stays=60"]))


@pytest.mark.parametrize(("engine", "kind"), [("inline", Ledger), ("ray", FileLedger)])
def test_ledgers_are_files_where_a_worker_can_be_killed(prepared: Prepared, engine: str, kind: type[Ledger]) -> None:
    with ExitStack() as stack:
        sites = runner.hospitals(prepared, [], engine, stack)
        ledgers = [ledger_of(site, "run", Budget(1.0, 1e-5)) for site in sites.values()]

        assert {type(ledger) for ledger in ledgers} == {kind}
        folders = {site.folder for site in sites.values()}
        assert folders == {None} if kind is Ledger else len(folders) == len(sites)
