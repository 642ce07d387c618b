"""Runs Flower's SuperNode (``python -m pettoolkit.deployment.supernode``), with the options of ``flower-supernode``.

Flower lets a coordinator send the code that a hospital runs. This one runs its own installed app, whatever is sent.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pettoolkit.deployment.init import app_files
from pettoolkit.deployment.keep import LET_IN, PARENT
from pettoolkit.federation import flower


def own_bundle() -> bytes:
    """The app of the installed package, as Flower bundles it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in app_files().items():
            (Path(folder) / name).write_bytes(text)
        return flower.bundle(Path(folder))


if __name__ == "__main__":
    kept_by, let_in = os.environ.get(PARENT), os.environ.get(LET_IN)
    flower.run_supernode(own_bundle(), int(kept_by) if kept_by else None, Path(let_in) if let_in else None)
