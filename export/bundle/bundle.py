"""The bundle: one folder with everything that a watch, a phone or a test bench needs, and a hash of
each file.

manifest.json         what is in it: window, pre-processing, models, data, tools, metrics,
                      licences, hashes
manifest.sig          who vouches for it: see `xmae.export.bundle.signature`; only in signed bundles
teacher.safetensors   float weights in PyTorch (and student.safetensors, ...)
student_int8.tflite   ... one file per model, precision and format
heads.json            linear heads from embedding to numbers
probes.json           a heart-rate head at chance, where there is one: drift is measured by it
model_card.md         the same for people
c/                    libxmae with the students, for firmware: see `xmae.export.targets.c.package`

Made twice from the same inputs with the same tools, every file is the same to the byte; an Ed25519
signature too. Only what the command line adds about the run, `RUN_RECORDS`, differs (paths,
seconds); these are no part of the bundle.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from xmae.errors import UserError
from xmae.evaluation.heads.heads import HEADS
from xmae.export.bundle.beat_rows import RowSession, table_of
from xmae.export.bundle.migrate import migrated
from xmae.export.bundle.schema import Draft, Manifest, checked_heads
from xmae.export.bundle.signature import SIGNATURE, Verdict, sign, signature_of
from xmae.export.targets.light import is_light, open_light
from xmae.files import read_json, sha256, write_json
from xmae.manifest import parsed
from xmae.signals.filters import PPG_BANDPASS, ppg_sos
from xmae.signals.resample import resampling_ratio
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ

MANIFEST, PROBES = "manifest.json", "probes.json"
RUN_RECORDS = ("config.yaml", "metrics.json")
RATES = (50, 100, 125)  # Hz: rates for which a bundle lists filter coefficients


def seal(folder, manifest, key=None):
    """Write the manifest of a folder, with the SHA-256 of every other file in it.

    Parameters
    ----------
    folder : str or Path
    manifest : dict
        The JSON value, as `Draft` describes it.
    key : str, Path or None
        PEM file of an Ed25519 key to sign it with.

    Raises
    ------
    UserError
        If the manifest is not as its schema says, or the key cannot be used.
    """
    folder = Path(folder)
    draft = parsed(manifest, Draft, folder / MANIFEST)
    others = (MANIFEST, SIGNATURE, *RUN_RECORDS)
    files = {name: sha256(folder / name) for name in names_in(folder) if name not in others}
    models = [entry.model_copy(update={"sha256": files[entry.file]}) for entry in draft.models]
    sealed = {"models": [entry.as_json() for entry in models], "files": files}
    write_json(folder / MANIFEST, manifest | sealed)
    (folder / SIGNATURE).unlink(missing_ok=True)  # of what it was before
    if key:
        sign(folder / MANIFEST, key)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
        `manifest.json`.
    heads : dict of str to dict of str to Head
        Linear heads, by model and task.
    verdict : Verdict
        Whether it is signed, and by the key that was given; as text a line for people.
    probes : dict of str to dict of str to Head
        Heads of the heart rate that are at chance, by model and task: they measure drift.

    Examples
    --------
    >>> bundle = Bundle.open("runs/demo/bundle")                                # doctest: +SKIP
    >>> bundle.embed(windows.ppg, "student", "litert", "int8").shape            # doctest: +SKIP
    (117, 256)
    """

    path: Path
    manifest: Manifest
    heads: dict
    verdict: Verdict = Verdict("unsigned")
    probes: dict = field(default_factory=dict)

    @classmethod
    def open(cls, path, public_key=None):
        """Open a folder; check its signature, its schema and every file's SHA-256.

        Parameters
        ----------
        path : str or Path
            The folder.
        public_key : str, Path or None
            PEM file of the Ed25519 key that must have signed it. Without one, a bundle of anybody
            is opened.

        Raises
        ------
        UserError
            If it is no bundle, of a newer version (older ones are migrated as they are read), of
            another window or pre-processing, not as its schema says, lacks a file, or a file's hash
            or the signature is wrong.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise UserError(f"{path}: no bundle (no {MANIFEST} in it); make one with `xmae export`")
        verdict = signature_of(path / MANIFEST, public_key)
        manifest = migrated(read_json(path / MANIFEST), path)
        manifest = parsed(manifest, Manifest, path / MANIFEST)
        window = (manifest.window.sfreq, manifest.window.n_times)
        if window != (SFREQ, N_TIMES):
            raise UserError(
                f"{path}: made for windows of (Hz, samples) {window}, expected {(SFREQ, N_TIMES)}"
            )
        if not same(manifest.preprocessing, preprocessing()):
            raise UserError(
                f"{path}: made with another pre-processing than this version's; export it again"
            )
        named = {HEADS, *(entry.file for entry in manifest.models)}
        for name in named - manifest.files.keys():
            raise UserError(f"{path / MANIFEST}: has no hash of {name}")
        for name, digest in manifest.files.items():
            if not (path / name).is_file():
                raise UserError(f"{path}: lacks the file {name}")
            if sha256(path / name) != digest:
                raise UserError(
                    f"{path / name}: damaged or changed since the bundle was written (SHA-256 "
                    "differs)"
                )
        heads, probes = (
            checked_heads(read_json(path / name), manifest.models, path / name)
            if name in manifest.files
            else {}
            for name in (HEADS, PROBES)
        )
        return cls(path, manifest, heads, verdict, probes)

    @property
    def all_models(self):
        """Return all exported models: a list of `Entry`.

        `params` are those of the encoder, `macs` those of the exported graph.
        """
        return self.manifest.models

    def reads_beats(self, model):
        """Tell whether a model has a timing map beside its embedding, from which beats are read."""
        return any(entry.embedding for entry in self.all_models if entry.model == model)

    def certainty(self, model):
        """Return the certainty table of a model; without one it gives no heart rate:
        `Certainty`.
        """
        return table_of(self.manifest.certainty.get(model))

    @property
    def models(self):
        """Return the models of `all_models` for which this machine has a runtime."""
        from xmae.export.targets.registry import runs_here  # brings PyTorch

        return [entry for entry in self.all_models if runs_here(entry.format)]

    def entry(self, model, format, precision):
        """Return the entry of `all_models` with this model, format and precision.

        Raises
        ------
        UserError
            If there is none.
        """
        for entry in self.all_models:
            if (entry.model, entry.format, entry.precision) == (model, format, precision):
                return entry
        raise UserError(f"{self.path}: holds no {precision} {model} for {format}")

    def drift_heads(self, model):
        """Return the heads that measure a model's drift: its own, and that of the heart rate even
        if it is at chance.
        """
        return self.probes.get(model, {}) | self.heads.get(model, {})

    def trusted_heads(self, model):
        """Return the heads of a model that beat a constant on held-out subjects, in the order of
        heads.json.
        """
        return {task: head for task, head in self.heads.get(model, {}).items() if head.has_skill}

    def at_chance(self, model):
        """Return the labels of the tasks that a model's embedding does not predict better than a
        constant: tasks without a head and, in older bundles, heads without skill.
        """
        trusted, heads = self.trusted_heads(model), self.heads.get(model, {})
        left = [head.label for task, head in heads.items() if task not in trusted]
        return [*self.manifest.metrics.heads_at_chance.get(model, []), *left]

    def session(self, entry, threads=1):
        """Open one of `all_models` in its runtime: a `Session` from scaled windows (n, 1000) to
        embeddings (n, D).

        Raises
        ------
        UserError
            If the runtime is not installed, the file damaged, or it runs on its device only.
        """
        opened = self.open_file(entry, threads)
        return RowSession(opened, entry.embedding) if entry.embedding else opened

    def open_file(self, entry, threads=1):
        """Open one of `all_models` as a function that returns all its outputs for windows; see
        `session`.
        """
        if is_light():
            return open_light(self.path / entry.file, entry.format, threads)
        from xmae.export.targets.registry import TARGETS  # brings PyTorch

        target = TARGETS[entry.format]
        if not target.can_open:
            raise UserError(
                f"{self.path / entry.file}: runs on {entry.format} only, not on this machine"
            )
        return target.open(self.path / entry.file, threads)

    def embed(self, ppg, model="student", format="litert", precision="int8", threads=1):
        """Embed cleaned windows (n, 1000) at 100 Hz in any unit, which are min-max scaled here:
        float32 (n, D).
        """
        return self.session(self.entry(model, format, precision), threads)(minmax_scale(ppg)[0])


def names_in(folder):
    """Return the names of all files in a bundle's folder, sorted; those in subfolders as
    "c/README.md".
    """
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def preprocessing():
    """Return the steps from raw PPG to a window, with the numbers that another implementation
    needs.
    """
    return {
        "cleaning": {
            "what": (
                "Butterworth band-pass of order 2, run forward and backward over the recording "
                "(zero phase)"
            ),
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
    """Tell whether two JSON values are equal; numbers may differ by rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if numbers else a == b
