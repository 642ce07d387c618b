"""Training on the encrypted rows of real hospitals is the same training in the clear, on the same rows."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from pettoolkit.arms.app import build_app, coordinate
from pettoolkit.arms.encrypted_records import inside
from pettoolkit.arms.encrypted_records.descent import shares, train_plain
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pettoolkit.federation.engine import open_grid
from pettoolkit.records import Models

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

EXPERIMENT = """\
name: rows
sites: {source: physionet2019, path: DATA, partition: unit}
arms: [{arm: encrypted_records}]
engine: inline
"""


def test_the_weights_are_those_of_training_in_the_clear(physionet2019: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text(EXPERIMENT.replace("DATA", str(physionet2019)))
    prepared = runner.prepare(load(path))
    ((spec, _),) = prepared.cells
    with ExitStack() as stack:
        sites = runner.hospitals(prepared, [spec], "inline", stack)
        outcome = coordinate(stack.enter_context(open_grid("inline", build_app, sites)), spec)
    share = shares({name: len(site.index(spec, "train")) for name, site in sites.items()}, spec.options["rows"])
    parts = [inside.design(sites[name], spec, n) for name, n in share.items()]
    x, y = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    first = sites[min(sites)]
    plan = plan_of(spec, first.narrowed(spec), len(x))
    plain = train_plain(plan, x, y, inside.initial(first, spec), spec.options["iterations"])

    arrays = outcome.models.by_site[Models.SHARED].unpack()
    difference = np.abs(np.concatenate([arrays["layer0.bias"], arrays["layer0.weight"][0]]) - plain)

    assert len(x) == 2048
    assert difference.max() <= 1e-3
    sd = outcome.encryption["encryption/flooding_sd"]
    assert sd / 5 < difference.std() < 2 * sd  # what differs is the flooding
    print(f"largest difference {difference.max():.2g}, flooding {sd:.2g}, {outcome.notes[1]}")
