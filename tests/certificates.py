"""A throw-away certificate for content credentials, as C2PA wants it (specification 2.2, section 14.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def certificate(
    key: Any = None, *, start: timedelta = -DAY, end: timedelta = 30 * DAY, password: bytes | None = None
) -> tuple[bytes, bytes]:
    """A certificate with its authority's, and its private key, both PEM; valid from `start` to `end`, from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _builder("Authority of a test", "Authority of a test", authority_key.public_key(), start, end)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    authority = authority.add_extension(_usage(signs_pictures=False), critical=True)
    leaf = _builder("Shop of a test", "Authority of a test", key.public_key(), start, end)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    leaf = leaf.add_extension(_usage(signs_pictures=True), critical=True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    leaf = leaf.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    chain = b"".join(
        made.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for made in (leaf, authority)
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return chain, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def _builder(name: str, issuer: str, key: Any, start: timedelta, end: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test only")]
    )


def _usage(*, signs_pictures: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs_pictures,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs_pictures,
        crl_sign=not signs_pictures,
        encipher_only=False,
        decipher_only=False,
    )
