"""Draw the traps and pin them, for `xmae torture`.

    python -m xmae.benchmarks.release.make_traps xmae/twin

Codes differ by a step where another processor draws them, so they are shipped as drawn here.
"""

from pathlib import Path

import numpy as np

from xmae.benchmarks.studies.runner import run_tool
from xmae.files import atomic_file, write_json
from xmae.twin.traps import digest, draw_traps


def make_traps(folder: str, /) -> dict:
    """Write traps.npz (steps from code to code, pulses, readable seconds) and traps.json.

    Parameters
    ----------
    folder : str
        Where to.

    Returns
    -------
    dict
        Number of traps, and bytes of the archive.
    """
    parts, about = {}, []
    for number, trap in enumerate(draw_traps()):
        parts[f"steps{number}"] = np.diff(trap.codes, prepend=0).astype(np.int32)
        parts[f"pulses{number}"], parts[f"readable{number}"] = trap.pulses, trap.readable
        kept = {"name": trap.name, "sfreq": trap.sfreq, "bits": trap.bits, "cadence": trap.cadence}
        about.append(kept | {"sha256": digest(trap.codes)})
    path = Path(folder) / "traps.npz"
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **parts)
    write_json(Path(folder) / "traps.json", about)
    return {"traps": len(about), "bytes": path.stat().st_size}


if __name__ == "__main__":
    run_tool(make_traps)
