"""A coordinator and three hospitals as real processes on loopback: SuperLink and SuperNodes, TLS, node keys."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pettoolkit.arms.app import coordinate
from pettoolkit.arms.keyring import key_requests
from pettoolkit.deployment import certificates, init, start, submit
from pettoolkit.deployment.folders import Coordinator, HospitalFolder
from pettoolkit.encryption import keys
from pettoolkit.errors import Refused
from pettoolkit.experiment.load import load
from pettoolkit.experiment.runner import prepare, run
from pettoolkit.privacy.ledger import FileLedger
from pettoolkit.records import Guarantee, Models, NotMeasured, RunSpec
from tests import small_cohort as small
from tests.deployment import parties
from tests.deployment.processes import Processes, free_ports, popen, running, until

pytestmark = pytest.mark.slow

CANARY_PATIENT = "canary-patient-77310"
CANARY_LACTATE = 17.123456789
EXPERIMENT = """
name: deployed
task: table-outcome
engine: flower
arms:
  - {arm: encrypted_aggregation, strategy: fedsgd, rounds: 2}
dp: {epsilon: 3, delta: 1.0e-3, noise: shared, honest_sites: 3}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with patients, one of them planted, and the keys that both encrypted runs need."""
    folder = tmp_path_factory.mktemp("parties")
    port, *runtime = free_ports(4)
    found = parties.make(folder, port=port, runtime_ports=tuple(runtime))
    parties.change(found / "coordinator" / "coordinator.yaml", ask_again=30.0)
    table = found / "hospital-1" / "table" / "hospital-1.csv"
    lines = table.read_text().splitlines()
    age, sex, _, pulse, y = lines[1].split(",")[1:]
    lines[1] = ",".join([CANARY_PATIENT, age, sex, str(CANARY_LACTATE), pulse, y])
    table.write_text("\n".join(lines) + "\n")
    parties.carry_keys(found, spec_of(found, "encrypted_aggregation", rounds=1))
    return found


@pytest.fixture(scope="module")
def processes(made: Path) -> Iterator[Processes]:
    with running(made) as found:
        yield found


@pytest.fixture
def experiment(made: Path, tmp_path: Path) -> Path:
    file = tmp_path / "deployed.yaml"
    settings = f"deployment: {made / 'coordinator'}\ntracking: {{dir: {tmp_path / 'mlruns'}}}\n"
    file.write_text(EXPERIMENT + settings)
    return file


def test_encrypted_with_differential_privacy_through_a_kill(made: Path, processes: Processes, experiment: Path) -> None:
    config = load(str(experiment), ())
    spec = prepare(config).cells[0][0]
    for wanted in key_requests(config.name, [spec]):
        keys.create(made / "hospital-1" / "keys" / wanted.file_name, wanted)
        for other in parties.NAMES[1:]:
            shutil.copy(made / "hospital-1" / "keys" / wanted.file_name, made / other / "keys" / wanted.file_name)
    struck = HospitalFolder(made / "hospital-2")
    ledger = struck.state / "ledgers" / f"{spec.run_id}.ledger"
    found = []
    runner = threading.Thread(target=lambda: found.append(run(config)), daemon=True)
    runner.start()

    # Its own process is frozen while the one of round 1 computes; so the answer is kept, and can't be sent. Nobody
    # starts it again but what `deploy start` left behind for that.
    until(lambda: len(kept(struck)) == 1 and works(struck), "hospital-2 is asked for its part of round 1")
    processes.freeze("hospital-2")
    until(lambda: len(kept(struck)) == 2, "hospital-2 keeps its answer")
    processes.strike("hospital-2")
    before, seen = kept(struck), leaked(made)
    spent = ledger.read_bytes()
    runner.join()

    assert processes.times_let_in("hospital-2") == 2

    cell = found[0].cells[0]
    assert cell.status == "done", cell.reason
    assert {name: kept(struck)[name] for name in before} == before
    assert ledger.read_bytes().startswith(spent)
    for name in parties.NAMES:
        path = made / name / "state" / "ledgers" / ledger.name
        assert path.read_bytes().count(b'"answer"') == 2
        budget = FileLedger.budget_of(path)
        assert budget is not None
        assert FileLedger(path, name, spec.run_id, budget).epsilon() <= 3.0
    assert isinstance(cell.result.privacy.guarantee, Guarantee)
    assert not cell.result.privacy.guarantee.simulated_noise
    assert isinstance(cell.result.privacy.measured, NotMeasured)
    assert 0 < cell.result.metrics["utility/auroc"] < 1
    assert cell.result.exposure.kinds_out() == ("ciphertext", "metrics", "model", "statistics")
    assert cell.run_id, "not in MLflow"
    assert seen == leaked(made) == leaked(made, experiment.parent / "mlruns") == []


def test_without_noise_the_model_is_that_of_hospitals_in_memory(made: Path, processes: Processes) -> None:
    spec = spec_of(made, "encrypted_aggregation", rounds=1)
    for name in ("coordinator", "hospital-3"):  # on a busy machine they end by themselves, and Flower does not notice
        processes.strike_worker(name)

    found = submit.run(Coordinator(made / "coordinator"), spec).outcome

    sites = parties.simulated(made, spec)
    for name, site in sites.items():
        site.rows = parties.rows_in(made, name)
    with small.grid(sites) as grid:
        expected = coordinate(grid, spec).models.by_site[Models.SHARED].unpack()
    for name, value in found.models.by_site[Models.SHARED].unpack().items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-4)
    assert leaked(made) == []


def test_raw_records_are_refused_by_the_hospital(made: Path, processes: Processes) -> None:
    with pytest.raises(Refused, match="hospital-1.*arm pooled is not in its policy"):
        submit.run(Coordinator(made / "coordinator"), spec_of(made, "pooled"))


def test_a_node_that_says_anothers_name_is_refused_by_the_name_of_its_key(made: Path, processes: Processes) -> None:
    settings = made / "hospital-3" / "hospital.yaml"
    own = settings.read_text()
    parties.change(settings, name="hospital-2")
    try:
        with pytest.raises(Refused, match="hospital-3: the reply says that it comes from hospital hospital-2"):
            submit.run(Coordinator(made / "coordinator"), spec_of(made, "federated"))
    finally:
        settings.write_text(own)


def test_foreign_code_is_not_run(made: Path, processes: Processes) -> None:
    coordinator, mark = Coordinator(made / "coordinator"), made / "foreign-code-ran"
    settings = coordinator.app / "pyproject.toml"
    own = settings.read_text()
    (coordinator.app / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        "from pettoolkit.deployment import hospital\napp = hospital.app\n"
    )
    settings.write_text(own.replace('clientapp = "pettoolkit.deployment.hospital:app"', 'clientapp = "evil:app"'))

    try:
        with pytest.raises(Refused, match="hospital-1, hospital-2, hospital-3: The FAB could not be ver"):
            submit.run(coordinator, spec_of(made, "pooled"))
    finally:
        settings.write_text(own)

    assert not mark.exists()


def test_who_is_let_in_already_stays(made: Path, processes: Processes) -> None:
    assert start.register(Coordinator(made / "coordinator")) == dict.fromkeys(parties.NAMES, "known")


def test_an_unregistered_node_is_refused(made: Path, processes: Processes, tmp_path: Path) -> None:
    stranger = copied(made, tmp_path)
    init.rekey(stranger)

    said = refused(stranger, tmp_path / "log")

    assert "SuperNode ID" not in said


def test_a_certificate_of_another_authority_is_refused(made: Path, processes: Processes, tmp_path: Path) -> None:
    deceived = copied(made, tmp_path)
    other = certificates.Authority.new("another")
    deceived.authority.unlink()
    certificates.write(deceived.authority, certificates.pem(other.certificate), certificates.PUBLIC)

    said = refused(deceived, tmp_path / "log")

    assert "SuperNode ID" not in said
    assert "certificate verify failed" in said.lower()


def spec_of(made: Path, arm: str, **options: int) -> RunSpec:
    """A run that does not wait for ten minutes where a hospital is lost; a message takes one at most."""
    return replace(parties.spec(made, arm, **options), faults={"round_timeout": 240.0})


def copied(made: Path, tmp_path: Path) -> HospitalFolder:
    """A hospital's folder again, with a port of its own."""
    folder = tmp_path / "hospital"
    shutil.copytree(made / "hospital-3", folder)
    parties.change(folder / "hospital.yaml", runtime_port=free_ports(1)[0])
    return HospitalFolder(folder)


