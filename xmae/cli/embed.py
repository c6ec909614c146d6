"""`xmae embed`: a file of recordings in, an embedding for each 10 s out, and what the linear heads
say about it.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from xmae.data.prepare.windowing import LIMITS, prepare_recording
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import read_recordings
from xmae.data.store.windows import Windows
from xmae.errors import UserError, require_choice
from xmae.files import atomic_file
from xmae.signals.scale import minmax_scale

# of a bundle; first: default
TARGETS = ("litert", "executorch", "onnx")
PRECISIONS = ("int8", "fp32")


def embed(
    file: str,
    out: str = "runs/embed",
    model: str = "base",
    target: str | None = None,
    precision: str | None = None,
    part: str | None = None,
    sfreq: float | None = None,
    channels: str | None = None,
    public_key: str | None = None,
) -> dict:
    """Embed the PPG of a file, window by window.

    Parameters
    ----------
    file : str
        A recording, or a file with several, of any format that `xmae prepare` reads.
    out : str
        Folder for embeddings.csv: record, start (s), quality, heads (hr in bpm ...), then the
        embedding, a row per 10 s window.
    model : str
        A shipped encoder ("base", "student-mcu", "student-mcu-s", "student-app"), a safetensors
        file, or the folder of a bundle.
    target : str or None
        Of a bundle: "litert" (the default), "executorch" or "onnx". Other models run in PyTorch.
    precision : str or None
        Of a bundle: "int8" (the default) or "fp32".
    part : str or None
        Of a bundle: "student" (the default), "teacher", or a further student, such as
        "student-app".
    sfreq : float or None
        Sampling rate of a .csv file without a time column, Hz.
    channels : str or None
        YAML file that names columns, rates and units, where their names do not; see docs/data.md.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed a bundle; see docs/bundle.md.

    Returns
    -------
    dict
        `windows` embedded, `dropped` for missing samples, a flat signal or a flat line of over 1 s, median of each head,
        `without_skill` (heads left out, since on patients left out of their training they say no
        more than a constant), "out".

    Raises
    ------
    UserError
        If recording, model or bundle cannot be used, or no window is left.
    """
    of_bundle = {
        "target": target,
        "precision": precision,
        "part": part,
        "public_key": public_key,
    }
    is_bundle = (Path(model) / "manifest.json").is_file()
    require_choice("--target", target or TARGETS[0], TARGETS)
    require_choice("--precision", precision or PRECISIONS[0], PRECISIONS)
    for name, value in of_bundle.items():
        if value is not None and not is_bundle:
            raise UserError(
                f"--{name.replace('_', '-')} {value}: {model} is no bundle; give the folder of one as --model, or leave it out"
            )
    found, counts = [], Counter()
    for recording in read_recordings(file, ChannelMap.load(channels, sfreq)):
        windows, counted = prepare_recording(replace(recording, ecg=None), min_quality=-1)
        moves = windows.measures["flat_line"] <= LIMITS["flat_line"][1]
        found.append(windows.select(moves))
        counts.update(counted | {"flat_line": int((~moves).sum())})
    if not sum(map(len, found)):
        raise UserError(f"{file}: no window of 10 s without missing or flat stretches")
    windows = Windows.concatenate([windows for windows in found if len(windows)])
    if is_bundle:
        from xmae.export.bundle.bundle import Bundle

        bundle, part = Bundle.open(model, public_key), part or "student"
        entry = bundle.entry(part, target or TARGETS[0], precision or PRECISIONS[0])
        embedding = bundle.session(entry)(minmax_scale(windows.ppg)[0].astype(np.float32))
        heads, without = bundle.trusted_heads(part), bundle.at_chance(part)
    else:
        from xmae.evaluation.heads.embedding import embed_windows
        from xmae.models.checkpoint import load_encoder, shipped_heads

        embedding, heads = embed_windows(load_encoder(model), windows), shipped_heads(model)
        without = []
    from xmae.evaluation.heads.heads import apply_head

    said = {task: apply_head(head, embedding) for task, head in heads.items()}
    table = pd.DataFrame(
        {
            "record": windows.record,
            "start_s": windows.start_s,
            "ppg_quality": windows.ppg_quality,
            **said,
        }
    )
    table = pd.concat([table, pd.DataFrame(embedding).add_prefix("e")], axis=1)
    path = Path(out) / "embeddings.csv"
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False)
    dropped = {reason: n for reason, n in counts.items() if n and reason != "kept"}
    medians = {task: float(np.median(values)) for task, values in said.items()}
    lost = (
        f"; dropped: {', '.join(f'{n} {reason}' for reason, n in dropped.items())}"
        if dropped
        else ""
    )
    summary = [
        f"{len(windows)} windows of 10 s{lost}; median PPG quality {np.median(windows.ppg_quality):.2f}"
    ]
    summary += [
        f"{heads[task]['label']}: median {value:.1f} {heads[task]['units']}"
        for task, value in medians.items()
    ]
    if without:
        labels = ", ".join(without)
        summary.append(f"no better than a constant on other patients, so left out: {labels}")
    if is_bundle:
        summary.append(str(bundle.verdict))
    return {
        "windows": len(windows), "dropped": dropped, "median": medians, "without_skill": without, "summary": summary,
        "out": str(path),
    }  # fmt: skip
