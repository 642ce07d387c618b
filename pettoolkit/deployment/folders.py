"""What lies where in the folder of a party: names of files, and the two small files that say who is who.

Nothing here is shared at run time: each party has its own folder on its own machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput
from pettoolkit.hospital.policy import Policy

CONNECTION = "pettoolkit"
"""Name of the SuperLink in the configuration of Flower's command line."""

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Federation(_Frozen):
    """``federation.yaml``, public and the same at every party."""

    id: str
    """Random; tells the results of one deployment from another's."""
    coordinator: str
    """Name or address under which the hospitals reach the coordinator."""
    port: Port
    hospitals: Annotated[tuple[Name, ...], Field(min_length=1)]


class CoordinatorKeys(_Frozen):
    """``coordinator.yaml``: what only the coordinator sets."""

    listen: str = "127.0.0.1"
    """Address on which it listens; 0.0.0.0 is every one of this machine."""
    ask_again: Annotated[float, Field(gt=0)] = 45.0
    """Seconds after which a hospital that has not answered is asked again."""


class HospitalKeys(_Frozen):
    """``hospital.yaml``: what only this hospital sets."""

    name: Name
    table: str
    """CSV or Parquet file, seen from this folder."""
    runtime_port: Port = 9094
    """Of this machine alone: by it Flower's own processes talk to each other."""


class Party:
    """A party's folder.

    Raises
    ------
    BadInput
        If it is none.
    """

    own: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / self.own).is_file():
            raise BadInput(f"{folder}: there is no {self.own} in it (`pettoolkit deploy init` makes such folders)")

    @property
    def federation(self) -> Federation:
        """Who takes part."""
        return parse(Federation, self.folder / "federation.yaml")

    @property
    def contract(self) -> Contract:
        """The contract of the tables, public and the same at every party."""
        return parse(Contract, self.folder / "contract.yaml")

    @property
    def authority(self) -> Path:
        """Certificate of the authority that signed the coordinator's."""
        return self.folder / "tls" / "ca.crt"

    @property
    def state(self) -> Path:
        """What this party's processes keep between messages; to be backed up."""
        return self.folder / "state"

    @property
    def logs(self) -> Path:
        """Where logs go."""
        return self.folder / "logs"


class Coordinator(Party):
    """Folder of the coordinator."""

    own = "coordinator.yaml"

    @property
    def keys(self) -> CoordinatorKeys:
        """Its settings."""
        return parse(CoordinatorKeys, self.folder / self.own)

    @property
    def runs(self) -> Path:
        """Where the coordinator's app leaves what came out of a run."""
        return self.state / "runs"

    @property
    def app(self) -> Path:
        """The Flower app that is started for a run."""
        return self.folder / "app"

    def node(self, hospital: str) -> Path:
        """Public node key of a hospital."""
        return self.folder / "nodes" / f"{hospital}.pub"


class HospitalFolder(Party):
    """Folder of a hospital."""

    own = "hospital.yaml"

    @property
    def keys(self) -> HospitalKeys:
        """Its settings."""
        return parse(HospitalKeys, self.folder / self.own)

    @property
    def policy(self) -> Policy:
        """What may leave."""
        return parse(Policy, self.folder / "policy.yaml")

    @property
    def table(self) -> Path:
        """Its patients."""
        return self.folder / self.keys.table

    @property
    def salt(self) -> Path:
        """The secret that keys the split of its patients."""
        return self.folder / "secrets" / "split.salt"

    @property
    def node_key(self) -> Path:
        """By which it proves who it is."""
        return self.folder / "secrets" / "node.key"

    @property
    def encryption_keys(self) -> Path:
        """Files of ``pettoolkit keys create`` that were carried here."""
        return self.folder / "keys"


def party_of(folder: Path) -> Coordinator | HospitalFolder:
    """The party whose folder it is.

    Raises
    ------
    BadInput
        If it is no party's folder.
    """
    return Coordinator(folder) if (folder / Coordinator.own).is_file() else HospitalFolder(folder)
