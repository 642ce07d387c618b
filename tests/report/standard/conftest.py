"""What the reports are made of, of both tables of :mod:`tests.measured_tables`."""

from __future__ import annotations

from typing import Any

import pytest

from pettoolkit.report.standard.given import Given, tables
from tests import measured_tables

PEOPLE: dict[str, Any] = {
    "responsible": {"name": "Ada Lovelace", "email": "ada@example.org"},
    "date": "2026-11-24",
    "version": "pettoolkit 0.1",
}


@pytest.fixture
def measured() -> tuple[dict[str, Any], dict[str, Any]]:
    """Declaration and risk."""
    found = measured_tables.measured()
    return found.quality, found.risk


@pytest.fixture
def made(measured: tuple[dict[str, Any], dict[str, Any]]) -> Given:
    """The table of fresh patients."""
    return tables(*measured, settings={"generator": "marginals", "seed": "1"}, **PEOPLE)[0]


@pytest.fixture
def copied(measured: tuple[dict[str, Any], dict[str, Any]]) -> Given:
    """The table that repeats the real patients."""
    return tables(*measured, **PEOPLE)[1]
