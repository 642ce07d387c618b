"""The coordinator's half of every arm that adds ciphertexts: collect, add, hand the sum back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from pettoolkit.arms.exchange import Reply, ask, lacks
from pettoolkit.encryption.ckks import Adder
from pettoolkit.encryption.parameters import SECURITY_BITS, Scheme
from pettoolkit.errors import PetError, SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import RunSpec

AT_ONCE = 16
"""Hospitals asked side by side; more than the cores of most machines that simulate them."""


def batched(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Consecutive pieces of at most ``size`` names."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


class Additions:
    """Rounds of additions, with what they cost. Holds the context for additions and no key.

    Parameters
    ----------
    grid, spec
        Where, and which run.
    scheme
        Of the run; only its context for additions is used.
    """

    def __init__(self, grid: MeteredGrid, spec: RunSpec, scheme: Scheme) -> None:
        self._grid, self._spec = grid, spec
        self._scheme, self._context = scheme, scheme.add_context()
        self._up = self._down = 0
        self._seconds = {"encrypt": 0.0, "add": 0.0, "decrypt": 0.0}

    def round(self, number: int, extra: Mapping[str, int | float | str]) -> dict[str, Reply]:
        """Ask for ``contribute``, add, send the sum with ``apply``, and return what the hospitals say to it.

        Hospitals are asked :data:`AT_ONCE` at a time and their ciphertexts let go when they are added, so that memory
        here does not grow with the number of hospitals.
        """
        adder, encrypting = Adder(self._context), 0.0
        for some in batched(self._spec.sites, AT_ONCE):
            encrypting = max(encrypting, self._collect(adder, some, number, extra))
        began = time.perf_counter()
        total = adder.result()
        self._seconds["add"] += time.perf_counter() - began
        applied = ask(
            self._grid,
            self._spec,
            "apply",
            "training",
            wants="metrics",
            sites=self._spec.sites,
            number=number,
            kind="ciphertext",
            blobs=total,
            extra=extra,
            fault=lambda reply: lacks(reply, "decrypt_seconds"),
        )
        self._down = sum(map(len, total))
        self._seconds["encrypt"] += encrypting
        self._seconds["decrypt"] += max(r.figures["decrypt_seconds"] for r in applied.values())
        return applied

    def _collect(
        self, adder: Adder, sites: Sequence[str], number: int, extra: Mapping[str, int | float | str]
    ) -> float:
        """Add what these hospitals send; seconds that the slowest took to encrypt it."""
        replies = ask(
            self._grid,
            self._spec,
            "contribute",
            "training",
            wants="ciphertext",
            sites=sites,
            number=number,
            extra=extra,
            fault=lambda reply: lacks(reply, "encrypt_seconds"),
        )
        began = time.perf_counter()
        for site, reply in replies.items():
            try:
                adder.add(reply.blobs, site)
            except PetError as error:
                raise SiteFailed(site, f"its ciphertexts can't be added: {error}") from None
        self._seconds["add"] += time.perf_counter() - began
        self._up = max(sum(map(len, reply.blobs)) for reply in replies.values())
        return max(reply.figures["encrypt_seconds"] for reply in replies.values())

    def cost(self) -> dict[str, float]:
        """Expansion against float32, and seconds of all rounds (of the slowest hospital of each)."""
        plain = 4 * self._scheme.values
        return {
            "cost/ciphertext_expansion": self._up / plain,
            "cost/ciphertext_expansion_down": self._down / plain,
            **{f"cost/{what}_seconds": seconds for what, seconds in self._seconds.items()},
        }

    def parameters(self, released: Mapping[str, float]) -> dict[str, float]:
        """What the scheme promises; and what the releasing hospital says (``flooding_sd``, ``max_error``).

        ``max_error`` was measured in the slots whose content is known, to the next power of two; ``error_bound`` is
        what the scheme was chosen for.
        """
        return {
            "encryption/headroom_bits": self._scheme.headroom_bits,
            "encryption/flooding_sd": released["flooding_sd"],
            "encryption/security_bits": float(SECURITY_BITS),
            "encryption/max_error": released["max_error"],
            "encryption/error_bound": self._scheme.error,
        }
