"""What `deploy init` writes: certificates that hold, keys for their owners alone, policies that grant nothing."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from pettoolkit.deployment import certificates, init
from pettoolkit.deployment.folders import Coordinator, HospitalFolder, party_of
from pettoolkit.errors import BadInput
from pettoolkit.hospital.policy import Policy

SECRET = {"ca.key", "server.key", "runtime.key", "node.key", "split.salt"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "deployment"
    init.create(folder, 3, host="coordinator.example")
    return folder


def test_every_secret_is_for_its_owner_alone(made: Path) -> None:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_file()}

    secret = {path for path in modes if path.name in SECRET}
    assert {path.name for path in secret} == SECRET
    assert {modes[path] for path in secret} == {0o600}
    assert all(stat.S_IMODE(made.joinpath(p).stat().st_mode) == 0o700 for p in ("", "coordinator", "hospital-1"))


def test_an_existing_folder_is_not_touched(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}

    with pytest.raises(BadInput, match="exists already"):
        init.create(made, 3)

    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_the_authority_signed_the_coordinators_certificate_for_its_name(made: Path) -> None:
    tls = made / "coordinator" / "tls"
    authority = x509.load_pem_x509_certificate((tls / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((tls / "server.crt").read_bytes())

    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "coordinator.example" in names.get_values_for_type(x509.DNSName)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls / "server.crt", tls / "server.key")


def test_no_party_holds_another_ones_secret(made: Path) -> None:
    contents = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}

    for path in [path for path in contents if path.name in SECRET]:
        owner = path.relative_to(made).parts[0]
        elsewhere = [
            p for p, data in contents.items() if contents[path] in data and p.relative_to(made).parts[0] != owner
        ]
        assert elsewhere == []


def test_node_keys_are_of_the_curve_that_flower_takes(made: Path) -> None:
    private = load_ssh_private_key(HospitalFolder(made / "hospital-2").node_key.read_bytes(), None)
    public = load_ssh_public_key(Coordinator(made / "coordinator").node("hospital-2").read_bytes())

    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert private.public_key() == public


def test_each_party_knows_the_same(made: Path) -> None:
    parties = [party_of(made / name) for name in ("coordinator", "hospital-1", "hospital-2", "hospital-3")]

    assert len({party.federation for party in parties}) == 1
    assert len({party.contract.digest() for party in parties}) == 1
    assert len({HospitalFolder(made / f"hospital-{n}").salt.read_bytes() for n in (1, 2, 3)}) == 3
    assert all((party.folder / "README.md").read_text().startswith("# ") for party in parties)


def test_rekeying_makes_secrets_that_nobody_has_seen(tmp_path: Path) -> None:
    init.create(tmp_path / "new", 1)
    hospital = HospitalFolder(tmp_path / "new" / "hospital-1")
    node, salt = hospital.node_key.read_bytes(), hospital.salt.read_bytes()

    made = init.rekey(hospital)

    assert hospital.node_key.read_bytes() != node
    assert (hospital.salt.read_bytes() != salt) is made.salt is True
    assert made.fingerprint == certificates.fingerprint(made.public)
    assert stat.S_IMODE(hospital.node_key.stat().st_mode) == 0o600


def test_a_hospital_that_has_answered_keeps_its_split(tmp_path: Path) -> None:
    init.create(tmp_path / "new", 1)
    hospital = HospitalFolder(tmp_path / "new" / "hospital-1")
    (hospital.state / "answers").mkdir()
    salt = hospital.salt.read_bytes()

    assert not init.rekey(hospital).salt
    assert hospital.salt.read_bytes() == salt


def test_a_renewed_certificate_is_trusted_as_the_first(tmp_path: Path) -> None:
    init.create(tmp_path / "new", 1)

    renewed = init.renew(tmp_path / "new")

    authority = x509.load_pem_x509_certificate((tmp_path / "new" / "hospital-1" / "tls" / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((renewed / "server.crt").read_bytes()).verify_directly_issued_by(authority)


def test_a_folder_of_no_party_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"hospital\.yaml"):
        party_of(tmp_path)


def test_the_policy_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    text = page.split("```text\n# policy.yaml", 1)[1].split("```", 1)[0].split("\n", 1)[1]

    policy = Policy.model_validate(yaml.safe_load(text))

    assert policy.lifetime_epsilon == 5
    assert "federated" in policy.arms
