"""Runs Flower's SuperLink (``python -m pettoolkit.deployment.superlink``), with the options of ``flower-superlink``."""

from __future__ import annotations

from pettoolkit.federation import flower

if __name__ == "__main__":
    flower.run_superlink()
