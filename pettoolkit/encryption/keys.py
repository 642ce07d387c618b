"""The hospitals' shared secret key: made once, carried by hand, never in a message.

Symmetric CKKS ciphertexts are half the size of public-key ones, at the price that every hospital holds the
key. The file is JSON (one line) and SEAL's bytes, readable by its owner only, with a checksum; nothing is pickled. The
line says for what the key was made, and a key serves nothing else: :func:`find` picks by it, and names what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from pettoolkit.encryption import _seal
from pettoolkit.encryption.envelope import label_digest
from pettoolkit.encryption.errors import TruncatedCiphertext
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import BadInput, Refused

_MAGIC = b"PTKKEY2\n"
_LONGEST_HEAD = 1_000_000

AGGREGATION, STATISTICS, RECORDS, SCORING = PURPOSES = ("aggregation", "statistics", "records", "scoring")
SUFFIX = ".key"

Ring = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class KeyUse:
    """For what a key is made: it serves nothing else.

    Parameters
    ----------
    purpose
        One of :data:`PURPOSES`; empty for a key that no hospital takes.
    experiment
        Name of the experiment, for people.
    runs
        ``run_id`` of every run that may use the key; empty does not bind it to runs.
    """

    purpose: str = ""
    experiment: str = ""
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.purpose not in ("", *PURPOSES):
            raise BadInput(f"key: purpose must be one of {', '.join(PURPOSES)} (got {self.purpose!r})")

    def __str__(self) -> str:
        of = f" of experiment {self.experiment}" if self.experiment else ""
        return f"{self.purpose or 'no purpose'}{of}"


@dataclass(frozen=True)
class KeyRequest:
    """A key to be made: its scheme, and for what."""

    scheme: Scheme
    use: KeyUse

    @property
    def file_name(self) -> str:
        """Name of the key's file, which tells its use and its ring."""
        words = (self.use.experiment, self.use.purpose, str(self.scheme.ring_degree), str(self.scheme.modulus_bits))
        return "-".join(word for word in words if word) + SUFFIX

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        use = {"purpose": self.use.purpose, "experiment": self.use.experiment, "runs": list(self.use.runs)}
        return {"scheme": self.scheme.to_dict(), "use": use}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KeyRequest:
        """Inverse of :meth:`to_dict`."""
        use = data["use"]
        return cls(Scheme.from_dict(data["scheme"]), KeyUse(use["purpose"], use["experiment"], tuple(use["runs"])))


@dataclass(frozen=True)
class KeyInfo:
    """What may be told about a key: nothing of the secret itself."""

    key_id: str
    scheme: Scheme
    path: str
    use: KeyUse = KeyUse()


