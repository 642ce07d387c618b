"""The files of one run, and how they are written."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from pettoolkit.records import Exposure, Json, RunResult, digest_of, to_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FOLDER = "artifacts"
CONFIG, RESULT, LEFT, WEIGHTS = "config.yaml", "result.json", "what_left.csv", "weights.safetensors"
PREDICTIONS, SUMMARY, COMPARISON = "predictions.npz", "summary.json", "comparison.html"


def cell_files(
    result: RunResult, predictions: bytes, weights: Mapping[str, npt.NDArray[np.generic]], config_text: str
) -> dict[str, bytes]:
    """Contents of a cell's artifacts by name."""
    import numpy as np
    from safetensors.numpy import save

    return {
        CONFIG: config_text.encode(),
        LEFT: what_left(result.exposure),
        WEIGHTS: save({name: np.ascontiguousarray(array) for name, array in weights.items()}),
        PREDICTIONS: predictions,
        RESULT: as_json(to_json(result)),
    }


def what_left(exposure: Exposure) -> bytes:
    """Write the meter's readings as CSV; what travelled outside the wire has no bytes."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["site", "direction", "kind", "purpose", "messages", "bytes"])
    for row in exposure.traffic:
        rows.writerow([row.site, row.direction, row.kind, row.purpose, row.messages, row.bytes])
    for what in exposure.out_of_band:
        rows.writerow(["", "out of band", what, "", "", ""])
    return text.getvalue().encode()


def as_json(value: Json) -> bytes:
    """Readable JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files below ``folder``."""
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def slug(experiment: str) -> str:
    """Folder name of an experiment; never only digits, which MLflow would take for an old file store."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", experiment).strip("-.") or "experiment"
    return plain if plain == experiment and not plain.isdigit() else f"{plain}-{digest_of(experiment)[:8]}"


def path_of(uri: str) -> Path:
    """Local path of a ``file:`` URI (or of a plain path)."""
    parsed = urlparse(uri)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else Path(uri)
