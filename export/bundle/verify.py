"""`xmae bundle verify`: is a bundle what was written, by whom, and do its models still compute what
they did?
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.bundle.bundle import MANIFEST, RUN_RECORDS, Bundle, names_in
from xmae.export.bundle.signature import SIGNATURE
from xmae.export.targets.light import OPENERS, is_light
from xmae.signals.scale import minmax_scale
from xmae.version import __version__

# of training subjects, whose windows the models are run on
RECORDINGS = ("bidmc02", "bidmc05", "bidmc06")
SAME, NOT_COMPARED = "the bits of its int8 file", "not compared here"  # of models in C
FP32_NOISE = 1e-4  # see `noise`; measured: 1e-12


def verify(bundle: str, public_key: str | None = None, run: bool = True) -> dict:
    """Check a bundle: schema, every file's SHA-256, signature, foreign files, tools, and whether
    its models run.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed it. Without one, a signature is checked
        against the key that it names itself, which shows damage, not who signed.
    run : bool
        Also run each model for which this machine has a runtime, on a few shipped windows, against
        PyTorch with the bundle's float weights.

    Returns
    -------
    dict
        `files` (how many were hashed), `schema_version`, `signature` ("verified": by the key
        given; "unverified" or "unsigned"), `signed_by` (public key in hexadecimal, null unless
        verified), `unlisted` files, `other_versions` of the tools
        here ({name: [made with, here]}), `models`: {file: "runs", "not run here" or why not},
        `library`: {model in C: whether the folder `c` is what its int8 file gives}, `passed`;
        "out". The exit code is 1 unless passed.

    Raises
    ------
    UserError
        If it is no bundle, of a newer schema, a file is missing or changed, or the signature is
        wrong.
    """
    opened = Bundle.open(bundle, public_key)
    listed = {MANIFEST, SIGNATURE, *RUN_RECORDS, *opened.manifest.files}
    unlisted = [name for name in names_in(opened.path) if name not in listed]
    here = versions_here(opened)
    models = run_models(opened) if run else {}
    library = check_library(opened) if run else {}
    return {
        "files": len(opened.manifest.files),
        "schema_version": opened.manifest.schema_version,
        "signature": opened.verdict.state,
        "signed_by": opened.verdict.key,
        "unlisted": unlisted,
        "other_versions": {
            name: [made, here[name]]
            for name, made in opened.manifest.tools.items()
            if here.get(name, made) != made
        },
        "models": models,
        "library": library,
        "passed": not unlisted
        and all(state in ("runs", "not run here") for state in models.values())
        and all(state in (SAME, NOT_COMPARED) for state in library.values()),
        "summary": [
            f"{len(opened.manifest.files)} files are what was written",
            *(f"{name}: not listed in the manifest" for name in unlisted),
            *(f"{name}: {state}" for name, state in models.items()),
            *(f"libxmae, {name}: {state}" for name, state in library.items()),
            str(opened.verdict),
        ],
        "out": str(Path(bundle)),
    }


def versions_here(bundle):
    """Return {tool: version} on this machine of the tools that made a bundle; {} without
    PyTorch.
    """
    if is_light():
        return {}
    from xmae.export.bundle.provenance import tool_versions  # brings PyTorch

    return tool_versions({entry.format for entry in bundle.all_models})


def runs_here(format):
    """Tell whether this machine has a runtime for a format."""
    if is_light():
        return format in OPENERS
    from xmae.export.targets.registry import runs_here  # brings PyTorch

    return runs_here(format)


def saturated(format, path):
    """Return the names of the biases in an int8 file that overflow 32 bits; [] without PyTorch."""
    if is_light():
        return []
    from xmae.export.targets.registry import TARGETS  # brings PyTorch

    return TARGETS[format].saturated(path)


def run_models(bundle):
    """Return {file: "runs", "not run here", or why it fails}; each file is compared with the
    bundle's float weights in PyTorch.

    In a bundle without the weights of a model, and without PyTorch, its first file (fp32 before
    others) takes their place.
    """
    ppg, states, references = some_windows(), {}, {}
    for entry in sorted(bundle.all_models, key=lambda entry: entry.precision != "fp32"):
        if not runs_here(entry.format):
            states[entry.file] = "not run here"
            continue
        if full := saturated(entry.format, bundle.path / entry.file):
            states[entry.file] = f"the bias {full[0]} does not fit into 32 bits; export it anew"
            continue
        try:
            embedding = bundle.session(entry)(ppg)
        except UserError as error:
            states[entry.file] = str(error)
            continue
        model = entry.model
        if model not in references:
            weights = bundle.path / f"{model}.safetensors"
            has_reference = weights.is_file() and not is_light()
            references[model] = in_pytorch(weights, ppg) if has_reference else embedding
        lost, most = noise(embedding, references[model]), most_noise(entry, references[model])
        differs = (
            f"differs from its float weights (error {lost:.2g} of the variance, expected "
            f"{most:.2g} at most)"
        )
        states[entry.file] = "runs" if lost <= most else differs
    return states


def check_library(bundle):
    """Rewrite the folder `c` from the int8 files and compare it byte by byte: {model in C: `SAME`,
    `NOT_COMPARED` or what differs}.
    """
    described = bundle.manifest.c
    if described is None:
        return {}
    names = [model.name for model in described.models]
    if is_light() or described.version != __version__:
        return dict.fromkeys(names, NOT_COMPARED)
    from xmae.export.targets.c.package import FOLDER, PackagedStudent, write_package

    students = [
        PackagedStudent(
            model.model, model.name, bundle.path / model.int8,
            bundle.heads.get(model.model, {}), bundle.certainty(model.model),
        )
        for model in described.models
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_package(folder, students)
        other = [
            name
            for name in names_in(Path(folder))
            if not same_bytes(Path(folder) / name, bundle.path / FOLDER / name)
        ]
    if not other:
        return dict.fromkeys(names, SAME)
    return {name: fault_of(name, other) for name in names}


def fault_of(name, other):
    """Name a model's own file among those that differ, or else the first of them."""
    own = [file for file in other if Path(file).stem == f"xmae_model_{name}"]
    return f"{(own or other)[0]} differs from what its int8 file gives"


