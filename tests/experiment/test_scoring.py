"""Scoring new patients: encrypted scores are those of the clear, and what can't be scored is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from pettoolkit import cli
from pettoolkit.encryption import keys, scoring
from pettoolkit.encryption.keys import KeyRequest, KeyUse
from pettoolkit.errors import BadInput
from pettoolkit.experiment.scoring import score
from tests import small_cohort as small
from tests.experiment.test_runner import CONTRACT


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    path = tmp_path / "new.csv"
    small.rows("east", 300).drop(columns="y").to_csv(path, index=False)
    return path


def weights(folder: Path, features: int = 6, hidden: int = 0) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"layer0.weight": rng.normal(size=(hidden or 1, features)), "layer0.bias": rng.normal(size=hidden or 1)}
    if hidden:
        arrays |= {"layer1.weight": rng.normal(size=(1, hidden)), "layer1.bias": rng.normal(size=1)}
    path = folder / "weights.safetensors"
    save_file({name: array.astype(np.float32) for name, array in arrays.items()}, path)
    return path


def test_encrypted_scores_are_those_of_the_clear(table: Path, tmp_path: Path) -> None:
    model = weights(tmp_path)

    clear, encrypted = score(model, table), score(model, table, encrypted=True)

    assert clear.patients == encrypted.patients == tuple(f"east-{i}" for i in range(300))
    np.testing.assert_allclose(encrypted.scores, clear.scores, atol=1e-6)
    assert not np.array_equal(encrypted.scores, clear.scores)
    assert clear.traffic is None
    assert encrypted.traffic is not None
    assert encrypted.traffic.ciphertexts == 6


def test_scores_are_those_of_the_platforms_own_models(table: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from pettoolkit.cohort.features import encode
    from pettoolkit.cohort.patients import new_patients
    from pettoolkit.models.dense import DenseNet

    for hidden in (0, 5):
        model = weights(tmp_path, hidden=hidden)
        net = DenseNet(6, (hidden,) if hidden else ())
        x = torch.from_numpy(encode(*new_patients(table)))
        np.testing.assert_allclose(score(model, table).scores, net.scores(load_file(model), x).numpy(), atol=1e-6)


def test_what_can_not_be_scored_is_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="takes logistic regression"):
        score(weights(tmp_path, hidden=5), table, encrypted=True)
    with pytest.raises(BadInput, match="7 features, which is no feature set"):
        score(weights(tmp_path, features=7), table)
    with pytest.raises(BadInput, match="--key belongs to --encrypted"):
        score(weights(tmp_path), table, key=tmp_path / "a.key")
    with pytest.raises(BadInput, match="can't be read as weights"):
        score(table, table)
    save_file({"east/layer0.weight": np.zeros((1, 6), np.float32)}, tmp_path / "own.safetensors")
    with pytest.raises(BadInput, match="one model per hospital"):
        score(tmp_path / "own.safetensors", table)
    rows = pd.read_csv(table)
    rows.rename(columns={"lactate": "lactat"}).to_csv(table, index=False)
    with pytest.raises(BadInput, match=r"new.csv:1: lactate: the column is missing \(did you mean lactat\?\)"):
        score(weights(tmp_path), table)
    rows.assign(age=500).to_csv(table, index=False)
    with pytest.raises(BadInput, match="age"):
        score(weights(tmp_path), table)


def test_a_key_for_something_else_scores_nobody(table: Path, tmp_path: Path) -> None:
    scheme = scoring.scheme()
    keys.create(tmp_path / "a.key", KeyRequest(scheme, KeyUse(keys.STATISTICS, "small")))  # on the very same ring
    keys.create(tmp_path / "s.key", KeyRequest(scheme, KeyUse(keys.SCORING)))

    with pytest.raises(BadInput, match="for statistics of experiment small, not for scoring"):
        score(weights(tmp_path), table, encrypted=True, key=tmp_path / "a.key")
    assert len(score(weights(tmp_path), table, encrypted=True, key=tmp_path / "s.key").scores) == 300


def test_the_command_writes_scores_and_says_who_saw_what(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = weights(tmp_path), tmp_path / "scores.csv"

    assert cli.main(["score", str(model), str(table), "--encrypted", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "without patients or key" in " ".join(said.err.split())
    assert list(pd.read_csv(out).columns) == ["patient", "score"]
    assert cli.main(["score", str(model), str(table)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "patient,score"
    assert len(printed.splitlines()) == 301


def forest(folder: Path, features: int = 6) -> Path:
    from pettoolkit.models.boosting import Boosting, fit_forest

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, features)).astype(np.float32)
    y = (x[:, -1] + 0.3 * rng.normal(size=300) > 0).astype(np.float32)
    path = folder / "weights.safetensors"
    save_file(fit_forest(x, y, Boosting(trees=5)).arrays(), path)
    return path


def test_gradient_boosting_is_scored_in_the_clear_with_the_runs_result_beside_it(table: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from pettoolkit.cohort.features import encode
    from pettoolkit.cohort.patients import new_patients
    from pettoolkit.models.boosting import Forest

    model = forest(tmp_path)
    (tmp_path / "result.json").write_text('{"spec": {"features": "compact"}}')
    rows, contract = new_patients(table, None)
    expected = Forest.of(load_file(model), 6).scores(encode(rows, contract.select("compact")))
    np.testing.assert_allclose(score(model, table).scores, expected)


def test_gradient_boosting_says_what_it_needs_and_what_it_can_not_do(table: Path, tmp_path: Path) -> None:
    model = forest(tmp_path)
    with pytest.raises(BadInput, match=r"does not tell its feature set; leave result\.json of the same run beside it"):
        score(model, table)
    with pytest.raises(BadInput, match="gradient boosting compares values, which these ciphertexts can't"):
        score(model, table, encrypted=True)
    (tmp_path / "result.json").write_text('{"spec": {"features": "compact"}}')
    with pytest.raises(BadInput, match="array feature: must be below 6"):
        score(forest(tmp_path, 9), table)
