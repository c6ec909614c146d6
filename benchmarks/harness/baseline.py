"""The fp32 PyTorch embeddings that all exported files are compared with, recorded once, on a GPU
where there is one.

`reference.npz` holds, for each model of a bundle, the embeddings of the store's test windows (which
are named by record and start time) and the mean embedding of training windows; `reference.json`
says where they were made and how long a window took. A machine without a GPU, or without PyTorch at
full speed, can then check a bundle against them.
"""

import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.rows import Spread
from xmae.benchmarks.harness.sessions import weight_files
from xmae.data.recording.sizes import read_arrays
from xmae.errors import UserError, refusing
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.probe import refuse_seen
from xmae.export.bundle.beat_rows import float_rows
from xmae.files import atomic_file, sha256, write_json
from xmae.manifest import Digest, Free, Line, Number, OpenSchema, Word, checked, read_manifest
from xmae.models import load_encoder
from xmae.models.beat_student import BeatStudent
from xmae.models.student import count_macs
from xmae.progress import stage
from xmae.quantize.calibration import evenly
from xmae.quantize.layers import centred_cosine
from xmae.signals.scale import minmax_scale

KEYS = ("subject", "record", "start_s")  # what names a window
# training windows behind the mean embedding, evenly spaced over the training part
MEAN_WINDOWS = 512
COMPARED = 64  # test windows on which bf16 is compared with fp32


class ReferenceInfo(OpenSchema):
    """What `reference.json` says of a reference."""

    device: Line
    weights: dict[Word, Digest]
    latency_ms: dict[Word, Number] = {}
    precisions: list[dict[Word, Free]] = []


@dataclass
class Reference:
    """fp32 embeddings of the test windows, by model.

    Attributes
    ----------
    embeddings : dict of str to float32 array, shape (n, D)
    train_mean : dict of str to float32 array, shape (D,)
    subject, record, start_s : arrays, shape (n,)
        Identity of each window.
    rows : dict of float32 array, shape (n, D)
        By model that reads beats: embedding and timing map.
    info : dict
        `device` (its name), `torch` (version), `latency_ms` (by model: median for one window),
        `weights` (SHA-256 by model) and, if it was made to be kept, `precisions` (a row for each
        model in fp32 and bf16; see `measure_precisions`).
    """

    embeddings: dict
    train_mean: dict
    subject: np.ndarray
    record: np.ndarray
    start_s: np.ndarray
    info: dict
    rows: dict = field(default_factory=dict)


