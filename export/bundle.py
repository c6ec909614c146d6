"""The bundle: one folder with everything that a watch, a phone or a test bench needs, and a hash of each file.

manifest.json         what is in it: window, pre-processing, models, calibration, metrics, provenance, hashes
teacher.safetensors   float weights, for the PyTorch reference (and student.safetensors)
student_int8.tflite   ... one file per model, precision and format
heads.json            linear heads from embedding to numbers
model_card.md         the same for people
"""

import math
from dataclasses import dataclass
from pathlib import Path

from xmae.errors import UserError
from xmae.export.targets import TARGETS
from xmae.files import read_json, sha256, write_json
from xmae.signals.filters import PPG_BANDPASS, ppg_sos
from xmae.signals.resample import resampling_ratio
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ

SCHEMA_VERSION = 1
REQUIRED = ("window", "preprocessing", "models", "files")
MANIFEST, HEADS = "manifest.json", "heads.json"
RATES = (50, 100, 125)  # Hz: rates for which a bundle lists filter coefficients


def seal(folder, manifest):
    """Write the manifest of a folder with the SHA-256 of every other file in it."""
    folder = Path(folder)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    models = [entry | {"sha256": files[entry["file"]]} for entry in manifest["models"]]
    write_json(folder / MANIFEST, manifest | {"models": models, "files": files})


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : dict
        `manifest.json`.
    heads : dict
        Linear heads, by model and task; see `xmae.evaluation.heads.apply_head`.

    Examples
    --------
    >>> bundle = Bundle.open("runs/demo/bundle")                                # doctest: +SKIP
    >>> bundle.embed(windows.ppg, "student", "litert", "int8").shape            # doctest: +SKIP
    (117, 256)
    """

    path: Path
    manifest: dict
    heads: dict

    @classmethod
    def open(cls, path):
        """Open a folder and check its schema and every file's SHA-256.

        Raises
        ------
        UserError
            If it is no bundle, of another version, window or pre-processing, lacks a file, or a file's hash is wrong.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise UserError(f"{path}: no bundle (no {MANIFEST} in it); make one with `xmae export`")
        manifest = read_json(path / MANIFEST)
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(f"{path}: bundle version {version}, expected {SCHEMA_VERSION}; export it again")
        if missing := [key for key in REQUIRED if key not in manifest]:
            raise UserError(f"{path / MANIFEST}: lacks {', '.join(missing)}")
        window = (manifest["window"].get("sfreq"), manifest["window"].get("n_times"))
        if window != (SFREQ, N_TIMES):
            raise UserError(f"{path}: made for windows of (Hz, samples) {window}, expected {(SFREQ, N_TIMES)}")
        if not same(manifest["preprocessing"], preprocessing()):
            raise UserError(f"{path}: made with another pre-processing than this version's; export it again")
        for name in {HEADS, *(entry["file"] for entry in manifest["models"])} - manifest["files"].keys():
            raise UserError(f"{path / MANIFEST}: has no hash of {name}")
        for name, digest in manifest["files"].items():
            if Path(name).name != name or not (path / name).is_file():
                raise UserError(f"{path}: lacks the file {name}")
            if sha256(path / name) != digest:
                raise UserError(f"{path / name}: damaged or changed since the bundle was written (SHA-256 differs)")
        return cls(path, manifest, read_json(path / HEADS))

    @property
    def models(self):
        """The exported models: dicts with `model`, `format`, `precision`, `file`, `bytes`, `macs`, ..."""
        return self.manifest["models"]

    def entry(self, model, format, precision):
        """The one of `models` with this model, format and precision.

        Raises
        ------
        UserError
            If there is none.
        """
        for entry in self.models:
            if (entry["model"], entry["format"], entry["precision"]) == (model, format, precision):
                return entry
        raise UserError(f"{self.path}: holds no {precision} {model} for {format}")

    def session(self, entry, threads=1):
        """Open one of `models` in its runtime: a `Session` from scaled windows (n, 1000) to embeddings (n, D)."""
        return TARGETS[entry["format"]].open_model(self.path / entry["file"], threads)

    def embed(self, ppg, model="student", format="litert", precision="int8", threads=1):
        """Embed cleaned windows (n, 1000) at 100 Hz, in any unit: min-max scaled here; returns float32 (n, D)."""
        return self.session(self.entry(model, format, precision), threads)(minmax_scale(ppg)[0])


def preprocessing():
    """How raw PPG becomes a window, with the numbers that another implementation needs."""
    return {
        "cleaning": {
            "what": "Butterworth band-pass of order 2, run forward and backward over the recording (zero phase)",
            "band_hz": list(PPG_BANDPASS),
            "sos": {str(rate): ppg_sos(rate).tolist() for rate in RATES},
        },
        "resampling": {
            "what": f"polyphase to {SFREQ} Hz, Kaiser window (beta 5), 20 max(up, down) + 1 taps",
            "up_down": {str(rate): list(resampling_ratio(rate, SFREQ)) for rate in RATES},
        },
        "scaling": "each window to [-1, 1] by its own minimum and maximum; a flat one to zeros",
    }


def same(a, b):
    """Whether two JSON values are equal, numbers but for rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if numbers else a == b
