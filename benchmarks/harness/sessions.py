"""Every way to run a bundle's models on this machine: its exported files, and its fp32 weights in
PyTorch.
"""

from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from xmae.export.bundle.beat_rows import RowSession, float_rows
from xmae.export.bundle.schema import Entry
from xmae.models import load_encoder
from xmae.models.beat_student import BeatStudent
from xmae.models.student import count_macs

# what a format's session imports; imported first so that it does not count as the model's memory
RUNTIMES = {
    "pytorch": "torch",
    "executorch": "executorch.runtime",
    "litert": "ai_edge_litert.interpreter",
    "onnx": "onnxruntime",
}
TITLES = {
    "pytorch": "PyTorch",
    "executorch": "ExecuTorch",
    "litert": "LiteRT",
    "onnx": "ONNX Runtime",
    "c": "C99",
}


def find_entries(bundle):
    """Return the models of a bundle, with its fp32 weights as entries of format "pytorch".

    Parameters
    ----------
    bundle : Bundle

    Returns
    -------
    list of Entry
        Their `macs`: of weights those of the encoder, of a file those of the graph that was
        exported.
    """
    weights = [entry_of_weights(model, path) for model, path in weight_files(bundle).items()]
    return weights + list(bundle.models)


def weight_files(bundle):
    """Return the fp32 weight files in a bundle: {"teacher": path, "student": path, ...}."""
    paths = sorted(
        Path(bundle.path).glob("*.safetensors"),
        key=lambda path: (path.stem != "teacher", path.stem),
    )
    return {path.stem: path for path in paths}


def entry_of_weights(model, path):
    """Return the `Entry` of a model's weights in PyTorch."""
    encoder = load_encoder(path).eval()
    split = {"embedding": encoder.embed_dim} if isinstance(encoder, BeatStudent) else {}
    return Entry(
        model=model,
        format="pytorch",
        precision="fp32",
        file=path.name,
        bytes=path.stat().st_size,
        macs=count_macs(encoder),
        **split,
    )


def open_session(bundle, entry, threads=1):
    """Open an entry as a function from windows (n, 1000) in [-1, 1] to embeddings (n, D), run one
    by one.

    Parameters
    ----------
    bundle : Bundle
    entry : Entry
        One of `find_entries`.
    threads : int
        Threads of the runtime; PyTorch uses those of `torch.set_num_threads`.

    Raises
    ------
    UserError
        If its runtime is not installed or its file is damaged.
    """
    if entry.format != "pytorch":
        return bundle.session(entry, threads)
    encoder = load_encoder(weight_files(bundle)[entry.model]).eval()
    if isinstance(encoder, BeatStudent):
        return RowSession(
            lambda ppg: np.concatenate([float_rows(encoder, row[None]) for row in ppg]),
            encoder.embed_dim,
        )

    @torch.no_grad()
    def session(ppg):
        return np.concatenate([encoder(torch.from_numpy(row)[None, None]).numpy() for row in ppg])

    return session


def import_runtime(entry):
    """Import the runtime of an entry; return the name of its package if that is not installed, else
    None.

    An installed runtime that fails to import raises its own error: it is broken, not missing.
    """
    module = RUNTIMES[entry.format]
    package = module.partition(".")[0]
    if find_spec(package) is None:
        return package
    import_module(module)
    return None


def not_checked(rows):
    """List the exported files that did not run for want of a runtime: one sentence per package."""
    counts = Counter(row.missing for row in rows if row.missing)
    return [
        f"{why}: {n} {'file' if n == 1 else 'files'} not checked; try pip install 'xmae[edge]'"
        for why, n in counts.items()
    ]


def describe(entry):
    """Return an entry's identity and size as columns of a table."""
    return {key: getattr(entry, key) for key in ("model", "format", "precision", "bytes", "macs")}


def entry_name(entry):
    """Return an entry's name for messages, such as `student int8 litert`."""
    return f"{entry.model} {entry.precision} {entry.format}"