def refused(hospital: HospitalFolder, log: Path) -> str:
    """What a hospital's process says that ends because the coordinator does not let it in."""
    process = popen(hospital, [*start.command(hospital), "--max-retries", "1"], log)
    try:
        until(lambda: process.poll() is not None, "the node gives up")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert process.returncode != 0
    return log.read_text()


def kept(hospital: HospitalFolder) -> dict[str, bytes]:
    """Answers that a hospital keeps."""
    return {path.name: path.read_bytes() for path in (hospital.state / "answers").glob("*.bin")}


def works(hospital: HospitalFolder) -> bool:
    """Whether it works on a question that it has not answered yet."""
    folder = hospital.state / "answers"
    return any(not lock.with_suffix(".bin").exists() for lock in folder.glob("*.lock"))


def secrets_of(made: Path) -> dict[str, bytes]:
    """What must never be seen outside a hospital, by name."""
    found = {
        "patient": CANARY_PATIENT.encode(),
        "value as text": b"17.1234567",
        "value as float64": np.float64(CANARY_LACTATE).tobytes(),
        "value as float32": np.float32(CANARY_LACTATE).tobytes(),
    }
    for name in parties.NAMES:
        hospital = HospitalFolder(made / name)
        found[f"{name}: salt"] = hospital.salt.read_bytes()
        found[f"{name}: node key"] = hospital.node_key.read_bytes()[200:260]
    for file in (made / "hospital-1" / "keys").glob("*"):
        if file.is_file():
            found[f"secret key {file.name}"] = keys.SecretKey.load(file).to_bytes()[-96:-32]
    return found


def leaked(made: Path, *others: Path) -> list[str]:
    """Secrets in the coordinator's folder and others: its database, outcomes, logs, everything."""
    places = [made / "coordinator", *others]
    contents = {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
    assert any(b"hospital-1" in data for data in contents.values()), "the search sees nothing at all"
    return [
        f"{what} in {path}"
        for what, secret in secrets_of(made).items()
        for path, data in contents.items()
        if secret in data
    ]


def test_the_search_would_find_a_leak(made: Path) -> None:
    own = {path: path.read_bytes() for path in (made / "hospital-1").rglob("*") if path.is_file()}

    found = {what for what, secret in secrets_of(made).items() if any(secret in data for data in own.values())}

    assert {"patient", "value as text", "hospital-1: salt", "hospital-1: node key"} <= found
    assert any(what.startswith("secret key") for what in found)
    assert yaml.safe_load((made / "hospital-1" / "policy.yaml").read_text())["arms"] == list(parties.ARMS)