def same_bytes(a, b):
    """Tell whether two files hold the same bytes."""
    return b.is_file() and a.read_bytes() == b.read_bytes()


def some_windows():
    """Return scaled windows (12, 1000) of shipped recordings."""
    light, parts = is_light(), []
    for path in (path for path in bidmc_files() if path.stem in RECORDINGS):
        recording = read_recording(path)
        windows, _ = (
            prepare_recording(replace(recording, ecg=None), min_quality=-1, judge=False)
            if light
            else prepare_recording(recording)
        )
        scaled = minmax_scale(windows.ppg)[0]
        parts.append(scaled[np.linspace(0, len(scaled) - 1, 4).round().astype(int)])
    return np.concatenate(parts)


def in_pytorch(weights, ppg):
    """Return the embeddings (n, D) of scaled windows (n, 1000) by the encoder of a safetensors
    file.
    """
    import torch

    from xmae.models import load_encoder

    with torch.no_grad():
        return load_encoder(weights)(torch.from_numpy(ppg)[:, None]).numpy()


def noise(embedding, reference):
    """Return the mean squared error of embeddings (n, D) over their variance between windows.

    It shows a wrong scale, which a cosine does not show. The plain cosine is also flattered by the
    mean that all embeddings share.
    """
    if embedding.shape != reference.shape:
        return np.inf
    return float(
        np.square(embedding - reference).mean() / np.square(reference - reference.mean(0)).mean()
    )


def most_noise(entry, reference):
    """Return the largest `noise` of a sound file: rounding for fp32, ten times the noise recorded
    at export for others.

    Noise is about twice one minus the centred cosine. These windows are not those that the file was
    measured on, so a twentieth of the variance is granted to all. Where the output's own step is
    coarse beside embeddings (n, D) that hardly differ, its rounding comes on top. More than half of
    the variance is granted to none.
    """
    if entry.precision == "fp32":
        return FP32_NOISE
    recorded = entry.drift.centred_cosine_median if entry.drift else 1
    step = (entry.output.scale if entry.output else None) or 0
    variance = np.square(reference - reference.mean(0)).mean()
    rounding = step**2 / 12 / max(variance, 1e-30)
    return float(min(np.clip(10 * 2 * (1 - recorded), 0.05, 0.5) + rounding, 0.5))
