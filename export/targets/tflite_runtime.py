"""tflite-runtime 2.14, the last release before LiteRT: what phones and boards in the field still
run `.tflite` with.

It is built against numpy 1 and for Python up to 3.11; so it has an environment of its own, in which
nothing else is seen but Python's standard library.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.environments import environment
from xmae.export.targets.session import ApartSession

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from tflite_runtime.interpreter import Interpreter

interpreter = Interpreter(model_path=sys.argv[2], num_threads=1)
interpreter.allocate_tensors()
source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

def codes(window):
    if source["dtype"] is np.float32:
        return window
    (scale, zero_point), limits = source["quantization"], np.iinfo(source["dtype"])
    numbers = np.rint(window / scale) + zero_point
    return np.clip(numbers, limits.min, limits.max).astype(source["dtype"])

rows = []
for window in np.load(sys.argv[3]):
    interpreter.set_tensor(source["index"], codes(window.reshape(source["shape"])))
    interpreter.invoke()
    row = interpreter.get_tensor(sink["index"])
    if sink["dtype"] is not np.float32:
        scale, zero_point = sink["quantization"]
        row = (row.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    rows.append(row)
np.save(sys.argv[4], np.concatenate(rows))
"""


def open_model(path):
    """Open a `.tflite` in tflite-runtime 2.14, in a new process for each call.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    ApartSession

    Raises
    ------
    UserError
        If the environment cannot be made; on calling, if the runtime does not read the file or
        lacks an operator.
    """
    overlay = environment("tflite-runtime")

    def run(ppg):
        with tempfile.TemporaryDirectory() as folder:
            source, sink = Path(folder) / "ppg.npy", Path(folder) / "embedding.npy"
            np.save(source, ppg)
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                SCRIPT,
                overlay,
                Path(path).resolve(),
                source,
                sink,
            ]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"signal {-done.returncode}"]
                raise UserError(f"{path}: does not run in tflite-runtime 2.14 ({lines[-1][:300]})")
            return np.load(sink)

    return ApartSession(run)
