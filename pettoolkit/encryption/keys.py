"""The hospitals' shared secret key: made once, carried by hand, never in a message.

Symmetric CKKS ciphertexts are half the size of public-key ones, at the price that every hospital holds the
key. The file is JSON (one line) and SEAL's bytes, readable by its owner only, with a checksum; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pettoolkit.encryption import _seal
from pettoolkit.encryption.envelope import label_digest
from pettoolkit.encryption.errors import TruncatedCiphertext
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import BadInput, Refused

_MAGIC = b"PTKKEY1\n"


@dataclass(frozen=True)
class KeyInfo:
    """What may be told about a key: nothing of the secret itself."""

    key_id: str
    scheme: Scheme
    path: str


class SecretKey:
    """A CKKS secret key for one ring, with the scheme it is used for.

    Never pickled or printed: to hand it on, use :meth:`save`, or :meth:`to_bytes` outside any message.
    """

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self.scheme = scheme
        self._secret = secret
        self._native: Any = None

    @classmethod
    def create(cls, scheme: Scheme) -> SecretKey:
        """Draw a fresh key from the operating system's entropy."""
        import tenseal.sealapi as seal

        with _seal.scratch() as scratch:
            return cls(scheme, scratch.dump(seal.KeyGenerator(_seal.ring(*scheme.ring).context).secret_key()))

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name the key (a one-way function of it)."""
        return hashlib.blake2b(self._secret, digest_size=8, person=b"ptk-key-id").hexdigest()

    def for_scheme(self, scheme: Scheme) -> SecretKey:
        """Use the same key for another job on the same ring.

        Raises
        ------
        BadInput
            If the scheme needs another ring, and so another key.
        """
        if scheme.ring != self.scheme.ring:
            raise BadInput(
                f"key {self.key_id}: made for ring {self.scheme.ring}, this job needs {scheme.ring}: create another"
            )
        return SecretKey(scheme, self._secret)

    def check_value(self, label: str, position: int, site: str = "") -> float:
        """Secret number in [0, 0.5) for the control slot of one ciphertext."""
        secret = hashlib.blake2b(self._secret, digest_size=32, person=b"ptk-check").digest()
        message = label_digest(label) + position.to_bytes(4, "big") + site.encode()
        return int.from_bytes(hashlib.blake2b(message, key=secret, digest_size=4).digest(), "big") / 2**33

    def native(self) -> Any:
        """SEAL's secret key object, loaded once per process."""
        if self._native is None:
            import tenseal.sealapi as seal

            try:
                with _seal.scratch() as scratch:
                    where = _seal.ring(*self.scheme.ring)
                    self._native = scratch.load(seal.SecretKey(), where, self._secret, "secret key")
            except TruncatedCiphertext as error:
                raise BadInput(f"{error}".replace("ask for it again", "get the key file again")) from None
        return self._native

    def to_bytes(self) -> bytes:
        """Content of a key file; as secret as the key."""
        head = {"scheme": self.scheme.to_dict(), "key_id": self.key_id, "secret_bytes": len(self._secret)}
        body = _MAGIC + json.dumps(head, sort_keys=True).encode() + b"\n" + self._secret
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "key") -> SecretKey:
        """Inverse of :meth:`to_bytes`.

        Raises
        ------
        BadInput
            If these bytes are no key, or damaged.
        """
        if not data.startswith(_MAGIC):
            raise BadInput(f"{where}: this is no key file of pettoolkit (make one with `pettoolkit keys create`)")
        body, digest = data[:-32], data[-32:]
        if hashlib.sha256(body).digest() != digest:
            raise BadInput(f"{where}: the key file is damaged or incomplete: copy it again from where it was made")
        head, secret = body[len(_MAGIC) :].split(b"\n", 1)
        return cls(Scheme.from_dict(json.loads(head)["scheme"]), secret)

    def save(self, path: str | Path) -> None:
        """Write a new key file with mode 0600.

        Raises
        ------
        Refused
            If the file exists: a key is replaced by :func:`rotate` only.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise Refused(f"{target}: exists already; use `pettoolkit keys rotate` to replace a key") from None
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask says
            file.write(self.to_bytes())
            file.flush()
            os.fsync(descriptor)

    @classmethod
    def load(cls, path: str | Path) -> SecretKey:
        """Read a key file.

        Raises
        ------
        BadInput
            If it is missing, damaged or no key file.
        Refused
            If others than its owner may read it.
        """
        target = Path(path)
        try:
            mode = target.stat().st_mode & 0o777
            if mode & 0o077:
                raise Refused(f"{target}: mode {mode:04o} lets others read the key; run `chmod 600 {target}`")
            data = target.read_bytes()
        except OSError as error:
            raise BadInput(f"{target}: the key can't be read ({error.strerror})") from None
        return cls.from_bytes(data, str(target))

    def __repr__(self) -> str:
        return f"SecretKey({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise Refused("a secret key is never pickled: carry its file to the hospitals instead")


def create(path: str | Path, scheme: Scheme) -> KeyInfo:
    """Make a key and write it to a new file; see :meth:`SecretKey.save`."""
    key = SecretKey.create(scheme)
    key.save(path)
    return KeyInfo(key.key_id, scheme, str(path))


def inspect(path: str | Path) -> KeyInfo:
    """Say what a key file is for, after checking that it is whole and works."""
    key = SecretKey.load(path)
    key.native()
    return KeyInfo(key.key_id, key.scheme, str(path))


def rotate(path: str | Path, scheme: Scheme | None = None) -> KeyInfo:
    """Replace the key in a file by a fresh one (for ``scheme``; None: as before).

    The old key stays beside it as ``NAME.KEYID.retired``, mode 0600, until its owner deletes it: what was encrypted
    under it can't be read otherwise. Decryptions are counted anew for the new key.
    """
    target = Path(path)
    old = SecretKey.load(target)
    fresh = SecretKey.create(scheme or old.scheme)
    temporary = target.with_name(f"{target.name}.{fresh.key_id}.new")
    fresh.save(temporary)
    # The old key stays readable under one of its two names at every moment.
    os.link(target, target.with_name(f"{target.name}.{old.key_id}.retired"))
    os.replace(temporary, target)
    return KeyInfo(fresh.key_id, fresh.scheme, str(target))
