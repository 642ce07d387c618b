"""The contracts that come with the package."""

from __future__ import annotations

import importlib.resources
from functools import cache

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.cohort.yamlmessages import did_you_mean
from pettoolkit.errors import BadInput

SEPSIS_HOURLY = "sepsis-hourly"
"""Hourly ICU stays with the columns of the PhysioNet/CinC Challenge 2019; the simulated hospitals have the same."""


@cache
def builtin_contract(name: str = SEPSIS_HOURLY) -> Contract:
    """Read a contract of the package by its name.

    Raises
    ------
    BadInput
        If there is no such contract.
    """
    folder = importlib.resources.files("pettoolkit.cohort") / "contracts"
    known = sorted(f.name.removesuffix(".yaml").replace("_", "-") for f in folder.iterdir() if f.name.endswith(".yaml"))
    if name not in known:
        raise BadInput(f"contract {name}: there is no such contract; {did_you_mean(name, known) or ', '.join(known)}")
    with importlib.resources.as_file(folder / f"{name.replace('-', '_')}.yaml") as path:
        return parse(Contract, path)
