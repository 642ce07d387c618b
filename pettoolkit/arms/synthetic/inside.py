"""Synthetic data: the hospital fits a generator on its training patients and hands over made-up rows."""

from __future__ import annotations

from pettoolkit.arms.central import validate
from pettoolkit.arms.generating import ledger, rows

HANDLERS = {"rows": rows, "validate": validate, "ledger": ledger}
