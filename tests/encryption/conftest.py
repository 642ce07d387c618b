"""Small schemes and keys that the tests of this room share."""

from __future__ import annotations

import pytest

from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme, choose

SITES = 3


@pytest.fixture(scope="session")
def scheme() -> Scheme:
    """Two ciphertexts a vector, room for flooding."""
    return choose(values=5000, clip=1.0, sites=SITES)


@pytest.fixture(scope="session")
def key(scheme: Scheme) -> SecretKey:
    return SecretKey.create(scheme)
