"""What can be wrong with a ciphertext or a key; each is one clear line, and never garbage instead."""

from __future__ import annotations

from pettoolkit.errors import Refused


class TruncatedCiphertext(Refused):
    """Bytes are missing, were changed on the way, or are no ciphertext at all."""


class ForeignCiphertext(Refused):
    """The ciphertext belongs to another scheme, another round, or another position in the vector."""


class WrongKey(Refused):
    """The ciphertext was made under another secret key."""


class WrongCount(Refused):
    """The sum does not contain the expected number of hospitals."""


class OutOfRange(Refused):
    """A value is not finite, or larger than the clip for which the scheme has headroom."""


class FloodingSpent(Refused):
    """More ciphertexts were decrypted than the flooding noise was sized for."""
