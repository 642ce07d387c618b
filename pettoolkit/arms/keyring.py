"""Which keys the hospitals of several runs share: one per purpose and ring, sized for all that they decrypt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pettoolkit.arms import registry
from pettoolkit.errors import BadInput
from pettoolkit.records import RunSpec

if TYPE_CHECKING:
    from pettoolkit.encryption.keys import KeyRequest
    from pettoolkit.encryption.parameters import Scheme

REPEATS = 2
"""Flooding is sized for all runs of a key played so often: a run that was interrupted decrypts again."""


def key_requests(experiment: str, specs: Iterable[RunSpec]) -> tuple[KeyRequest, ...]:
    """Keys that these runs need: for each purpose and ring that of most hospitals, tau added up over the runs.

    Raises
    ------
    BadInput
        If a run could not bear the noise that is sized for all runs of its key.
    """
    wanted: dict[tuple[str, tuple[int, tuple[int, ...]]], list[tuple[Scheme, RunSpec]]] = {}
    for spec in specs:
        scheme = registry.key_scheme(spec)
        if scheme is not None:
            wanted.setdefault((registry.key_purpose(spec.arm), scheme.ring), []).append((scheme, spec))
    if not wanted:
        return ()
    from pettoolkit.encryption.keys import KeyRequest, KeyUse

    requests = []
    for (purpose, _), jobs in sorted(wanted.items(), key=lambda item: item[0]):
        together = _together([scheme for scheme, _ in jobs])
        for scheme, spec in jobs:
            _check_bearable(experiment, scheme, spec, together.tau)
        requests.append(KeyRequest(together, KeyUse(purpose, experiment, tuple(spec.run_id for _, spec in jobs))))
    return tuple(requests)


def _check_bearable(experiment: str, scheme: Scheme, spec: RunSpec, tau: int) -> None:
    """Noise is drawn for all that the key decrypts, not for what one run does."""
    most, sd = registry.key_tolerance(spec), replace(scheme, tau=tau).flooding_sd
    if most is not None and sd > most:
        raise BadInput(
            f"{experiment}: the runs of arm {spec.arm} decrypt {tau} ciphertexts under one key (each run counted "
            f"{REPEATS} times), for which its flooding noise would be {sd / most:.2g} times what a model can bear; "
            "write fewer rounds or seeds, or split the experiment into files"
        )


def _together(schemes: list[Scheme]) -> Scheme:
    largest = max(schemes, key=lambda s: (s.sites, s.values))
    return replace(largest, values=max(s.values for s in schemes), tau=REPEATS * sum(s.tau for s in schemes))
