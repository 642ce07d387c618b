"""Key files of an experiment: made once, owner only, told about without telling the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pettoolkit import cli
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import BadInput
from pettoolkit.experiment import keyfiles
from tests import small_cohort as small
from tests.experiment.test_runner import CONTRACT

EXPERIMENT = """\
name: small
task: table-outcome
sites: {source: tables, path: DATA}
arms:
  - {arm: pooled}
  - {arm: encrypted_aggregation, rounds: 2}
  - {arm: encrypted_statistics}
seeds: [0, 1]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    data = tmp_path / "data"
    data.mkdir()
    (data / "contract.yaml").write_text(CONTRACT)
    for site in small.SITES:
        small.rows(site, 60).to_csv(data / f"{site}.csv", index=False)
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT.replace("DATA", str(data)))
    return str(path)


def test_one_file_per_purpose_sized_for_all_cells_and_readable_by_its_owner_only(
    experiment: str, tmp_path: Path
) -> None:
    infos = keyfiles.create(experiment, tmp_path / "keys")

    assert sorted(Path(i.path).name for i in infos) == [
        "small-aggregation-4096-60.key",
        "small-statistics-4096-88.key",
    ]
    assert {i.scheme.modulus_bits: i.scheme.tau for i in infos} == {
        60: 2 * 2 * 3,
        88: 2 * 2 * 6,
    }  # each run twice; a sum for the last loss
    for info in infos:
        assert Path(info.path).stat().st_mode & 0o777 == 0o600
        assert keyfiles.inspect(Path(info.path)) == info


def test_existing_files_are_never_overwritten(experiment: str, tmp_path: Path) -> None:
    first = keyfiles.create(experiment, tmp_path)
    content = Path(first[0].path).read_bytes()

    with pytest.raises(BadInput, match="keys rotate"):
        keyfiles.create(experiment, tmp_path)
    assert Path(first[0].path).read_bytes() == content


def test_an_experiment_that_encrypts_nothing_needs_no_key(experiment: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no arm of this experiment encrypts"):
        keyfiles.create(experiment, tmp_path, ["arms=[{arm: pooled}]"])


def test_what_is_told_of_a_key_holds_nothing_of_it(tmp_path: Path) -> None:
    (info,) = keyfiles.create("scoring", tmp_path)
    told = "\n".join(keyfiles.lines(info))
    secret = SecretKey.load(info.path).to_bytes()

    assert info.key_id in told
    assert "128-bit security" in told
    assert "nothing decrypted may be published" in told
    assert secret[200:232].hex() not in told


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "k", tmp_path / "k" / "scoring-4096-88.key"

    assert cli.main(["keys", "create", "scoring", "--out", str(folder)]) == 0
    made = capsys.readouterr().out
    assert cli.main(["keys", "inspect", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == made.splitlines()[0]
    assert cli.main(["keys", "rotate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[0] != made.splitlines()[0]
    assert len(list(folder.glob("*.retired"))) == 1
    assert cli.main(["keys", "create", "scoring", "--out", str(folder)]) == 2
    assert cli.main(["keys", "inspect", str(tmp_path / "none.key")]) == 2
    file.chmod(0o644)
    assert cli.main(["keys", "inspect", str(file)]) == 1
    assert "chmod 600" in capsys.readouterr().err
