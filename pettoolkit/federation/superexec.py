"""Runs Flower's SuperExec, which starts a process for each message or run, with the options of ``flower-superexec``."""

from __future__ import annotations

from pettoolkit.federation import flower

if __name__ == "__main__":
    flower.run_superexec()