class SecretKey:
    """A CKKS secret key for one ring, with the scheme it is used for.

    Never pickled or printed: to hand it on, use :meth:`save`, or :meth:`to_bytes` outside any message.
    """

    def __init__(self, scheme: Scheme, secret: bytes, use: KeyUse | None = None) -> None:
        self.scheme = scheme
        self.use = use or KeyUse()
        self._secret = secret
        self._native: Any = None

    @classmethod
    def create(cls, scheme: Scheme, use: KeyUse | None = None) -> SecretKey:
        """Draw a fresh key from the operating system's entropy."""
        import tenseal.sealapi as seal

        with _seal.scratch() as scratch:
            return cls(scheme, scratch.dump(seal.KeyGenerator(_seal.ring(*scheme.ring).context).secret_key()), use)

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name the key (a one-way function of it)."""
        return hashlib.blake2b(self._secret, digest_size=8, person=b"ptk-key-id").hexdigest()

    def for_scheme(self, scheme: Scheme) -> SecretKey:
        """Use the same key for another job on the same ring.

        Raises
        ------
        BadInput
            If the scheme needs another ring, more hospitals or more flooding than the key was made for.
        """
        problem = misfit(self.scheme, scheme)
        if problem:
            raise BadInput(f"key {self.key_id}: {problem}: create another")
        return SecretKey(scheme, self._secret, self.use)

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
        head = KeyRequest(self.scheme, self.use).to_dict() | {"key_id": self.key_id, "secret_bytes": len(self._secret)}
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
        made = KeyRequest.from_dict(json.loads(head))
        return cls(made.scheme, secret, made.use)

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
            _check_mode(target)
            data = target.read_bytes()
        except OSError as error:
            raise BadInput(f"{target}: the key can't be read ({error.strerror})") from None
        return cls.from_bytes(data, str(target))

    def __repr__(self) -> str:
        return f"SecretKey({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise Refused("a secret key is never pickled: carry its file to the hospitals instead")


def create(path: str | Path, request: KeyRequest) -> KeyInfo:
    """Make a key and write it to a new file; see :meth:`SecretKey.save`."""
    key = SecretKey.create(request.scheme, request.use)
    key.save(path)
    return _info(key, path)


def inspect(path: str | Path) -> KeyInfo:
    """Say what a key file is for, after checking that it is whole and works."""
    key = SecretKey.load(path)
    key.native()
    return _info(key, path)


def rotate(path: str | Path) -> KeyInfo:
    """Replace the key in a file by a fresh one for the same use.

    The old key stays beside it as ``NAME.KEYID.retired``, mode 0600, until its owner deletes it: what was encrypted
    under it can't be read otherwise. Decryptions are counted anew for the new key.
    """
    target = Path(path)
    old = SecretKey.load(target)
    fresh = SecretKey.create(old.scheme, old.use)
    temporary = target.with_name(f"{target.name}.{fresh.key_id}.new")
    fresh.save(temporary)
    # The old key stays readable under one of its two names at every moment.
    os.link(target, target.with_name(f"{target.name}.{old.key_id}.retired"))
    os.replace(temporary, target)
    return _info(fresh, target)


def read_head(path: str | Path) -> KeyInfo:
    """Say what a key file is for without reading a byte of the secret.

    Raises
    ------
    BadInput
        If it can't be read, or is no key file.
    Refused
        If others than its owner may read it.
    """
    target = Path(path)
    try:
        _check_mode(target)
        with target.open("rb", buffering=0) as file:  # unbuffered: nothing beyond the line comes into memory
            if file.read(len(_MAGIC)) != _MAGIC:
                raise BadInput(f"{target}: this is no key file of pettoolkit (make one with `pettoolkit keys create`)")
            line = file.readline(_LONGEST_HEAD)
    except OSError as error:
        raise BadInput(f"{target}: the key can't be read ({error.strerror})") from None
    try:
        head = json.loads(line)
        made = KeyRequest.from_dict(head)
        return KeyInfo(str(head["key_id"]), made.scheme, str(target), made.use)
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{target}: the key file is damaged: copy it again from where it was made") from None


def find(folder: Path, purpose: str, scheme: Scheme, run: str) -> KeyInfo:
    """The key file in a hospital's folder for a job.

    Raises
    ------
    Refused
        If there is none; the line says what the keys that are there were made for.
    """
    problems: list[str] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        info = _head(path, _signature(path))
        problem = _unfit(info, purpose, scheme, run)
        if problem is None:
            return info
        problems.append(f"{Path(info.path).name} {problem}")
    wanted = f"it has no encryption key for {purpose} on ring {scheme.ring[0]} with primes {scheme.ring[1]}"
    why = "; ".join(problems) if problems else "carry the key file there before the run"
    raise Refused(f"{wanted} ({why}; `pettoolkit keys create` makes it)")


def misfit(made: Scheme, scheme: Scheme) -> str | None:
    """Why a key of one scheme can't do the job of another, or None if it can."""
    if scheme.ring != made.ring:
        return f"made for ring {made.ring}, this job needs {scheme.ring}"
    if scheme.sites > made.sites:
        return f"made for {made.sites} hospitals, this job has {scheme.sites}"
    if scheme.flooding_bits > made.flooding_bits:
        return f"made for {made.flooding_bits} bits of flooding, this job needs {scheme.flooding_bits}"
    return None


def load_once(path: str | Path) -> SecretKey:
    """As :meth:`SecretKey.load`, read again only if the file changed."""
    return _loaded(Path(path), _signature(Path(path)))


Signature = tuple[int, ...]


def _signature(path: Path) -> Signature:
    """What changes when a file is replaced, written or opened to others."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadInput(f"{path}: the key can't be read ({error.strerror})") from None
    return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


@lru_cache(maxsize=64)
def _head(path: Path, _: Signature) -> KeyInfo:
    return read_head(path)


@lru_cache(maxsize=16)
def _loaded(path: Path, _: Signature) -> SecretKey:
    return SecretKey.load(path)


def _unfit(info: KeyInfo, purpose: str, scheme: Scheme, run: str) -> str | None:
    if info.use.purpose != purpose:
        return f"is for {info.use}"
    if info.use.runs and run not in info.use.runs:
        return f"is for {info.use}, which does not have this run"
    problem = misfit(info.scheme, scheme)
    return None if problem is None else f"was {problem}"


def _info(key: SecretKey, path: str | Path) -> KeyInfo:
    return KeyInfo(key.key_id, key.scheme, str(path), key.use)


def _check_mode(target: Path) -> None:
    mode = target.stat().st_mode & 0o777
    if mode & 0o077:
        raise Refused(f"{target}: mode {mode:04o} lets others read the key; run `chmod 600 {target}`")
