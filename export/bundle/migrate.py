"""Versions of a bundle's manifest: older ones are brought up to date as they are read, newer ones
refused.

1  created_with, licence (one string), calibration at the top level, export_s in each model
2  tools, licences (of models and data), data with calibration in it, no times: made twice, it is
   the same to the byte
"""

from xmae.errors import UserError

SCHEMA_VERSION = 2


def from_1(manifest):
    """Turn a manifest of version 1 into version 2; fields that it did not have become "not
    recorded".
    """
    kept = {
        key: value
        for key, value in manifest.items()
        if key not in ("created_with", "licence", "calibration")
    }
    if isinstance(kept.get("models"), list):
        kept["models"] = [without(entry, "export_s") for entry in kept["models"]]
    return kept | {
        "schema_version": 2,
        "tools": manifest.get("created_with", {}),
        "data": {"calibration": manifest.get("calibration"), "licence": "not recorded"},
        "licences": {"models": manifest.get("licence", "not recorded"), "data": "not recorded"},
    }


def without(entry, key):
    """Return a JSON object without a field; any other value as it is, for the schema to refuse."""
    return {k: v for k, v in entry.items() if k != key} if isinstance(entry, dict) else entry


MIGRATIONS = {1: from_1}  # version: to the next one


def migrated(manifest, path):
    """Return a manifest of any version as this version writes it.

    Parameters
    ----------
    manifest : dict
        As read; not changed.
    path : Path
        For messages.

    Raises
    ------
    UserError
        If it has no version, or a newer one.
    """
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(
            f"{path}: bundle version {version}, expected 1 to {SCHEMA_VERSION}; export it again"
        )
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path}: bundle version {version}, newer than {SCHEMA_VERSION}; update xmae to read it"
        )
    while manifest["schema_version"] < SCHEMA_VERSION:
        manifest = MIGRATIONS[manifest["schema_version"]](manifest)
    return manifest
