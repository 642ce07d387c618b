"""How messages travel between the coordinator and the hospitals: grids, meter, checks. Knows no arm and no hospital."""

import os as _os

# Read by Flower when it is first imported; this file always runs before a module of this package imports it.
_os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
_os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
_os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
