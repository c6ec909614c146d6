"""TensorFlow Lite Micro: what the int8 `.tflite` computes on a microcontroller, and the memory it
needs there.

The interpreter runs in a process of its own, because it may abort where its memory (the arena) is
too small.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from xmae.errors import UserError

ARENA = 64 * 1024  # bytes: the budget of the `mcu` student
AMPLE = 16 * 2**20  # bytes, to find out what a model needs


def run_tflm(path, ppg, arena_bytes=ARENA):
    """Embed windows with the TensorFlow Lite Micro interpreter and its reference kernels.

    Parameters
    ----------
    path : str or Path
        Int8 or int16x8 `.tflite`, with input and output in these too.
    ppg : float32 array, shape (n, 1000)
        PPG at 100 Hz, min-max scaled to [-1, 1].
    arena_bytes : int
        Memory for activations and the interpreter's own records, bytes.

    Returns
    -------
    float32 array, shape (n, D)

    Raises
    ------
    UserError
        If tflite-micro is not installed, the file is damaged or a float model, uses an operator
        that the interpreter does not have, or needs a larger arena.
    """
    return run_apart(path, ppg, arena_bytes)[0]


def measure_arena(path):
    """Return the smallest arena (bytes) in which a model loads and runs, on this 64-bit machine;
    its pointers are twice a watch's.

    Raises
    ------
    UserError
        As `run_tflm`.
    """
    window = np.zeros((1, 1000), np.float32)
    _, log = run_apart(path, window, AMPLE)
    total = int(re.search(r"Arena allocation total (\d+) bytes", log).group(1))
    run_apart(path, window, total)  # it does run in that much
    return total


def run_apart(path, ppg, arena_bytes):
    """Run a model in a process of its own: outputs (n, D), and the interpreter's log."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        source, sink = Path(folder) / "ppg.npy", Path(folder) / "embedding.npy"
        np.save(source, np.asarray(ppg, np.float32))
        command = [
            sys.executable,
            "-m",
            "xmae.firmware_sim.emulators.tflm",
            path,
            source,
            sink,
            arena_bytes,
        ]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"signal {-done.returncode}"]
            why = lines[-1] if lines[0].startswith("Traceback") else lines[0]
            raise UserError(
                f"{path}: does not run in TFLM with an arena of {arena_bytes} bytes ({why})"
            )
        return np.load(sink), done.stdout + done.stderr


def main(path, source, sink, arena_bytes):
    """Serve as the other process: read windows, run the model, write embeddings; allocations go to
    the log.
    """
    try:
        from tflite_micro import runtime
    except ImportError:
        sys.exit("tflite-micro is not installed; pip install 'xmae[firmware]'")

    interpreter = runtime.Interpreter.from_file(path, arena_size=int(arena_bytes))
    details = interpreter.get_input_details(0), interpreter.get_output_details(0)
    dtype = details[0]["dtype"]
    if dtype not in (np.int8, np.int16):
        sys.exit("input and output are neither int8 nor int16")
    (in_scale, in_zero), (out_scale, out_zero) = (
        (
            float(end["quantization_parameters"]["scales"][0]),
            int(end["quantization_parameters"]["zero_points"][0]),
        )
        for end in details
    )
    limits = np.iinfo(dtype)
    codes = np.clip(np.rint(np.load(source) / in_scale) + in_zero, limits.min, limits.max).astype(
        dtype
    )
    rows = []
    for row in codes:
        interpreter.set_input(row.reshape(details[0]["shape"]), 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0).copy())
    np.save(sink, (np.concatenate(rows).astype(np.float32) - out_zero) * np.float32(out_scale))
    interpreter.print_allocations()


if __name__ == "__main__":
    main(*sys.argv[1:])
