"""The shipped student on every emulated device: benchmarks/results/watch.md, by one command.

    python -m xmae.benchmarks.studies.watch [--bundle FOLDER] [--out benchmarks/results]

Without a bundle, one is exported from the shipped weights: calibration on the training subjects of
the shipped recordings, as `xmae export` does it. What is played is a test subject, whole.
"""

import argparse
import subprocess
import tempfile
from datetime import date
from pathlib import Path

from xmae.benchmarks.simulate import TABLE, simulate
from xmae.data.bidmc import FOLDER, SHIPPED_SPLIT
from xmae.data.prepare.prepare import prepare
from xmae.export.export import export
from xmae.files import atomic_file

PATIENT = FOLDER / "bidmc34.npz"  # of the test split, 8 minutes


def shipped_bundle(folder, targets="litert,c"):
    """Export the shipped weights in int8 for these targets into a bundle; returns its path."""
    prepare([str(FOLDER)], f"{folder}/store", split=str(SHIPPED_SPLIT))
    export(
        "base",
        "student-mcu",
        f"{folder}/store",
        f"{folder}/bundle",
        targets=targets,
        precisions="int8",
    )
    return f"{folder}/bundle"


def main(arguments=None):
    """Write watch.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", help="an exported one; by default made from the shipped weights"
    )
    parser.add_argument("--out", default="benchmarks/results", help="folder for watch.md")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or shipped_bundle(folder, "executorch,litert,onnx,c")
        simulate(bundle, "all", str(PATIENT), f"{folder}/simulate", emulator="qemu")
        with atomic_file(Path(given.out) / "watch.md") as temporary:
            version = subprocess.run(
                ["qemu-system-arm", "--version"], capture_output=True, text=True
            ).stdout
            head = (
                "# The shipped int8 student on emulated watches\n\nWritten by `python -m "
                "xmae.benchmarks.studies.watch` on "
                f"{date.today()}, {version.split(' (')[0]}; counts of Cortex-M repeat exactly. "
            )
            temporary.write_text(head + (Path(folder) / "simulate" / TABLE).read_text())
    print(Path(given.out) / "watch.md")


if __name__ == "__main__":
    main()
