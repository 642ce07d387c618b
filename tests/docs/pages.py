"""Reading the examples out of a page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Contents of the fenced blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for kind, block in _BLOCK.findall(text) if kind == language]
