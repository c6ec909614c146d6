"""`xmae bundle verify`: is a bundle what was written, by whom, and do its models still compute what they did?"""

from pathlib import Path

import numpy as np

from xmae.errors import UserError
from xmae.export.bundle import MANIFEST, RUN_RECORDS, Bundle
from xmae.export.provenance import tool_versions
from xmae.export.signature import SIGNATURE, signer
from xmae.export.targets import TARGETS, runs_here
from xmae.signals.window import N_TIMES, SFREQ

LOWEST = 0.9  # cosine of an int8 model to fp32 on a sine wave of pulse rate: far below what any sound file gives


def verify(bundle: str, public_key: str | None = None, run: bool = True) -> dict:
    """Check a bundle: schema, every file's SHA-256, signature, foreign files, tools, and that its models run.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed it. Without one, a signature is checked against the key that
        it names itself, which shows damage, not who signed.
    run : bool
        Also run each model for which this machine has a runtime, on one made-up window, against the others.

    Returns
    -------
    dict
        `files` (how many were hashed), `schema_version`, `signed_by` (public key in hexadecimal, or null), `trusted`
        (the key is the one given), `unlisted` files, `other_versions` of the tools here ({name: [made with, here]}),
        `models`: {file: "runs", "not run here" or why not}, `passed`; "out". The exit code is 1 unless passed.

    Raises
    ------
    UserError
        If it is no bundle, of a newer schema, a file is missing or changed, or the signature is wrong.
    """
    opened = Bundle.open(bundle)
    signed_by = signer(opened.path / MANIFEST, public_key)
    listed = {MANIFEST, SIGNATURE, *RUN_RECORDS, *opened.manifest["files"]}
    unlisted = sorted(path.name for path in opened.path.iterdir() if path.name not in listed)
    here = tool_versions({entry["format"] for entry in opened.all_models})
    models = run_models(opened) if run else {}
    return {
        "files": len(opened.manifest["files"]),
        "schema_version": opened.manifest["schema_version"],
        "signed_by": signed_by,
        "trusted": bool(signed_by and public_key),
        "unlisted": unlisted,
        "other_versions": {
            name: [made, here[name]]
            for name, made in opened.manifest.get("tools", {}).items()
            if here.get(name, made) != made
        },
        "models": models,
        "passed": not unlisted and all(state in ("runs", "not run here") for state in models.values()),
        "summary": [
            f"{len(opened.manifest['files'])} files are what was written",
            *(f"{name}: not listed in the manifest" for name in unlisted),
            *(f"{name}: {state}" for name, state in models.items()),
            f"signed by {signed_by}" if signed_by else "not signed",
        ],
        "out": str(Path(bundle)),
    }


def run_models(bundle):
    """{file: "runs", "not run here", or why it does not}; the same model's files must agree with its fp32 ones."""
    window = np.sin(2 * np.pi * 1.2 * np.arange(N_TIMES) / SFREQ, dtype=np.float32)[None]  # 72 beats/min
    states, first = {}, {}
    for entry in sorted(bundle.all_models, key=lambda entry: entry["precision"] != "fp32"):
        if TARGETS.get(entry["format"]) is None or not runs_here(entry["format"]):
            states[entry["file"]] = "not run here"
            continue
        try:
            embedding = bundle.session(entry)(window)[0].astype(np.float64)
        except UserError as error:
            states[entry["file"]] = str(error)
            continue
        other = first.setdefault(entry["model"], embedding)
        cosine = embedding @ other / (np.linalg.norm(embedding) * np.linalg.norm(other) + 1e-30)
        states[entry["file"]] = "runs" if cosine >= LOWEST else f"differs from the others (cosine {cosine:.3f})"
    return states
