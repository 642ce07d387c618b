"""What a hospital's processes count and release together under one key."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pettoolkit.arms import vault
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_statistics.scheme import scheme_of
from pettoolkit.errors import Refused
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import FileStore
from tests import small_cohort as small

EACH = 30


def hospital(folder: Path, keys: Path) -> Site:
    return Site("east", small.rows("east"), small.CONTRACT, keys=keys, key_counts=FileStore(folder))


def count_many(process: int, folder: Path, keys: Path, both: Any) -> None:
    spec = small.spec("encrypted_statistics", rounds=EACH)
    site = hospital(folder, keys)
    key = vault.key_for(site, spec, scheme_of(spec, contract_of(spec)))
    both.wait(60)
    for n in range(EACH):
        vault.count(site, spec, key, [b"%d of %d" % (n, process)])


def test_two_processes_lose_no_decryption(tmp_path: Path) -> None:
    spec = small.spec("encrypted_statistics", rounds=EACH)
    keys, context = small.carried(spec), multiprocessing.get_context("spawn")
    both = context.Barrier(2)
    processes = [context.Process(target=count_many, args=(i, tmp_path, keys, both)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)

    assert [process.exitcode for process in processes] == [0, 0]
    site = hospital(tmp_path, keys)
    key = vault.key_for(site, spec, scheme_of(spec, contract_of(spec)))
    assert vault.ledger_of(site, spec, key).decrypted == 2 * EACH


def test_what_one_process_released_another_does_not_draw_again(tmp_path: Path) -> None:
    spec = small.spec("encrypted_statistics")
    keys = small.carried(spec)
    one, other = hospital(tmp_path, keys), hospital(tmp_path, keys)
    key = vault.key_for(one, spec, scheme_of(spec, contract_of(spec)))

    noisy = vault.flooded(one, spec, key, np.zeros(500), lambda scheme: 2 * scheme.flooding_sd)

    assert noisy.sd == 2 * vault.ledger_of(one, spec, key).scheme.flooding_sd
    assert 0.8 < noisy.values.std() / noisy.sd < 1.2  # six standard deviations of this estimate
    with pytest.raises(Refused, match="was released already"):
        vault.flooded(other, spec, key, np.zeros(500), lambda scheme: scheme.flooding_sd)
