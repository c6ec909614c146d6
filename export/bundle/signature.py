"""Signed bundles: an Ed25519 signature (RFC 8032) over manifest.json, which holds the SHA-256 of
every other file.

Hashes show damage; a signature shows who made the bundle, to whoever has the maker's public key
from elsewhere. Keys are PEM files, as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out public.pem
"""

from pathlib import Path

from xmae.errors import UserError
from xmae.files import read_json, write_json

SIGNATURE = "manifest.sig"


def sign(manifest, key):
    """Write manifest.sig beside a manifest.

    Parameters
    ----------
    manifest : str or Path
        manifest.json of a bundle.
    key : str or Path
        Private Ed25519 key, PEM without a password.

    Raises
    ------
    UserError
        If the key cannot be used or cryptography is not installed.
    """
    private = load_key(key, "load_pem_private_key", password=None)
    write_json(
        Path(manifest).with_name(SIGNATURE),
        {
            "algorithm": "Ed25519",
            "public_key": private.public_key().public_bytes_raw().hex(),
            "signature": private.sign(Path(manifest).read_bytes()).hex(),
        },
    )


def signer(manifest, public_key=None):
    """Public key (hexadecimal) whose signature stands beside a manifest; None if it is not signed.

    Parameters
    ----------
    manifest : str or Path
        manifest.json of a bundle.
    public_key : str, Path or None
        PEM file of the key that must have signed; by default any key will do, which shows damage
        only.

    Raises
    ------
    UserError
        If the signature is not of this manifest, or not of this key, or `public_key` is given and
        there is none.
    """
    from_file = load_key(public_key, "load_pem_public_key") if public_key else None
    path = Path(manifest).with_name(SIGNATURE)
    if not path.is_file():
        if public_key:
            raise UserError(f"{path}: missing; the bundle is not signed")
        return None
    with_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    record = read_json(path)
    try:
        key, signature = bytes.fromhex(record["public_key"]), bytes.fromhex(record["signature"])
        Ed25519PublicKey.from_public_bytes(key).verify(signature, Path(manifest).read_bytes())
    except (InvalidSignature, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a signature of this manifest ({type(error).__name__})"
        ) from error
    if from_file and from_file.public_bytes_raw() != key:
        raise UserError(f"{path}: signed with another key ({key.hex()[:16]}...) than {public_key}")
    return key.hex()


def load_key(path, loader, **options):
    """An Ed25519 key from a PEM file."""
    with_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    try:
        key = getattr(serialization, loader)(Path(path).read_bytes(), **options)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path}: not a key in PEM without a password ({error})") from error
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise UserError(
            f"{path}: not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519 -out key.pem`"
        )
    return key


def with_cryptography():
    """Raise a `UserError` that names the extra if cryptography is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UserError("cryptography is not installed; pip install 'xmae[edge]'") from error
