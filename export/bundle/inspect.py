"""`xmae bundle inspect`: what is in a bundle, without running any of it."""

from xmae.export.bundle.bundle import MANIFEST, Bundle
from xmae.export.bundle.schema import Licences
from xmae.files import read_json


def inspect(bundle: str, public_key: str | None = None) -> dict:
    """Describe the content of a bundle: models, window, tools, data, licences, signature.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed it. Without one, nobody is named as the
        signer.

    Returns
    -------
    dict
        `schema_version`, as written and as migrated to; `models`: one row per file with size
        (bytes), parameters, MAC and centred cosine to PyTorch; `window`, `tools`, `data`,
        `licences`, `signature` ("verified", "unverified" or "unsigned"), `signed_by` (null unless
        verified); "out" is the same as text.

    Raises
    ------
    UserError
        If it is no bundle, of a newer schema, or a file is missing or changed, or the
        signature is wrong.
    """
    opened = Bundle.open(bundle, public_key)
    manifest = opened.manifest
    columns = ("model", "format", "precision", "file", "bytes", "params", "macs")
    models = [
        {key: getattr(entry, key) for key in columns}
        | {"centred_cosine": entry.drift.centred_cosine_median if entry.drift else None}
        for entry in opened.all_models
    ]
    licences = manifest.licences or Licences(models="not recorded", data="not recorded")
    result = {
        "name": manifest.name,
        "schema_version": {
            "written": read_json(opened.path / MANIFEST)["schema_version"],
            "read_as": manifest.schema_version,
        },
        "models": models,
        "window": manifest.window.as_json(),
        "tools": manifest.tools,
        "data": manifest.data,
        "licences": licences.as_json(),
        "signature": opened.verdict.state,
        "signed_by": opened.verdict.key,
    }
    return result | {"out": as_text(opened, result)}


def as_text(bundle, result):
    """Return the description of a bundle as lines for a terminal."""
    window, version = result["window"], result["schema_version"]["written"]
    lines = [
        (
            f"{bundle.path}: {result['name']}, schema {version}, windows of {window['n_times']} "
            f"samples at {window['sfreq']} Hz"
        ),
        f"{'file':34}{'kB':>8}{'M MAC':>8}{'cosine':>9}",
    ]
    for row in result["models"]:
        numbers = (row["bytes"] or 0) / 1e3, (row["macs"] or 0) / 1e6
        cosine = "" if row["centred_cosine"] is None else f"{row['centred_cosine']:.4f}"
        lines.append(f"{row['file']:34}{numbers[0]:8.0f}{numbers[1]:8.2f}{cosine:>9}")
    lines += [
        f"licence of the models: {result['licences']['models']}",
        f"licence of the data: {result['licences']['data']}",
        "made with " + ", ".join(f"{name} {number}" for name, number in result["tools"].items()),
        str(bundle.verdict),
    ]
    return "\n".join(lines)
