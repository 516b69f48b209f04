"""The certificate that signs what leaves the server: the operator's own, or one of a small CA made at first start."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.errors import ConfigError
from serving.config import ServeConfig

CHAIN, KEY, AUTHORITY = "chain.pem", "key.pem", "authority.pem"
# nobody stamps the time of our signatures, so files are valid as long as the certificate is
LIFETIME = timedelta(days=20 * 365)


class Identity(NamedTuple):
    """Who signs: PEM of the certificate chain (leaf first), of its ES256 key, and of the root that vouches for it."""

    chain: bytes
    key: bytes
    authority: bytes


def load_identity(chain: Path, key: Path) -> Identity:
    """The operator's identity; the last certificate of the chain is its root.

    Raises:
        ConfigError: a file cannot be read or holds something else.
    """
    try:
        text, secret = chain.read_bytes(), key.read_bytes()
        root = x509.load_pem_x509_certificates(text)[-1]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot sign with {chain} and {key}: {error}; give a PEM chain and its ES256 key") from error
    return Identity(text, secret, root.public_bytes(Encoding.PEM))


def identity_of(config: ServeConfig) -> Identity:
    """The operator's identity where one is configured, else the server's own.

    Raises:
        ConfigError: only one of certificate and key is given, or they cannot be read.
    """
    if config.certificate is None and config.private_key is None:
        return own_identity(config.identity)
    if config.certificate is None or config.private_key is None:
        raise ConfigError("certificate and private_key go together; give both, or neither for a certificate made here")
    return load_identity(config.certificate, config.private_key)


def own_identity(folder: Path) -> Identity:
    """The identity kept in a folder; made there when there is none, by whichever server comes first."""
    if not folder.is_dir():
        draft = folder.with_name(f".{folder.name}.{uuid4().hex}")
        draft.mkdir(parents=True, mode=0o700)
        made = make_identity()
        for name, content in ((CHAIN, made.chain), (KEY, made.key), (AUTHORITY, made.authority)):
            with os.fdopen(os.open(draft / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(content)
        try:
            draft.rename(folder)
        except OSError:  # another server was first: a folder that is not empty is not replaced
            for path in draft.iterdir():
                path.unlink()
            draft.rmdir()
    return Identity(*((folder / name).read_bytes() for name in (CHAIN, KEY, AUTHORITY)))


def make_identity() -> Identity:
    """A new root and a leaf of it. The root's key is thrown away: it vouches for nothing else, ever."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("Skyloom root", "Skyloom root", root_key.public_key(), root_key, is_root=True)
    leaf = _certificate("Skyloom server", "Skyloom root", key.public_key(), root_key, is_root=False)
    authority = root.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Identity(leaf.public_bytes(Encoding.PEM) + authority, secret, authority)


def _certificate(
    subject: str,
    issuer: str,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_root: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = dict.fromkeys(_USAGES, False) | dict.fromkeys(_ROOT_USAGES if is_root else _LEAF_USAGES, True)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    if not is_root:  # C2PA refuses leaves without a purpose that it knows
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(signer, hashes.SHA256())


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_ROOT_USAGES, _LEAF_USAGES = ("key_cert_sign", "crl_sign"), ("digital_signature",)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Skyloom"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )
