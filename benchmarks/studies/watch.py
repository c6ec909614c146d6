"""The shipped student on every emulated device: benchmarks/results/watch.md, by one command.

    python -m xmae.benchmarks.studies.watch [--bundle FOLDER] [--out benchmarks/results]

Without a bundle, one is exported from the shipped weights: calibration on the training subjects of
the shipped recordings, as `xmae export` does it. What is played is a test subject, whole.
"""

import subprocess
import tempfile
from pathlib import Path

from xmae.benchmarks.simulate import TABLE, simulate
from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import FOLDER, SHIPPED_SPLIT
from xmae.data.prepare.prepare import prepare
from xmae.export.export import export

PLAYED = FOLDER / "bidmc34.npz"  # of the test split, 8 minutes


def shipped_bundle(folder, targets="litert,c"):
    """Export the shipped weights in int8 for these targets into a bundle; return its path."""
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


def watch(*, bundle: str | None = None) -> str:
    """Play a test subject on every emulated device.

    Parameters
    ----------
    bundle : str or None
        An exported one; default: made from the shipped weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle or shipped_bundle(folder, "executorch,litert,onnx,c")
        simulate(bundle, "all", str(PLAYED), f"{folder}/simulate", emulator="qemu")
        table = (Path(folder) / "simulate" / TABLE).read_text()
    head = f"{version_of('qemu-system-arm').split(' (')[0]}; counts of Cortex-M repeat exactly. "
    return f"# The shipped int8 student on emulated watches\n\n{head}{table}"


def version_of(tool):
    """Return, in one line, the installed version of a tool."""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0]


if __name__ == "__main__":
    run_study(watch, "watch.md")
