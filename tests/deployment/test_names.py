"""A hospital is who its node key says it is, whatever it calls itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.proto.node_pb2 import NodeInfo

from pettoolkit.deployment import init
from pettoolkit.deployment.certificates import public_pem
from pettoolkit.deployment.coordinator import Deployed, carry_out, keys_of
from pettoolkit.deployment.folders import Coordinator, HospitalFolder
from pettoolkit.errors import BadInput, SiteFailed
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.records import RunSpec
from tests.deployment import parties

DROP = {"on_failure": "drop", "min_sites": 2, "round_timeout": 60.0}


class Signed(InProcessGrid):
    """Deployed hospitals, with the keys under which a SuperLink has registered them."""

    def __init__(self, made: Path) -> None:
        super().__init__(parties.deployed_app, {name: HospitalFolder(made / name) for name in parties.NAMES})
        coordinator = Coordinator(made / "coordinator")
        self.keys = {name: public_pem(coordinator.node(name)) for name in parties.NAMES}

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node, public_key=self.keys[name]) for node, name in self.site_of.items()]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return parties.make(tmp_path)


def run(made: Path, **faults: object) -> Deployed:
    spec = parties.spec(made, "federated", rounds=1)
    spec = RunSpec(**{**spec.__dict__, "faults": faults})
    return carry_out(Signed(made), spec, keys=keys_of(Coordinator(made / "coordinator")))


def test_hospitals_that_say_their_own_names_take_part(made: Path) -> None:
    assert set(next(iter(run(made).figures.values()))) == set(parties.NAMES)


def test_one_that_says_anothers_name_is_refused_by_its_own(made: Path) -> None:
    parties.change(made / "hospital-3" / "hospital.yaml", name="hospital-1")
    with pytest.raises(SiteFailed, match="hospital hospital-3: the reply says that it comes from hospital hospital-1"):
        run(made)


def test_names_that_were_swapped_are_no_way_in_either(made: Path) -> None:
    parties.change(made / "hospital-3" / "hospital.yaml", name="hospital-1")
    parties.change(made / "hospital-1" / "hospital.yaml", name="hospital-3")
    with pytest.raises(SiteFailed, match="hospital hospital-1: the reply says that it comes from hospital hospital-3"):
        run(made)


def test_the_one_whose_name_was_taken_goes_on_where_the_other_is_dropped(made: Path) -> None:
    parties.change(made / "hospital-3" / "hospital.yaml", name="hospital-1")
    found = run(made, **DROP)
    assert {drop.site for drop in found.drops} == {"hospital-3"}
    assert set(next(iter(found.figures.values()))) == {"hospital-1", "hospital-2"}


def test_a_key_that_is_no_hospitals_any_more_is_not_heard(made: Path) -> None:
    (made / "coordinator" / "nodes" / "hospital-3.pub").unlink()
    init.rekey(HospitalFolder(made / "hospital-3"))
    (made / "hospital-3" / "hospital-3.pub").rename(made / "coordinator" / "nodes" / "new.pub")
    grid = Signed.__new__(Signed)
    InProcessGrid.__init__(grid, parties.deployed_app, {n: HospitalFolder(made / n) for n in parties.NAMES})
    coordinator = Coordinator(made / "coordinator")
    grid.keys = {name: public_pem(coordinator.node(name)) for name in parties.NAMES[:2]}
    grid.keys["hospital-3"] = public_pem(coordinator.node("new"))
    with pytest.raises(SiteFailed, match="hospital hospital-3: is not connected; node 3: its node key is that of no"):
        carry_out(grid, parties.spec(made, "federated", rounds=1), keys=keys_of(coordinator))


def test_a_key_file_that_can_not_be_read_is_named(made: Path) -> None:
    (made / "coordinator" / "nodes" / "hospital-2.pub").write_text("ecdsa-sha2-nistp384 AAAA someone")
    with pytest.raises(BadInput, match=r"hospital-2.pub: is no public node key"):
        keys_of(Coordinator(made / "coordinator"))
