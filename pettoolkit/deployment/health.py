"""Whether a coordinator's SuperLink answers (``python -m pettoolkit.deployment.health DIR``), for a container."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

from pettoolkit.deployment.folders import Coordinator

SECONDS = 3.0
"""To wait for an answer."""


def healthy(coordinator: Coordinator) -> bool:
    """Whether it answers on this machine, under the certificate that its hospitals trust."""
    trusted = ssl.create_default_context(cafile=str(coordinator.authority))
    address = f"https://127.0.0.1:{coordinator.federation.port}/health"
    try:
        with urllib.request.urlopen(address, context=trusted, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(Coordinator(Path(sys.argv[1]))) else 1)
