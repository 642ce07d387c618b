"""A small deployment: the folders of a coordinator and three hospitals, with tables, policies and keys in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from pettoolkit.cohort.tables import resolved
from pettoolkit.deployment import init
from pettoolkit.deployment.folders import Coordinator, HospitalFolder
from pettoolkit.deployment.hospital import answered, rows_of, state_of
from pettoolkit.federation.host import sanitised
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.hospital.site import Site
from pettoolkit.records import DpSpec, RunSpec
from tests import small_cohort as small

NAMES = ("hospital-1", "hospital-2", "hospital-3")
ARMS = ("federated", "encrypted_aggregation", "synthetic")
KINDS = ("metrics", "update", "ciphertext", "model", "statistics", "synthetic_records")


def make(folder: Path, *, port: int = init.PORT, runtime_ports: tuple[int, ...] = (9094, 9095, 9096)) -> Path:
    """Folders of a deployment whose hospitals have patients and grant three technologies."""
    contract = folder / "contract.yaml"
    contract.write_text(yaml.safe_dump(small.CONTRACT.model_dump(mode="json", exclude_defaults=True)))
    made = folder / "deployment"
    init.create(made, len(NAMES), port=port, contract=contract)
    for name, site, runtime_port in zip(NAMES, small.SITES, runtime_ports, strict=True):
        table(site).to_csv(made / name / "table" / f"{name}.csv", index=False)
        change(made / name / "policy.yaml", arms=list(ARMS), kinds=list(KINDS), minimum_cohort=10)
        change(made / name / "hospital.yaml", runtime_port=runtime_port)
    return made


def table(site: str) -> pd.DataFrame:
    """A hospital's patients, within the contract's bounds."""
    rows = small.rows(site)
    for column in small.CONTRACT.columns:
        if column.low is not None:
            rows[column.name] = rows[column.name].clip(column.low, column.high)
    return rows


def rows_in(made: Path, name: str) -> pd.DataFrame:
    """Patients of a hospital's table as its own process reads them."""
    folder = HospitalFolder(made / name)
    return rows_of(folder, state_of(folder, folder.contract))


def change(file: Path, **keys: Any) -> None:
    """Change keys of a YAML file."""
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | keys))


def spec(made: Path, arm: str, *, dp: DpSpec | None = None, **options: Any) -> RunSpec:
    """A run of an arm over the three hospitals."""
    contract = resolved(Coordinator(made / "coordinator").contract)
    base = small.spec(arm, dp=dp, **options)
    if dp is not None:
        base = replace(base, options={**base.options, "learning_rate": None} | options)
    return replace(base, sites=NAMES, contract=contract.model_dump(mode="json"), contract_digest=contract.digest())


def carry_keys(made: Path, spec: RunSpec) -> None:
    """Put the shared key of an encrypted run into every hospital's folder."""
    for name in NAMES:
        shutil.rmtree(made / name / "keys")
    made_once = small.carried(spec)
    for name in NAMES:
        shutil.copytree(made_once, made / name / "keys")


def deployed_app(hosted: Mapping[str, HospitalFolder]) -> ClientApp:
    """The hospitals' app, each message answered from the folder alone, as by a process of its own."""

    def answer(message: Message, context: Context) -> Message:
        return answered(hosted[str(context.node_config["site"])], message)

    app = ClientApp(mods=[sanitised])
    for register in (app.train, app.evaluate, app.query):
        register()(answer)
    return app


def grid(made: Path) -> InProcessGrid:
    """The deployed hospitals without processes."""
    return InProcessGrid(deployed_app, {name: HospitalFolder(made / name) for name in NAMES})


def simulated(made: Path, key_for: RunSpec | None = None) -> dict[str, Site]:
    """The same hospitals in memory, with the same salts."""
    keys = None if key_for is None else small.carried(key_for)
    contract = resolved(Coordinator(made / "coordinator").contract)
    return {
        name: Site(name, table(site), contract, salt=HospitalFolder(made / name).salt.read_bytes(), keys=keys)
        for name, site in zip(NAMES, small.SITES, strict=True)
    }
