"""`xmae.load` and `xmae.embed`: encoders for people with NumPy arrays.

What is given wrongly is said in words: raw counts where scaled windows are expected, an array where
a tensor is, a rate that no recorder of PPG has. PyTorch is imported when it is needed: the light
runtime embeds files without it.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from xmae.beats.certainty import answered, table_of_name
from xmae.beats.intervals import irregularity, sure_intervals
from xmae.cli.embed import embed as embed_file
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.checks import upright
from xmae.data.recording.recording import Recording
from xmae.errors import UserError
from xmae.export.targets.light import is_light
from xmae.signals.front_end import MAX_SFREQ, MIN_SFREQ

ROUNDING = 1.01  # scaled windows lie in [-1, 1], but for rounding
TURNED = {"inverted_ppg": "inverted", "polarity_unclear": "unclear"}  # by repair
WHAT_TO_DO = "model.read(ppg, sfreq) takes raw PPG as it was recorded"


@dataclass(frozen=True)
class WindowReading:
    """An encoder's reading of a recording, window by window.

    Parameters
    ----------
    start_s : float array, shape (n,)
        Start of each window of 10 s, s. Windows with missing samples are left out.
    quality : float array, shape (n,)
        Similarity of the beats in a window, 0 to 1.
    embedding : float32 array, shape (n, D)
    heads : dict of float arrays, shape (n,)
        Answers of linear heads that came with the encoder: "hr" in bpm, and so on. The heart rate
        of an encoder that finds beats is that of its beats; NaN where they are not sure enough.
    polarity : str
        "upright", "inverted" (the PPG was turned over) or "unclear" (taken as it is).
    beats, confidence : float array, shape (n_beats,), or None
        Times of pulses, s from the first sample, and how sure each is, 0 to 1; None of an encoder
        that finds none.
    intervals : float array, shape (n_beats - 1,), or None
        s; NaN between windows, and where one of the two beats is doubtful.
    certainty, irregularity : float array, shape (n,), or None
        How sure a window's heart rate is, 0 to 1, and the mean change of neighbouring intervals
        over their mean.
    """

    start_s: np.ndarray
    quality: np.ndarray
    embedding: np.ndarray
    heads: dict
    polarity: str = "unclear"
    beats: np.ndarray | None = None
    confidence: np.ndarray | None = None
    intervals: np.ndarray | None = None
    certainty: np.ndarray | None = None
    irregularity: np.ndarray | None = None

    def __str__(self):
        """Return the reading as one line of text."""
        known = {task: values[np.isfinite(values)] for task, values in self.heads.items()}
        said = [f"{task} {np.median(values):.1f}" for task, values in known.items() if len(values)]
        quality = f"median quality {np.median(self.quality):.2f}"
        found = [] if self.beats is None else [f"{len(self.beats)} beats"]
        found += [f"polarity {self.polarity}"]
        return ", ".join([f"{len(self.start_s)} windows of 10 s", quality, *said, *found])


def load(name):
    """Load an encoder by name or file, for use with NumPy and PyTorch.

    Parameters
    ----------
    name : str or Path
        A shipped encoder ("base", "student-mcu", "student-mcu-s", "student-app",
        "beats-mcu-s", "beats-mcu", "beats-app"), a file, the folder of a training, or
        "hf://org/name".

    Returns
    -------
    nn.Module
        `model.read(ppg, sfreq)` reads raw PPG (n_times,): a `WindowReading`, or of a student
        that reads beats a `HeartReading`. `model(windows)` embeds tensors (batch, 1, n) of cleaned
        PPG at 100 Hz, scaled to [-1, 1].

    Raises
    ------
    UserError
        If there is no such encoder, no PyTorch, or later if the model is given something else than
        it takes.
    """
    if is_light():
        raise UserError(
            f"{name}: weights need PyTorch (pip install 'xmae[train]');"
            " without it, xmae.Stream reads beats, and xmae.embed the folder of a bundle"
        )
    from xmae.distill.beats import shipped_timing
    from xmae.evaluation.heads.heads import heads_of
    from xmae.models.beat_student import BeatStudent
    from xmae.models.checkpoint import load_encoder

    encoder = load_encoder(name)
    encoder.register_forward_pre_hook(refuse_raw)
    if isinstance(encoder, BeatStudent):
        encoder.certainty = table_of_name(shipped_timing(encoder))
    if not hasattr(encoder, "read"):
        known = {"heads": heads_of(name), "table": table_of_name(name)}
        encoder.read = partial(read_windows, encoder, **known)
    return encoder


def refuse_raw(_, arguments):
    """Raise a `UserError` if an encoder is called with anything other than scaled windows."""
    import torch

    if torch.compiler.is_compiling():
        return
    (x, *_) = arguments
    if not torch.is_tensor(x):
        raise UserError(f"expected a tensor (batch, 1, 1000), got {type(x).__name__}; {WHAT_TO_DO}")
    if x.ndim != 3:
        raise UserError(f"expected shape (batch, 1, 1000), got {tuple(x.shape)}; {WHAT_TO_DO}")
    ppg = x[:, :1].detach()  # further channels are acceleration
    largest = ppg.abs().amax().item() if ppg.numel() else 0.0
    if not largest <= ROUNDING:
        raise UserError(
            f"windows hold values of up to {largest:g}, as raw counts do; expected cleaned PPG at"
            f" 100 Hz, scaled to [-1, 1]; {WHAT_TO_DO}"
        )


def read_windows(encoder, ppg, sfreq, heads=None, table=None, polarity="auto"):
    """Read raw PPG with an encoder, in windows of 10 s.

    Parameters
    ----------
    encoder : nn.Module
    ppg : array, shape (n_times,)
        Raw PPG in any unit, either way up; NaN = missing.
    sfreq : float
        Its rate, Hz, 25 to 500.
    heads : dict of str to Head, optional
        Linear heads by task; those no better than a constant are left out.
    table : Certainty, optional
        Certainty table of an encoder that finds beats: from which certainty on their heart rate is
        given.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall; "upright" takes it as it
        is; "inverted" turns it over.

    Returns
    -------
    WindowReading

    Raises
    ------
    UserError
        If the rate is out of range, the polarity none of these, or no whole window of 10 s has a
        signal.
    """
    x = np.asarray(ppg, np.float64)
    if x.ndim != 1:
        raise UserError(f"expected one row of PPG samples, got shape {x.shape}")
    if not MIN_SFREQ <= sfreq <= MAX_SFREQ:
        raise UserError(f"sampling rate {sfreq:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz")
    recording = Recording("somebody", "ppg", float(sfreq), x)
    return of_recording(encoder, recording, heads or {}, table, polarity)


def of_recording(encoder, recording, heads, table, polarity="auto"):
    """Read the PPG of a `Recording` window by window: `WindowReading`."""
    from xmae.evaluation.heads.embedding import embed_windows

    bare = Recording(recording.subject, recording.record, recording.sfreq, recording.ppg)
    bare = upright(bare, polarity)
    found = next((told for rule, told in TURNED.items() if rule in bare.repairs), "upright")
    windows, _ = prepare_recording(bare, min_quality=-1)
    if not len(windows):
        raise UserError(f"{recording.record}: no window of 10 s without missing or flat stretches")
    embedding = embed_windows(encoder, windows)
    said = {task: head.apply(embedding) for task, head in heads.items() if head.has_skill}
    of_beats = {}
    if hasattr(encoder, "read_windows"):  # its own beats say more than a head could
        reading = encoder.read_windows(windows.ppg)
        said["hr"] = answered(reading, table)
        of_beats = {
            "beats": windows.start_s[reading.window] + reading.time,
            "confidence": reading.confidence,
            "intervals": sure_intervals(reading)[1:],
            "certainty": reading.certainty,
            "irregularity": irregularity(reading.time, reading.window, len(windows)),
        }
    return WindowReading(windows.start_s, windows.ppg_quality, embedding, said, found, **of_beats)


def embed(recording, out="runs/embed", model="base", **settings):
    """Embed a recording, or the recordings of a file.

    Parameters
    ----------
    recording : Recording, str or Path
        A recording of `xmae.read`, or a file.
    out : str
        Folder for embeddings.csv, for a file.
    model : str
        As in `load`; for a file also the folder of a bundle.
    **settings
        Those of `xmae embed`, for a file; `polarity` for a recording too.

    Returns
    -------
    WindowReading or dict
        Of a `Recording` its reading, and nothing is written; of a file what `xmae embed` says, see
        `xmae.cli.embed.embed`.
    """
    if isinstance(recording, str | Path):
        return embed_file(str(recording), out, model, **settings)
    polarity = settings.pop("polarity", "auto")
    if settings:
        raise UserError(f"{next(iter(settings))} is for a file; a recording is taken as it is")
    from xmae.evaluation.heads.heads import heads_of
    from xmae.models.checkpoint import load_encoder

    heads, table = heads_of(model), table_of_name(model)
    return of_recording(load_encoder(model), recording, heads, table, polarity)
