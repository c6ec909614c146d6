"""Draw the traps and pin them, for `xmae torture`.

    python -m xmae.benchmarks.release.make_traps xmae/twin

Codes differ by a step where another processor draws them, so they are shipped as drawn here. Those
that are in the folder already stay, if what is drawn is the same but for a step.
"""

from pathlib import Path

import numpy as np

from xmae.benchmarks.studies.runner import run_tool
from xmae.files import atomic_file, write_json
from xmae.twin.traps import digest, draw_traps


def make_traps(folder: str, /) -> dict:
    """Write traps.npz (steps from code to code, acceleration, pulses, readable seconds) and
    traps.json.

    Parameters
    ----------
    folder : str
        Folder to write into.

    Returns
    -------
    dict
        Number of traps, and bytes of the archive.
    """
    path = Path(folder) / "traps.npz"
    before = dict(np.load(path)) if path.is_file() else {}
    parts, about = {}, []
    for number, trap in enumerate(draw_traps()):
        codes = same_but_for_a_step(trap.codes, before.get(f"steps{number}"))
        parts[f"steps{number}"] = np.diff(codes, prepend=0).astype(np.int32)
        parts[f"acceleration{number}"] = trap.acceleration.astype(np.int16)
        parts[f"pulses{number}"], parts[f"readable{number}"] = trap.pulses, trap.readable
        kept = {"name": trap.name, "sfreq": trap.sfreq, "bits": trap.bits, "cadence": trap.cadence}
        pins = {
            "sha256": digest(codes),
            "acceleration_sha256": digest(trap.acceleration),
        }
        about.append(kept | pins)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **parts)
    write_json(Path(folder) / "traps.json", about)
    return {"traps": len(about), "bytes": path.stat().st_size}


def same_but_for_a_step(codes, steps):
    """Return the codes of `steps` if they exist and differ by at most 1; else `codes`."""
    if steps is None or len(steps) != len(codes):
        return codes
    before = np.cumsum(steps, dtype=np.int64)
    return before if np.abs(before - codes).max() <= 1 else codes


if __name__ == "__main__":
    run_tool(make_traps)
