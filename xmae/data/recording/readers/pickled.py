"""PPG-DaLiA and WESAD: one pickle a subject, with a chest recorder (ECG, 700 Hz) and a watch (BVP
64 Hz, ACC 32 Hz).

Pickles can run code when they are loaded. Here only NumPy arrays in plain containers are admitted;
anything else in a file is refused before it is built. PPG-DaLiA: Reiss et al.,
Sensors 19(14):3079, 2019. WESAD: Schmidt et al., ICMI 2018.
"""

import pickle

import numpy as np

from xmae.data.recording.channels import Channel, recording_of
from xmae.data.recording.window_labels import rates_of_windows
from xmae.errors import UserError

SFREQ = {"ECG": 700.0, "Resp": 700.0, "BVP": 64.0, "ACC": 32.0}  # Hz, as both data sets state them
ACC_STEPS = 64  # the watch counts acceleration in 1/64 g
HR_LABELS = (8.0, 2.0)  # s: PPG-DaLiA's heart rates are of windows of 8 s that start every 2 s
ADMITTED = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar")
} | {("_codecs", "encode"), ("collections", "OrderedDict")}


class ArraysOnly(pickle.Unpickler):
    """Loads NumPy arrays in plain containers, and nothing else."""

    def find_class(self, module, name):
        """Admit the names that arrays need."""
        if (module, name) not in ADMITTED:
            raise UserError(
                f"refused: it asks for {module}.{name}, and only NumPy arrays are admitted"
            )
        return super().find_class(module, name)


def read(path, channel_map):
    """Yield the one recording of a subject; age, sex and, in PPG-DaLiA, the heart rate become
    labels.
    """
    try:
        with path.open("rb") as file:
            data = ArraysOnly(file, encoding="latin1").load()
        chest, wrist = data["signal"]["chest"], data["signal"]["wrist"]
        signals = {"ECG": chest["ECG"], "Resp": chest.get("Resp"), "BVP": wrist["BVP"]}
        channels = [
            Channel(name, column(x), SFREQ[name]) for name, x in signals.items() if x is not None
        ]
        acc = np.asarray(wrist["ACC"], np.float64) / ACC_STEPS
        channels += [
            Channel(f"ACC_{axis}", acc[:, k], SFREQ["ACC"], unit="g")
            for k, axis in enumerate("XYZ")
        ]
        labels, subject = labels_of(data), str(data["subject"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, EOFError, pickle.UnpicklingError, KeyError, IndexError, TypeError, ValueError, AttributeError,
            ImportError, UnicodeDecodeError) as error:  # fmt: skip
        raise UserError(
            f"{path}: not readable as a subject of PPG-DaLiA or WESAD ({error!r})"
        ) from error
    yield recording_of(
        channels,
        subject,
        path.stem,
        labels,
        wanted=channel_map.roles or None,
        units=channel_map.units,
    )


def column(x):
    """A channel as one row of samples: (n, 1) or (n,) -> float64 (n,)."""
    return np.asarray(x, np.float64).reshape(-1)


def labels_of(data):
    """Age, sex and heart rate; WESAD's `label` is the condition at 700 Hz, not a heart rate, and is
    passed over.
    """
    labels, said = (
        {},
        {str(key).strip().upper(): x for key, x in data.get("questionnaire", {}).items()},
    )
    if "AGE" in said:
        labels["age"] = float(said["AGE"])
    if "GENDER" in said:
        labels["sex"] = str(said["GENDER"]).strip()[:1].upper()
    if "activity" in data and "label" in data:
        rates = np.asarray(data["label"], np.float64).reshape(-1)
        labels["hr_monitor"] = rates_of_windows(rates, *HR_LABELS)
    return labels


def holds_ppg(path, channel_map):
    """Any such file counts as a recording; one that is something else is refused when it is
    read.
    """
    return True
