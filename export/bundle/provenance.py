"""Where a bundle comes from: exact versions of every tool, the data it saw, and under which
licences.
"""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from xmae.data.bidmc import bidmc_files
from xmae.export.targets.environments import ENVIRONMENTS
from xmae.export.targets.registry import TARGETS

TOOLS = ("xmae", "torch", "numpy", "scipy", "scikit-learn", "safetensors")  # of every bundle
# what a student's provenance is close to, by its entry
COSINE_TO = {"cosine": "its teacher", "cosine_to_float": "itself in float, once rounded"}
BIDMC_LICENCE = (
    "BIDMC PPG and Respiration Dataset 1.0.0, Open Data Commons Attribution License 1.0 "
    "(Pimentel et al. 2017, doi:10.1109/TBME.2016.2613124; PhysioNet)"
)


def tool_versions(formats):
    """Return the versions of Python and of each tool that writes one of these formats: {name:
    version}.
    """
    targets = [TARGETS[name] for name in formats if name in TARGETS]
    names = {*TOOLS, *chain.from_iterable(target.tools for target in targets)}
    found = {name: installed(name) for name in names}
    for environment in {target.environment for target in targets if target.environment}:
        found |= dict(package.split("==") for package in ENVIRONMENTS[environment])
    return {
        "python": platform.python_version(),
        **{name: found[name] for name in sorted(found) if found[name]},
    }


def installed(package):
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def data_provenance(store, calibration, licence=None):
    """Record which data calibrated a bundle and which data it was judged on.

    Parameters
    ----------
    store : WindowStore
    calibration : Calibration
        Windows that set the int8 ranges.
    licence : str or None
        Licence of the recordings; known for those that the package ships.

    Returns
    -------
    dict
        `sources`: file names of the recordings; `shards_sha256`: one SHA-256 over those of all
        shards; `settings` of the preparation; `subjects_by_split`; `calibration`: windows,
        subjects, and SHA-256 of the samples; `licence`.
    """
    sources = sorted({shard.source for shard in store.entries})
    shipped = {path.name for path in bidmc_files()}
    if licence is None and shipped.issuperset(sources):
        licence = BIDMC_LICENCE
    return {
        "sources": sources,
        "shards_sha256": hashlib.sha256(
            "".join(shard.sha256 for shard in store.entries).encode()
        ).hexdigest(),
        "settings": names_only(store.meta.get("settings", {})),
        "subjects_by_split": store.meta.get("subjects_by_split", {}),
        "calibration": calibration.describe()
        | {"ppg_sha256": hashlib.sha256(calibration.ppg.tobytes()).hexdigest()},
        "licence": licence or "not stated",
    }


def without_folders(origin):
    """Return an encoder's provenance with file names in place of paths, which would reveal folders
    of the training machine.

    Parameters
    ----------
    origin : dict or None
        Attribute `provenance` of an encoder; that of its teacher, of which it has learnt, is in it.
    """
    if not isinstance(origin, dict):
        return origin
    changed = {"settings": names_only(origin["settings"])} if "settings" in origin else {}
    for ancestor in ("teacher", "begun_from"):
        if ancestor in origin:
            changed[ancestor] = without_folders(origin[ancestor])
    return origin | changed


def names_only(settings):
    """Return settings with every path cut to its last part."""
    return {k: Path(v).name if isinstance(v, str) and "/" in v else v for k, v in settings.items()}
