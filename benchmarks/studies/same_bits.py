"""Same bits in Python and C: recordings through libxmae on every emulated core, compared with
`xmae.Stream`.

    python -m xmae.benchmarks.studies.same_bits RECORDINGS --seconds 20 --out benchmarks/results

RECORDINGS is a folder of recordings with PPG (BIDMC: 37). Each is played in bursts, at rates and
widths that take turns, with codes lost and codes at the rail; every field of every result is
compared.
"""

import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.beats.certainty import shipped_certainty
from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.stream import Stream, int8_file
from xmae.firmware_sim.build.compile import AMPLE_RAM, CORES, MIB
from xmae.firmware_sim.emulators.qemu import run_qemu
from xmae.firmware_sim.frontend import digitise
from xmae.firmware_sim.play_beats import (
    build_model,
    encoded,
    equality_of,
    pushes_of,
    results_of,
)
from xmae.tables import markdown_table

SETTINGS = ((125, 18), (25, 8), (64, 16), (100, 24), (333.3, 12))  # Hz and bits, in turns
LOST_S, RAIL_S = (7.0, 7.3), (15.0, 15.1)  # of each recording


def codes_of(path, sfreq, bits, seconds):
    """Return the codes of a recording's first seconds, some of them lost, some at the rail."""
    recording = read_recording(path)
    ppg = recording.ppg[: int(np.ceil(seconds * recording.sfreq))]
    codes = digitise(ppg, recording.sfreq, sfreq, bits)[: int(seconds * sfreq)]
    lost, rail = (slice(*(int(t * sfreq) for t in span)) for span in (LOST_S, RAIL_S))
    codes[rail] = (1 << bits) - 1
    codes[lost] = np.nan
    return codes


def cases(paths, model, seconds):
    """Return {recording: (input file for the device, results that `Stream` reads from it)}."""
    table, found = shipped_certainty(model), []
    for number, path in enumerate(tqdm(paths, "xmae.Stream")):
        sfreq, bits = SETTINGS[number % len(SETTINGS)]
        pushes = pushes_of(codes_of(path, sfreq, bits, seconds), sfreq)
        stream = Stream(int8_file(model), sfreq, bits, certainty=table)
        results = list(chain.from_iterable(stream.push(part, lost) for part, lost in pushes))
        found.append((encoded(sfreq, bits, False, 1, pushes), results))
    return found


def row_of(core, model, played):
    """Return the cells of a core: recordings, results, results that agree in every field."""
    equal = results = alike = 0
    with tempfile.TemporaryDirectory() as folder:
        _, firmware = build_model(
            int8_file(model), shipped_certainty(model), Path(folder), core, 4 * MIB, AMPLE_RAM
        )
        for data, expected in tqdm(played, core):
            run = run_qemu(firmware, {"in.bin": data})
            if run.exit_code:
                raise UserError(f"{core}: the firmware ended with code {run.exit_code}")
            same = equality_of(results_of(run.files["out.bin"]), expected)
            equal, results = equal + same["equal"], results + same["results"]
            alike += "first_difference" not in same
    return f"Cortex-{core.upper()}", len(played), alike, f"{results:,}", f"{equal:,}"


def same_bits(recordings: str, /, *, model: str = "beats-mcu", seconds: float = 20) -> str:
    """Compare what libxmae and `xmae.Stream` read from recordings, on every emulated core.

    Parameters
    ----------
    recordings : str
        Folder of recordings with PPG.
    model : str
        Shipped student.
    seconds : float
        Length that is played of each recording, s.
    """
    folder = Path(recordings)
    paths = sorted(folder.glob("*.npz")) or sorted(folder.glob("*.hea"))
    paths = [path for path in paths if not path.stem.endswith("n")] or bidmc_files()
    played = cases(paths, model, seconds)
    given = sum(
        bool(result.rate) for result in chain.from_iterable(results for _, results in played)
    )
    beats = sum(
        len(result.beats) for result in chain.from_iterable(results for _, results in played)
    )
    head = ("core", "recordings", "the same in all", "results", "the same in every field")
    rows = [row_of(core, model, played) for core in CORES]
    return f"""# Same bits in Python and C

`{model}` (int8) reads the first {seconds:g} s of each of {len(paths)} recordings by libxmae on
QEMU's boards and by `xmae.Stream`. Rates and widths take turns:
{", ".join(f"{s:g} Hz with {b} bits" for s, b in SETTINGS)}. Codes are lost from {LOST_S[0]} to
{LOST_S[1]} s and at the rail from {RAIL_S[0]} to {RAIL_S[1]} s. Compared: time, heart rate and its
interval, certainty, irregularity, rhythm, lost and saturated codes, reasons, and each beat with its
confidence. {given:,} of the results on each core have a heart rate, with {beats:,} beats in all.

{markdown_table(head, rows)}
"""


if __name__ == "__main__":
    run_study(same_bits, "same_bits.md")