def make_reference(bundle, windows, device=None, precisions=False):
    """Embed the test windows with the fp32 weights of a bundle.

    Parameters
    ----------
    bundle : Bundle
        Its weights are used, `teacher.safetensors` and those of its students.
    windows : Windows
        All windows of a store; those of the split "test" are embedded, those of "train" give the
        mean.
    device : str, optional
        Default: "cuda" where there is one, else "cpu".
    precisions : bool
        Also time every model there in fp32 and bf16.

    Returns
    -------
    Reference

    Raises
    ------
    UserError
        If the bundle has no fp32 weights, or the store no test or no training windows.
    """
    if not weight_files(bundle):
        raise UserError(
            f"{bundle.path}: has no fp32 weights to make a reference from; name one that was "
            "recorded"
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    test = windows.select(windows.split == "test")
    train = np.flatnonzero(windows.split == "train")
    if not len(test.ppg) or not len(train):
        raise UserError(
            "the store needs test and training windows for a reference; prepare it with both"
        )
    train = windows.ppg[evenly(train, MEAN_WINDOWS)]
    name = torch.cuda.get_device_name() if device.startswith("cuda") else hardware()["cpu"]
    info = {"device": name, "torch": torch.__version__, "latency_ms": {}, "weights": {}}
    embeddings, train_mean, whole = {}, {}, {}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for model, path in weight_files(bundle).items():
            encoder = load_encoder(path).to(device).eval()
            refuse_seen(encoder, test.subject)
            stage(f"{model}: float embeddings of {len(test)} test windows in PyTorch")
            embeddings[model] = embed_windows(encoder, test, progress=True)
            train_mean[model] = embed_windows(encoder, train, progress=True).mean(axis=0)
            if isinstance(encoder, BeatStudent):
                whole[model] = float_rows(encoder, minmax_scale(test.ppg)[0])
            info["latency_ms"][model] = _latency_ms(encoder, test.ppg[:1])
            info["weights"][model] = sha256(path)
            if precisions:
                rows = measure_precisions(encoder, evenly(test.ppg, COMPARED), train_mean[model])
                info.setdefault("precisions", []).extend({"model": model} | row for row in rows)
    return Reference(embeddings, train_mean, test.subject, test.record, test.start_s, info, whole)


def save_reference(reference, out):
    """Write `reference.npz` and `reference.json` into the folder `out`."""
    arrays = {f"embedding/{model}": x for model, x in reference.embeddings.items()}
    arrays |= {f"train_mean/{model}": x for model, x in reference.train_mean.items()}
    arrays |= {f"rows/{model}": x for model, x in reference.rows.items()}
    with atomic_file(Path(out) / "reference.npz") as temporary:
        keys = {key: getattr(reference, key) for key in KEYS}
        np.savez_compressed(temporary, **keys, **arrays)
    write_json(Path(out) / "reference.json", reference.info)


def load_reference(path):
    """Read a reference from its folder or its npz file.

    Raises
    ------
    UserError
        If it is missing, truncated or no reference.
    """
    path = Path(path)
    path = path / "reference.npz" if path.is_dir() else path
    info = read_manifest(path.with_suffix(".json"), ReferenceInfo)
    with refusing(path, "a reference"):
        arrays = read_arrays(path, lambda name: True)
        keys = [arrays.pop(key) for key in KEYS]
        parts = {"embedding": {}, "train_mean": {}, "rows": {}}
        for name, x in arrays.items():
            kind, _, model = name.partition("/")
            parts[kind][checked(model, Word, path)] = x
        shapes = {len(x) for x in (*keys, *parts["embedding"].values(), *parts["rows"].values())}
        if len(shapes) != 1 or parts["embedding"].keys() != parts["train_mean"].keys():
            raise UserError(f"{path}: its arrays do not fit each other")
    return Reference(parts["embedding"], parts["train_mean"], *keys, info, parts["rows"])


def refuse_lacking(reference, bundle):
    """Raise a `UserError` if a reference lacks a model of the bundle that runs on this machine."""
    if lacking := {entry.model for entry in bundle.models} - reference.embeddings.keys():
        raise UserError(
            f"the reference has no {' and no '.join(sorted(lacking))}; record it again from this "
            "bundle"
        )
    beats = {entry.model for entry in bundle.models if entry.embedding}
    if lacking := beats - reference.rows.keys():
        raise UserError(
            f"the reference has no beats of {' and '.join(sorted(lacking))}; record it again"
        )


def other_weights(reference, bundle):
    """Return the models whose weights in a bundle differ from those of a reference."""
    made = reference.info["weights"]
    return [
        model for model, path in weight_files(bundle).items() if made.get(model) != sha256(path)
    ]


def reference_windows(reference, windows):
    """Return the windows of a store that a reference was computed on, in its order.

    Raises
    ------
    UserError
        If the store lacks one of them.
    """
    at = {key: i for i, key in enumerate(_names(windows))}
    try:
        return windows.select(np.array([at[key] for key in _names(reference)]))
    except KeyError as error:
        _, record, start = error.args[0]
        raise UserError(
            f"the reference was made from other windows: {record} at {start:g} s is not in the "
            "store; record it again"
        ) from None


def _names(windows):
    """Return what identifies each window: (subject, record, start in s)."""
    return zip(windows.subject, windows.record, np.round(windows.start_s, 3), strict=True)


def fingerprint(windows):
    """Return the SHA-256 of everything that accuracy depends on besides the model: subjects,
    signals, heart rates.
    """
    named = [list(map(str, name)) for name in _names(windows)]
    digest = hashlib.sha256(json.dumps(named).encode())
    for x in (windows.ppg, windows.labels.get("hr_ecg", np.empty(0))):
        digest.update(np.ascontiguousarray(x))
    return digest.hexdigest()


@torch.no_grad()
def measure_precisions(encoder, ppg, mean):
    """Measure latency of one window in fp32 and bf16 on the encoder's device, and the error of bf16
    against fp32.

    Parameters
    ----------
    encoder : torch.nn.Module
    ppg : float32 array, shape (n, 1000)
        Cleaned windows.
    mean : float32 array, shape (D,)
        Mean embedding of the training windows.

    Returns
    -------
    list of dict
        `precision`, `bytes` (of the weights), `macs`, `latency_ms`, `windows` and `centred`
        (`median`, `p5` of the cosine to fp32 with the mean taken off).
    """
    device = next(encoder.parameters()).device
    x = torch.as_tensor(minmax_scale(ppg)[0], dtype=torch.float32, device=device)[:, None]
    n_parameters = sum(p.numel() for p in encoder.parameters())
    macs = count_macs(copy.deepcopy(encoder).cpu())
    original, rows = encoder(x).float().cpu().numpy(), []
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        cast = copy.deepcopy(encoder).to(dtype)
        cosine = centred_cosine(cast(x.to(dtype)).float().cpu().numpy(), original, mean)
        rows.append({
            "precision": precision, "bytes": n_parameters * dtype.itemsize, "macs": macs,
            "latency_ms": _latency_ms(cast, ppg[:1]), "windows": len(ppg),
            "centred": asdict(spread(cosine)),
        })  # fmt: skip
    return rows


def spread(values):
    """Return the median and 5th percentile of numbers (n,)."""
    median, low = np.quantile(values, [0.5, 0.05])
    return Spread(float(median), float(low))


@torch.no_grad()
def _latency_ms(encoder, ppg, calls=50):
    """Return the median latency of one window in ms, after 10 warm-up calls."""
    weight = next(encoder.parameters())
    x = torch.as_tensor(minmax_scale(ppg)[0], dtype=weight.dtype, device=weight.device)[:, None]
    times = []
    for _ in range(calls + 10):
        start = time.perf_counter()
        encoder(x).cpu()  # the copy waits for the device
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[10:]))
