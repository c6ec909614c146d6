"""Signed bundles: an Ed25519 signature (RFC 8032) over manifest.json, which holds the SHA-256 of
every other file.

Hashes show damage; a signature shows who made the bundle, to whoever has the maker's public key
from elsewhere. Keys are PEM files, as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out public.pem
"""

from dataclasses import dataclass
from pathlib import Path

from xmae.errors import UserError
from xmae.export.bundle.schema import Signature
from xmae.files import write_json
from xmae.manifest import read_manifest

SIGNATURE = "manifest.sig"
SMALL_ORDER = {  # y of the points of order 1, 2, 4, 8 (RFC 8032, sign bit off), and those beyond p
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}


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


@dataclass(frozen=True)
class Verdict:
    """What is known about the signer of a bundle.

    Attributes
    ----------
    state : str
        "verified" (signed with the key that was given), "unverified" (the signature fits the key
        that it names itself, which shows damage, not who signed) or "unsigned".
    key : str or None
        Public key in hexadecimal, only where verified.
    """

    state: str
    key: str | None = None

    @property
    def verified(self):
        """Tell whether the given key has signed the manifest."""
        return self.state == "verified"

    def __str__(self):
        return {
            "verified": f"bundle verified: signed by {self.key}",
            "unverified": "bundle not verified: its signature was held against no key of yours; "
            "give --public-key",
            "unsigned": "bundle not verified: it has no signature",
        }[self.state]


def signature_of(manifest, public_key=None):
    """Tell whether a manifest is signed, and whether by the given key: a `Verdict`.

    Parameters
    ----------
    manifest : str or Path
        manifest.json of a bundle.
    public_key : str, Path or None
        PEM file of the key that must have signed; without one, nobody is named.

    Returns
    -------
    Verdict

    Raises
    ------
    UserError
        If the signature is not of this manifest, not of this key or by another algorithm, or a
        key is one that anybody can sign for; or `public_key` is given and there is no signature.
    """
    from_file = load_key(public_key, "load_pem_public_key") if public_key else None
    path = Path(manifest).with_name(SIGNATURE)
    if not path.is_file():
        if public_key:
            raise UserError(f"{path}: missing; the bundle is not signed")
        return Verdict("unsigned")
    with_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    record = read_manifest(path, Signature)
    key, signature = bytes.fromhex(record["public_key"]), bytes.fromhex(record["signature"])
    refuse_small_order(key, path)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, Path(manifest).read_bytes())
    except (InvalidSignature, ValueError) as error:
        raise UserError(
            f"{path}: not a signature of this manifest ({type(error).__name__})"
        ) from error
    if not from_file:
        return Verdict("unverified")
    if from_file.public_bytes_raw() != key:
        raise UserError(f"{path}: signed with another key ({key.hex()[:16]}...) than {public_key}")
    return Verdict("verified", key.hex())


def refuse_small_order(key, where):
    """Raise a `UserError` for a weak public key (32 bytes, a point of small order), for which
    anybody can make signatures.

    Such a key is a point of order 1, 2, 4 or 8, under which a signature may hold for any message.
    """
    if (key[:31] + bytes([key[31] & 0x7F])).hex() in SMALL_ORDER:
        raise UserError(f"{where}: its public key is a weak one that anybody can sign for")


def load_key(path, loader, **options):
    """Return an Ed25519 key from a PEM file."""
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
            f"{path}: not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519 -out "
            "key.pem`"
        )
    if isinstance(key, Ed25519PublicKey):
        refuse_small_order(key.public_bytes_raw(), path)
    return key


def with_cryptography():
    """Raise a `UserError` that names the extra if cryptography is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UserError("cryptography is not installed; pip install 'xmae[edge]'") from error
