"""Certificates for TLS and keys by which hospitals prove who they are: made here, with no other program."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pettoolkit.errors import BadInput

CURVE = ec.SECP384R1()
"""NIST P-384: what Flower takes for node keys, and good for TLS."""

CA_DAYS, DAYS = 3650, 397
"""How long an authority's and a server's certificate are valid; the latter is what browsers accept at most."""

PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True)
class Authority:
    """Who signs certificates: its own certificate, and the key that never leaves the place where it was made."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> Authority:
        """Make an authority that signs itself."""
        key = ec.generate_private_key(CURVE)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA384()), key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Authority:
        """Read an authority's two files."""
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key}: is no elliptic-curve key")
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)

    def save(self, certificate: Path, key: Path) -> None:
        """Write both files; the key is for its owner alone."""
        write(certificate, pem(self.certificate), PUBLIC)
        write(key, _pem(self.key), PRIVATE)

    def issue(self, name: str, hosts: Sequence[str], certificate: Path, key: Path) -> None:
        """Make a server's key and certificate.

        Parameters
        ----------
        name
            Common name.
        hosts
            DNS names and IP addresses under which the server is reached.
        """
        own = ec.generate_private_key(CURVE)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.certificate.subject, own.public_key(), DAYS)
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(signer, critical=False)
        write(certificate, pem(builder.sign(self.key, hashes.SHA384())), PUBLIC)
        write(key, _pem(own), PRIVATE)


def node_key(private: Path, *public: Path) -> None:
    """Make a hospital's node key (OpenSSH form); the public half goes to each place named."""
    key = ec.generate_private_key(CURVE)
    encoding, no_password = serialization.Encoding, serialization.NoEncryption()
    write(private, key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, no_password), PRIVATE)
    text = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"
    for path in public:
        write(path, text, PUBLIC)


def fingerprint(public: Path) -> str:
    """Fingerprint of a public node key, as ``ssh-keygen -l`` shows it."""
    blob = base64.b64decode(public.read_bytes().split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def public_pem(public: Path) -> bytes:
    """A public node key in the form in which a SuperLink registers it.

    Raises
    ------
    BadInput
        If the file holds none.
    """
    try:
        key = serialization.load_ssh_public_key(public.read_bytes())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise BadInput(f"{public}: is no public node key (ask the hospital for the file that rekey named)") from None
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as its file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file with its mode from the first byte on; an existing one is never replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
