"""The hospitals' shared keys of several runs: one per ring, with flooding sized for all that is decrypted under it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pettoolkit.arms import registry
from pettoolkit.records import RunSpec

if TYPE_CHECKING:
    from pettoolkit.encryption.parameters import Scheme


def key_schemes(specs: Iterable[RunSpec]) -> tuple[Scheme, ...]:
    """For what keys are needed, one scheme per ring: that of the longest vector, tau added up over the runs."""
    by_ring: dict[tuple[int, tuple[int, ...]], list[Scheme]] = {}
    for spec in specs:
        scheme = registry.key_scheme(spec)
        if scheme is not None:
            by_ring.setdefault(scheme.ring, []).append(scheme)
    return tuple(
        replace(max(schemes, key=lambda s: (s.values, s.sites)), tau=sum(s.tau for s in schemes))
        for _, schemes in sorted(by_ring.items())
    )


def shared_keys(specs: Iterable[RunSpec]) -> tuple[bytes, ...]:
    """Fresh keys for these runs, as the contents of key files; none if no run needs one."""
    schemes = key_schemes(specs)
    if not schemes:
        return ()
    from pettoolkit.encryption.keys import SecretKey

    return tuple(SecretKey.create(scheme).to_bytes() for scheme in schemes)
