"""Peak memory of preparation against the amount of data.

python -m xmae.benchmarks.studies.prepare_memory [RESULT.md]

Each amount runs in a process of its own, on copies of the shipped recordings under other names of
people (the samples are moved by a few steps, so that they are not found to be the same). The last
line of the output is the result as JSON; the same as a page goes into RESULT.md.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import bidmc_files
from xmae.tables import markdown_table

AMOUNTS = (5, 50, 500)  # recordings of 8 minutes

RUN = """
import resource, sys
from xmae.data.prepare.prepare import prepare
prepare([sys.argv[1]], sys.argv[2], split="1,0,0", min_quality=-1, jobs=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def copies(n_recordings, folder):
    """Write this many recordings of 8 minutes into a folder: the shipped ones, renamed and shifted
    by a few samples.
    """
    folder.mkdir(parents=True)
    files = bidmc_files()
    for number in range(n_recordings):
        with np.load(files[number % len(files)]) as archive:
            content = dict(archive)
        content["ppg"] = content["ppg"] + np.int16(number // len(files) + 1)
        content |= {"patient": f"person{number}", "record": f"record{number}"}
        np.savez(folder / f"{number:05d}.npz", **content)


def peak(n_recordings, folder):
    """Return the peak memory (MiB) of one process that prepares this many recordings below
    `folder`.
    """
    data = Path(folder) / f"{n_recordings}"
    copies(n_recordings, data)
    run = [sys.executable, "-c", RUN, str(data), str(data / "store")]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def measure(amounts=AMOUNTS):
    """Measure all amounts; dict of windows, peak MiB of each, and growth from the first to the
    last.
    """
    with tempfile.TemporaryDirectory() as folder:
        peaks = {n: round(peak(n, folder), 1) for n in tqdm(amounts, "prepare_memory")}
    return {
        "windows": {n: 48 * n for n in amounts},
        "peak_mib": peaks,
        "growth": round(peaks[amounts[-1]] / peaks[amounts[0]], 3),
    }


def page(result):
    """Return the result as Markdown."""
    rows = [(n, f"{result['windows'][n]:,}", peak) for n, peak in result["peak_mib"].items()]
    return f"""# Memory of preparation

One process, resident memory at its highest, libraries included.

{markdown_table(("recordings of 8 minutes", "windows", "peak, MiB"), rows, right=False)}

From the least to {max(AMOUNTS) // min(AMOUNTS)} times the data memory grows by a factor of
**{result["growth"]}**.
"""


def prepare_memory() -> str:
    """Measure how memory grows with the amount of data that is prepared."""
    return page(measure())


if __name__ == "__main__":
    run_study(prepare_memory, "prepare_memory.md")
