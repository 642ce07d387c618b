"""Which keys the hospitals of several runs share: one per purpose and ring, sized for all that they decrypt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pettoolkit.arms import registry
from pettoolkit.records import RunSpec

if TYPE_CHECKING:
    from pettoolkit.encryption.keys import KeyRequest
    from pettoolkit.encryption.parameters import Scheme

REPEATS = 2
"""Flooding is sized for all runs of a key played so often: a run that was interrupted decrypts again."""


def key_requests(experiment: str, specs: Iterable[RunSpec]) -> tuple[KeyRequest, ...]:
    """Keys that these runs need: for each purpose and ring that of most hospitals, tau added up over the runs."""
    wanted: dict[tuple[str, tuple[int, tuple[int, ...]]], list[tuple[Scheme, str]]] = {}
    for spec in specs:
        scheme = registry.key_scheme(spec)
        if scheme is not None:
            wanted.setdefault((registry.key_purpose(spec.arm), scheme.ring), []).append((scheme, spec.run_id))
    if not wanted:
        return ()
    from pettoolkit.encryption.keys import KeyRequest, KeyUse

    return tuple(
        KeyRequest(
            _together([scheme for scheme, _ in jobs]), KeyUse(purpose, experiment, tuple(run for _, run in jobs))
        )
        for (purpose, _), jobs in sorted(wanted.items())
    )


def _together(schemes: list[Scheme]) -> Scheme:
    largest = max(schemes, key=lambda s: (s.sites, s.values))
    return replace(largest, values=max(s.values for s in schemes), tau=REPEATS * sum(s.tau for s in schemes))
