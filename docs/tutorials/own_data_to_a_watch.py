"""Take recordings of your own to an emulated watch."""

import shutil
from pathlib import Path

import xmae
from xmae.data.bidmc import bidmc_files


def main():
    """Prepare, export and simulate; three steps of your own run."""
    # stand-ins for your files: CSV, EDF, WFDB, HDF5, MATLAB or npz; see docs/data.md
    Path("recordings").mkdir(exist_ok=True)
    for path in bidmc_files()[:4]:
        shutil.copy(path, "recordings")

    # windows of 10 s at 100 Hz; a subject is in one split only
    store = xmae.prepare(["recordings"], "store", split="0.5,0.25,0.25", min_quality=-1, jobs=1)
    print(f"{store['windows']} windows")

    # the shipped student in int8, with heads fitted on your training subjects
    bundle = xmae.export("student-mcu", ["student-mcu-s"], "store", "bundle", targets="litert",
                         precisions="int8", n_calibration=32)  # fmt: skip
    for entry in bundle["models"]:
        print(f"{entry['file']}: {entry['bytes'] / 1e3:.0f} kB")

    # firmware with your signal, on an emulated Cortex-M4F
    watch = xmae.simulate("bundle", device="apollo4", signal="recordings/bidmc01.npz", out="watch",
                          seconds=40)  # fmt: skip
    print("\n".join(watch["summary"]))


if __name__ == "__main__":  # prepare and export start processes
    main()
