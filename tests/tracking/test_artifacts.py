import csv
import io

import numpy as np
import pytest
from made_up import WEIGHTS, result
from safetensors.numpy import load

from pettoolkit.tracking import artifacts


def test_a_cell_has_the_promised_files():
    files = artifacts.cell_files(result(), b"npz", WEIGHTS, "name: x\n")
    assert set(files) == {"config.yaml", "result.json", "what_left.csv", "weights.safetensors", "predictions.npz"}
    stored = load(files["weights.safetensors"])
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(stored[name], array)


def test_what_left_is_the_meter_read_out():
    rows = list(csv.DictReader(io.StringIO(artifacts.what_left(result().exposure).decode())))
    assert rows[0] == {
        "site": "north",
        "direction": "out",
        "kind": "update",
        "purpose": "training",
        "messages": "30",
        "bytes": "4000",
    }
    assert (rows[1]["direction"], rows[1]["kind"]) == ("out of band", "keys, out of band")


@pytest.mark.parametrize(
    ("name", "folder"), [("quickstart", "quickstart"), ("2024", "2024-"), ("a/b: c", "a-b-c-"), ("..", "experiment-")]
)
def test_an_experiments_folder_is_a_plain_name_and_never_only_digits(name, folder):
    made = artifacts.slug(name)
    assert made.startswith(folder)
    assert not made.isdigit()
    assert "/" not in made


def test_names_that_look_alike_get_different_folders():
    assert artifacts.slug("a b") != artifacts.slug("a/b")
