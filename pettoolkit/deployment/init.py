"""Makes the folders of a deployment: one for each party, one for the authority that signs, each with a README."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml

import pettoolkit
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.deployment import certificates
from pettoolkit.deployment.certificates import PRIVATE, PUBLIC, Authority, write
from pettoolkit.deployment.folders import Federation, HospitalFolder
from pettoolkit.errors import BadInput
from pettoolkit.federation.persistent import AGAIN

LOOPBACK = "127.0.0.1"
PORT, RUNTIME_PORT = 9092, 9094
"""Of the coordinator for the hospitals; of a hospital's own processes among themselves (the next ones: next ports)."""

SALT_BYTES = 32
_TEXTS = Path(__file__).parent / "texts"


def create(
    directory: Path, hospitals: int, *, host: str = LOOPBACK, port: int = PORT, contract: Path | None = None
) -> Federation:
    """Write the folders of a new deployment.

    Parameters
    ----------
    directory
        A new folder.
    hospitals
        How many; they are called ``hospital-1`` and so on.
    host, port
        Under which the hospitals reach the coordinator; the certificate is for this name.
    contract
        Of the hospitals' tables; the package's own (ICU stays of hours) if not given.

    Raises
    ------
    BadInput
        If the folder exists: certificates and keys are never written over.
    """
    if hospitals < 1:
        raise BadInput(f"--hospitals: must be at least 1 (got {hospitals})")
    if directory.exists():
        raise BadInput(f"{directory}: exists already; name a new folder (keys are never written over)")
    described = parse(Contract, contract) if contract else builtin_contract()
    names = tuple(f"hospital-{number}" for number in range(1, hospitals + 1))
    federation = Federation(id=secrets.token_hex(8), coordinator=host, port=port, hospitals=names)
    directory.mkdir(parents=True, mode=0o700)
    authority = Authority.new(f"pettoolkit {federation.id}")
    authority.save(directory / "authority" / "ca.crt", directory / "authority" / "ca.key")
    write(directory / "authority" / "README.md", _text("authority.md", federation), PUBLIC)
    _coordinator(directory / "coordinator", federation, described, authority)
    for number, name in enumerate(names):
        _hospital(directory / name, name, RUNTIME_PORT + number, federation, described, authority)
        certificates.node_key(
            directory / name / "secrets" / "node.key", directory / "coordinator" / "nodes" / f"{name}.pub"
        )
    return federation


def app_files() -> dict[str, bytes]:
    """The Flower app of this version of the package: the same at every party that has this version."""
    version = pettoolkit.__version__
    return {
        "pyproject.toml": Template(_template("app.toml")).substitute(version=version).encode(),
        "README.md": _template("app.md").encode(),
    }


def renew(directory: Path) -> Path:
    """Make the coordinator a new certificate and key, by the authority of the deployment.

    Returns
    -------
    Path
        Where the two files are; they are copied over the old ones by hand.

    Raises
    ------
    BadInput
        If this is not the folder of a deployment, with its authority.
    """
    authority = directory / "authority"
    if not (authority / "ca.key").is_file():
        raise BadInput(f"{authority}: there is no authority here (the folder that `pettoolkit deploy init` made)")
    federation = parse(Federation, directory / "coordinator" / "federation.yaml")
    target = directory / f"renewed-{secrets.token_hex(4)}"
    loaded = Authority.load(authority / "ca.crt", authority / "ca.key")
    loaded.issue(federation.coordinator, _hosts(federation), target / "server.crt", target / "server.key")
    return target


@dataclass(frozen=True)
class Rekeyed:
    """Where a hospital's new public key is, its fingerprint, and whether it got a new salt, too."""

    public: Path
    fingerprint: str
    salt: bool


def rekey(hospital: HospitalFolder) -> Rekeyed:
    """Make a hospital a new node key; the old one is kept as ``node.key.retired`` until the coordinator has the new.

    The salt is replaced only before the first answer: another salt is another split, in which patients who were tested
    are trained on.
    """
    node, public = hospital.node_key, hospital.folder / f"{hospital.keys.name}.pub"
    if node.exists():
        node.replace(node.with_name("node.key.retired"))
    public.unlink(missing_ok=True)
    certificates.node_key(node, public)
    fresh = not (hospital.state / "answers").exists()
    if fresh:
        hospital.salt.unlink(missing_ok=True)
        write(hospital.salt, secrets.token_bytes(SALT_BYTES), PRIVATE)
    return Rekeyed(public, certificates.fingerprint(public), fresh)


def _hosts(federation: Federation) -> list[str]:
    return list(dict.fromkeys([federation.coordinator, "localhost", LOOPBACK]))


def _party(folder: Path, federation: Federation, contract: Contract, authority: Authority) -> None:
    """What every party has: who takes part, the contract, whom to trust."""
    folder.mkdir(mode=0o700)
    for name in ("state", "logs"):
        (folder / name).mkdir(mode=0o700)
    write(folder / "federation.yaml", _yaml(federation.model_dump(mode="json")), PUBLIC)
    write(folder / "contract.yaml", _yaml(contract.model_dump(mode="json", exclude_defaults=True)), PUBLIC)
    write(folder / "tls" / "ca.crt", certificates.pem(authority.certificate), PUBLIC)


def _coordinator(folder: Path, federation: Federation, contract: Contract, authority: Authority) -> None:
    _party(folder, federation, contract, authority)
    (folder / "state" / "runs").mkdir(mode=0o700)
    listen = LOOPBACK if federation.coordinator in (LOOPBACK, "localhost") else "0.0.0.0"
    write(folder / "coordinator.yaml", _yaml({"listen": listen, "ask_again": AGAIN}), PUBLIC)
    authority.issue(
        federation.coordinator, _hosts(federation), folder / "tls" / "server.crt", folder / "tls" / "server.key"
    )
    for name, text in app_files().items():
        write(folder / "app" / name, text, PUBLIC)
    write(folder / "README.md", _text("coordinator.md", federation), PUBLIC)


def _hospital(
    folder: Path, name: str, runtime_port: int, federation: Federation, contract: Contract, authority: Authority
) -> None:
    _party(folder, federation, contract, authority)
    own = {"name": name, "table": f"table/{name}.csv", "runtime_port": runtime_port}
    write(folder / "hospital.yaml", _yaml(own), PUBLIC)
    write(folder / "policy.yaml", _text("policy.yaml", federation, name), PUBLIC)
    write(folder / "secrets" / "split.salt", secrets.token_bytes(SALT_BYTES), PRIVATE)
    # Flower's processes within a hospital talk over loopback, under a certificate that this hospital signs itself.
    inner = Authority.new(f"{name} {federation.id}")
    write(folder / "tls" / "runtime-ca.crt", certificates.pem(inner.certificate), PUBLIC)
    inner.issue(name, ["localhost", LOOPBACK], folder / "tls" / "runtime.crt", folder / "secrets" / "runtime.key")
    for sub in ("table", "keys"):
        (folder / sub).mkdir(mode=0o700)
    write(folder / "README.md", _text("hospital.md", federation, name), PUBLIC)


def _text(template: str, federation: Federation, name: str = "") -> bytes:
    return (
        Template(_template(template))
        .substitute(
            name=name,
            id=federation.id,
            address=f"{federation.coordinator}:{federation.port}",
            hospitals=", ".join(federation.hospitals),
        )
        .encode()
    )


def _template(name: str) -> str:
    return (_TEXTS / name).read_text(encoding="utf-8")


def _yaml(data: object) -> bytes:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()
