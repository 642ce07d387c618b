"""Looks for secrets and data in what git tracks: keys, tokens, passwords, tables. Part of `make lint`.

    python tools/check_secrets.py [FILE ...]

Prints ``file:line: what``, and exits with 1 if there is anything. A line that has to look like a secret says so with
the words `not a secret`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FORBIDDEN = {
    ".key": "a key",
    ".pem": "a key or certificate",
    ".p12": "a key",
    ".crt": "a certificate",
    ".psv": "patients",
    ".parquet": "a table",
    ".db": "a database",
    ".safetensors": "a model",
}
"""Endings of files that do not belong into the repository, and what they hold."""

PATTERNS = {
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    "an access key of a cloud": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an access token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}|glpat-[\w-]{20,}|xox[baprs]-[\w-]{10,})",
    "a token": r"\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}$<>]+:[^\s/@'\"{}$<>]+@",
    "a password": r"""(?i)\b(?:password|passwd|secret|api_?key|token)\w*["']?\s*[:=]\s*["'][^\s"'{}$<>]{12,}["']""",
}
"""What to look for in a line."""

ALLOWED = "not a secret"
LARGEST = 2_000_000
"""Bytes; larger files are named, not read."""


def findings(files: Sequence[Path]) -> Iterator[str]:
    """What should not be in these files, as ``file:line: what``."""
    for file in files:
        if file.suffix in FORBIDDEN:
            yield f"{file}: is {FORBIDDEN[file.suffix]} by its name"
        elif file.stat().st_size > LARGEST:
            yield f"{file}: is larger than {LARGEST // 1_000_000} MB, which no file of this project has to be"
        else:
            yield from _in_text(file)


def _in_text(file: Path) -> Iterator[str]:
    text = file.read_bytes().decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if ALLOWED in line:
            continue
        yield from (f"{file}:{number}: {what}" for what, pattern in PATTERNS.items() if re.search(pattern, line))


def tracked() -> list[Path]:
    """Files that git tracks here, those aside that were deleted."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode()
    return [Path(name) for name in listed.split("\0") if name and Path(name).is_file()]


def main(arguments: Sequence[str]) -> int:
    """Check the named files, or all that git tracks."""
    found = list(findings([Path(name) for name in arguments] or tracked()))
    print("\n".join(found) if found else "no secrets found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
