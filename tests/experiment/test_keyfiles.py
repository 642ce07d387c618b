"""Key files of an experiment: made once, owner only, told about without telling the secret."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pettoolkit import cli
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import BadInput
from pettoolkit.experiment import keyfiles, runner
from pettoolkit.experiment.load import load
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
engine: inline
tracking: {dir: MLRUNS}
"""


@pytest.fixture
def experiment(tmp_path: Path, empty_database: Path) -> str:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns")
    data = tmp_path / "data"
    data.mkdir()
    (data / "contract.yaml").write_text(CONTRACT)
    for site in small.SITES:
        small.rows(site, 60).to_csv(data / f"{site}.csv", index=False)
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT.replace("DATA", str(data)).replace("MLRUNS", str(tmp_path / "mlruns")))
    return str(path)


def test_one_file_per_purpose_sized_for_all_cells_and_readable_by_its_owner_only(
    experiment: str, tmp_path: Path
) -> None:
    infos = keyfiles.create(experiment, tmp_path / "keys")

    assert sorted(Path(i.path).name for i in infos) == [
        "small-aggregation-4096-60.key",
        "small-statistics-4096-88.key",
    ]
    # two seeds, each run twice; encrypted_aggregation has one sum more, for its last validation loss
    assert {i.use.purpose: i.scheme.tau for i in infos} == {"aggregation": 2 * 2 * 3, "statistics": 2 * 2 * 6}
    assert {i.use.experiment for i in infos} == {"small"}
    assert {len(i.use.runs) for i in infos} == {2}
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


def test_keys_that_were_carried_to_the_hospitals_run_the_experiment(experiment: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keyfiles.create(experiment, folder)

    found = runner.run(load(experiment), keys=folder)

    assert {cell.status for cell in found.cells} == {"done"}
    assert any(cell.spec.arm == "encrypted_aggregation" for cell in found.cells)
    assert len(list((folder / "decrypted").iterdir())) == len(small.SITES)  # each hospital's count, beside the keys


def test_decryptions_are_counted_over_commands_until_the_noise_is_not_sized_for_more(
    experiment: str, tmp_path: Path
) -> None:
    folder, sets = tmp_path / "keys", ["seeds=[0]", "arms=[{arm: encrypted_statistics, rounds: 2}]"]
    keyfiles.create(experiment, folder, sets)

    def statuses() -> list[tuple[str, str]]:
        cells = runner.run(load(experiment, sets), keys=folder, force=True).cells
        return [(cell.status, cell.reason) for cell in cells]

    assert [status for status, _ in (*statuses(), *statuses())] == ["done", "done"]
    ((status, reason),) = statuses()
    assert status == "failed"
    assert "rotate the key" in reason
    keyfiles.rotate(*folder.glob("*.key"))
    assert statuses() == [("done", "")]


def test_keys_of_another_experiment_purpose_or_job_are_named_before_anything_runs(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, some, none = tmp_path / "other", tmp_path / "some", tmp_path / "none"
    keyfiles.create(experiment, other, ["name=other", "seeds=[7]"])
    keyfiles.create(experiment, some, ["arms=[{arm: encrypted_statistics}]"])
    none.mkdir()

    for folder, said in (
        (other, "other-aggregation-4096-60.key is for aggregation of experiment other, which does not have this run"),
        (some, "no encryption key for aggregation on ring 4096"),
        (none, "carry the key file there before the run"),
        (tmp_path / "nowhere", "is no folder"),
    ):
        assert cli.main(["run", experiment, "--keys", str(folder)]) == cli.BAD_INPUT
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("mlruns/artifacts/*"))


def test_one_hospital_with_the_wrong_key_is_named(experiment: str, tmp_path: Path) -> None:
    folder, sets = tmp_path / "keys", ["arms=[{arm: encrypted_aggregation, rounds: 1}]", "seeds=[0]"]
    keyfiles.create(experiment, folder, sets)
    keyfiles.create(experiment, folder / "west", sets)  # made once more instead of carried

    (cell,) = runner.run(load(experiment, sets), keys=folder).cells

    assert cell.status == "failed"
    assert "all hospitals need the same key file" in cell.reason


def test_simulated_hospitals_load_files_of_their_own_which_are_gone_afterwards(experiment: str) -> None:
    prepared = runner.prepare(load(experiment))
    todo = [spec for spec, _ in prepared.cells]
    with ExitStack() as stack:
        sites = runner.hospitals(prepared, todo, "ray", stack)
        folders = {name: site.keys for name, site in sites.items()}
        files = {name: sorted(folder.glob("*.key")) for name, folder in folders.items() if folder is not None}

        assert len(set(folders.values())) == len(sites) == len(files)
        assert {len(found) for found in files.values()} == {2}
        assert {file.stat().st_mode & 0o777 for found in files.values() for file in found} == {0o600}
        assert len({file.read_bytes() for found in files.values() for file in found}) == 2  # one key each, shared
        for name, site in sites.items():
            assert site.folder is not None
            assert files[name][0].is_relative_to(site.folder)
    assert not any(file.exists() for found in files.values() for file in found)


def test_the_process_that_coordinates_makes_and_loads_no_key_and_hands_none_on(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = runner.prepare(load(experiment))
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            for name in ("create", "from_bytes", "load"):
                patch.setattr(SecretKey, name, lambda *_: pytest.fail("the coordinator's process touched a key"))
            sites = runner.hospitals(prepared, [spec for spec, _ in prepared.cells], "ray", stack)
            handed_on = pickle.dumps(sites)  # what Ray's object store gets
        for site in sites.values():
            assert site.keys is not None
            for file in site.keys.glob("*.key"):
                for piece in secrets_of(file):
                    assert piece not in handed_on


def secrets_of(file: Path) -> list[bytes]:
    """Pieces by which a key is recognised in memory: of its file, and of SEAL's object."""
    key = SecretKey.load(file)
    data = key.native().data()
    native = b"".join(int(data[i]).to_bytes(8, "little") for i in range(8))
    return [key.to_bytes()[-400:-360], native]


HELD = """
import sys
from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pathlib import Path
found = runner.run(load(sys.argv[1]), engine=sys.argv[2], keys=Path(sys.argv[3]), force=True)
print([cell.status for cell in found.cells], flush=True)
sys.stdin.read()
"""


def memory_of(pid: int) -> Iterator[bytes]:
    """Everything that a process can write to: what it holds, or held and did not overwrite."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, mode, *_ = line.split()
            if "w" not in mode:
                continue
            low, high = (int(end, 16) for end in where.split("-"))
            memory.seek(low)
            try:
                yield memory.read(high - low)
            except OSError:  # of a device
                continue


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("engine", "holds"), [("ray", False), ("inline", True)])
def test_nothing_of_a_key_is_in_the_memory_of_a_process_that_coordinated(
    experiment: str, tmp_path: Path, engine: str, holds: bool
) -> None:
    """Under Ray the hospitals are other processes; in one process (the search would find it) they are not."""
    folder = tmp_path / "keys"
    keyfiles.create(experiment, folder)
    command = [sys.executable, "-c", HELD, experiment, engine, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        pieces = [piece for file in folder.glob("*.key") for piece in secrets_of(file)]
        found = any(piece in block for block in memory_of(process.pid) for piece in pieces)
        process.kill()
    assert "done" in said
    assert "failed" not in said
    assert found == holds


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
