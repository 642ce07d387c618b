"""Key files for the hospitals of an experiment, and what may be told about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pettoolkit.errors import BadInput

if TYPE_CHECKING:
    from pettoolkit.encryption.keys import KeyInfo
    from pettoolkit.encryption.parameters import Scheme

SCORING = "scoring"
"""Stands in place of an experiment for the key of encrypted scoring."""


def create(experiment: str, folder: Path, sets: Sequence[str] = ()) -> tuple[KeyInfo, ...]:
    """Make the keys that an experiment's encrypted arms need, one file per ring, mode 0600.

    Parameters
    ----------
    experiment
        File, ``builtin:NAME``, or the word ``scoring``.
    folder
        Where the files go; carry each to every hospital, outside any message, and to nobody else.

    Raises
    ------
    BadInput
        If no arm needs a key, or one of the files exists: a key is only ever replaced by rotating it.
    """
    from pettoolkit.encryption import keys

    name, schemes = _wanted(experiment, sets)
    files = [folder / f"{name}-{scheme.ring_degree}-{scheme.modulus_bits}.key" for scheme in schemes]
    there = [f"{f}: exists already; use `pettoolkit keys rotate` to replace a key" for f in files if f.exists()]
    if there:
        raise BadInput(there)
    return tuple(keys.create(file, scheme) for file, scheme in zip(files, schemes, strict=True))


def inspect(file: Path) -> KeyInfo:
    """Check a key file and say what it is for."""
    from pettoolkit.encryption import keys

    return keys.inspect(file)


def rotate(file: Path) -> KeyInfo:
    """Replace a key by a fresh one for the same job; the old one stays beside it as ``*.retired``."""
    from pettoolkit.encryption import keys

    return keys.rotate(file)


def lines(info: KeyInfo) -> tuple[str, ...]:
    """What may be told about a key, nothing of the secret itself."""
    from pettoolkit.encryption.parameters import SECURITY_BITS

    scheme = info.scheme
    primes = "+".join(str(bits) for bits in scheme.all_prime_bits)
    decrypted = (
        f"flooding sized for {scheme.tau} decrypted ciphertexts ({scheme.flooding_bits} bits)"
        if scheme.flooding_bits
        else "no flooding: nothing decrypted may be published"
    )
    return (
        f"{info.path}: key {info.key_id}",
        f"  ring {scheme.ring_degree} [{primes}], scale 2^{scheme.scale_bits}, {SECURITY_BITS}-bit security",
        f"  for {scheme.sites} hospital(s), {scheme.values} values up to {scheme.clip:g}; {decrypted}",
    )


def _wanted(experiment: str, sets: Sequence[str]) -> tuple[str, tuple[Scheme, ...]]:
    if experiment == SCORING:
        from pettoolkit.encryption import scoring

        return SCORING, (scoring.scheme(),)
    from pettoolkit.arms.keyring import key_schemes
    from pettoolkit.experiment.load import load
    from pettoolkit.experiment.runner import prepare

    config = load(experiment, sets)
    schemes = key_schemes(spec for spec, excluded in prepare(config).cells if excluded is None)
    if not schemes:
        raise BadInput(f"{experiment}: no arm of this experiment encrypts, so that it needs no key")
    return config.name, schemes
