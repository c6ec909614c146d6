"""Make the certainty table of the tier without a network, on the validation recordings of a store.

    python -m xmae.benchmarks.release.calibrate_dsp STORE

The store is a tenth of `cinc2015_vt`. The table is written where it ships; nothing is scored.
"""

import numpy as np

from xmae.beats.certainty import calibrate
from xmae.beats.truth import truth_of_windows
from xmae.benchmarks.release.ship_beats import write_table
from xmae.benchmarks.studies.runner import run_tool
from xmae.benchmarks.studies.tiers import read_stream
from xmae.data.store.store import WindowStore
from xmae.export.stream import DSP


def calibrate_dsp(store: str, /) -> dict:
    """Calibrate the tier without a network on a store's validation recordings, and write its table.

    Parameters
    ----------
    store : str
        Store of windows with ECG.
    """
    windows = WindowStore(store).windows("val")
    truth = truth_of_windows(windows).hr_ecg
    rate, certainty = read_stream(windows)
    known = np.isfinite(truth)
    table = calibrate(certainty[known], rate[known], truth[known])
    write_table(DSP, table)
    return {"windows": int(known.sum()), "least": table.least}


if __name__ == "__main__":
    run_tool(calibrate_dsp)
