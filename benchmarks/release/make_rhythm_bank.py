"""Make the rhythm bank of the twin: stretches of real beat-to-beat intervals with beat types.

    python -m xmae.benchmarks.release.make_rhythm_bank RHYTHMS_FOLDER xmae/twin/rhythms.npz

The folder holds `mitdb.npz`, `ltdb.npz` and `ltafdb.npz` (annotations only; see the licence beside
the bank). A tenth of the records, by hash of their names, is left out: it scores the rhythm hint.
"""

from pathlib import Path

import numpy as np

from xmae.benchmarks.studies.runner import run_tool
from xmae.errors import UserError
from xmae.twin.bank import CLASSES, STRETCH, held_out

SETS = ("mitdb", "ltdb", "ltafdb")
MOST = {"sinus": 900, "af": 900, "pvc": 700, "pac": 500}  # stretches a class; 300 of the others
LONGEST_MS, SHORTEST_MS = 3000, 200
VENTRICULAR, SUPRAVENTRICULAR = "VEF", "AaJSej"


def make_bank(folder: str, out: str, /, *, seed: int = 77) -> dict:
    """Draw stretches of 128 beats of each rhythm from annotated records.

    Parameters
    ----------
    folder : str
        Folder of the three archives.
    out : str
        The bank, an .npz file.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict
        Stretches of each class, and "out".
    """
    rng = np.random.default_rng(seed)
    found = {name: [] for name in CLASSES}
    for name in SETS:
        path = Path(folder) / f"{name}.npz"
        if not path.is_file():
            raise UserError(f"{path}: no such file; the bank is made from {', '.join(SETS)}")
        for rr, kind, rhythm in records_of(path):
            for start in range(0, len(rr) - STRETCH, STRETCH // 4):
                part = slice(start, start + STRETCH)
                if rr[part].min() < SHORTEST_MS or rr[part].max() > LONGEST_MS:
                    continue
                ours = class_of(kind[part], rhythm[part])
                if start % STRETCH == 0 or ours not in MOST:  # rare rhythms may overlap
                    found[ours].append((rr[part], kind[part]))
    rows, types, classes = [], [], []
    for number, name in enumerate(CLASSES):
        stretches = found[name]
        order = rng.permutation(len(stretches))[: MOST.get(name, 300)]
        rows += [stretches[k][0] for k in order]
        types += [stretches[k][1] for k in order]
        classes += [number] * len(order)
    np.savez_compressed(
        out,
        rr_ms=np.array(rows, np.uint16),
        kind=np.array(types, np.uint8),
        rhythm=np.array(classes, np.uint8),
    )
    return {name: classes.count(k) for k, name in enumerate(CLASSES)} | {"out": out}


def records_of(path):
    """Yield the intervals (ms), beat kinds (0 normal, 1 ventricular, 2 supraventricular) and rhythm
    names of each record.
    """
    archive = np.load(path)
    symbols, rhythms = archive["symbols"], archive["rhythms"]
    kinds = np.zeros(len(symbols), np.uint8)
    kinds[np.isin(symbols, list(VENTRICULAR))] = 1
    kinds[np.isin(symbols, list(SUPRAVENTRICULAR))] = 2
    starts = archive["start"]
    for name, first, last in zip(archive["record"], starts[:-1], starts[1:], strict=True):
        if not held_out(str(name)):
            part = slice(int(first), int(last))
            yield (
                archive["rr_ms"][part],
                kinds[archive["symbol"][part]],
                rhythms[archive["rhythm"][part]],
            )


def class_of(kind, rhythm):
    """Name the rhythm of a stretch: the one annotated for most of it, else the one that its beat
    kinds show.
    """
    share = {name: float((rhythm == name).mean()) for name in ("AFIB", "B", "T", "SBR")}
    if (rhythm == "VT").sum() >= 3:
        return "vt"
    if (rhythm == "SVTA").sum() >= 5:
        return "svt"
    for name, ours in (
        ("B", "bigeminy"),
        ("T", "trigeminy"),
        ("AFIB", "af"),
        ("SBR", "bradycardia"),
    ):
        if share[name] > 0.5:
            return ours
    if (kind == 1).mean() >= 0.04:
        return "pvc"
    return "pac" if (kind == 2).mean() >= 0.04 else "sinus"


if __name__ == "__main__":
    run_tool(make_bank)
