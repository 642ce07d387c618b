"""Independent random streams from one seed and a few labels, the same on every machine."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, *labels: str | int) -> int:
    """A 63-bit seed for (seed, labels): different labels give independent streams."""
    text = "\x1f".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def torch_generator(seed: int, *labels: str | int) -> torch.Generator:
    """A torch generator for (seed, labels)."""
    return torch.Generator().manual_seed(derived_seed(seed, *labels))
