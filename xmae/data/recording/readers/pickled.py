"""PPG-DaLiA and WESAD: one pickle per subject, with a chest recorder (ECG, 700 Hz) and a watch (BVP
64 Hz, ACC 32 Hz).

Pickles can run code when they are loaded; `plain_pickle` reads them without running any. PPG-DaLiA:
Reiss et al., Sensors 19(14):3079, 2019. WESAD: Schmidt et al., ICMI 2018.
"""

from xmae.data.recording.channels import Channel, recording_of
from xmae.data.recording.readers import plain_pickle
from xmae.data.recording.recording import real_numbers
from xmae.data.recording.window_labels import rates_of_windows
from xmae.errors import UserError

SFREQ = {"ECG": 700.0, "Resp": 700.0, "BVP": 64.0, "ACC": 32.0}  # Hz, as both data sets state them
ACC_STEPS = 64  # the watch counts acceleration in 1/64 g
HR_LABELS = (8.0, 2.0)  # s: PPG-DaLiA's heart rates are of windows of 8 s that start every 2 s


def read(path, channel_map):
    """Yield the only recording of a subject; age, sex and, in PPG-DaLiA, the heart rate become
    labels.
    """
    try:
        data = plain_pickle.load(path)
        chest, wrist = data["signal"]["chest"], data["signal"]["wrist"]
        signals = {"ECG": chest["ECG"], "Resp": chest.get("Resp"), "BVP": wrist["BVP"]}
        channels = [
            Channel(name, column(x), SFREQ[name]) for name, x in signals.items() if x is not None
        ]
        acc = matrix(wrist["ACC"]) / ACC_STEPS
        channels += [
            Channel(f"ACC_{axis}", acc[:, k], SFREQ["ACC"], unit="g")
            for k, axis in enumerate("XYZ")
        ]
        labels, subject = labels_of(data), plain_text(data["subject"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file raises any of a dozen types
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


def plain_text(x):
    """Return a name or number as text."""
    if not isinstance(x, str | int | float):
        raise UserError("holds something else where a name or a number is expected")
    return str(x)


def matrix(x):
    """Return an array of the file as float64; raises a `UserError` for nested lists, which may be
    endless.
    """
    if not isinstance(x, plain_pickle.Array):
        raise UserError("holds something else where an array is expected")
    return real_numbers(x)


def column(x):
    """Return a channel as one row of samples: (n, 1) or (n,) -> float64 (n,)."""
    return matrix(x).reshape(-1)


def labels_of(data):
    """Return the age, sex and heart rate; WESAD's `label` (the condition, at 700 Hz) is ignored."""
    labels, said = (
        {},
        {str(key).strip().upper(): x for key, x in data.get("questionnaire", {}).items()},
    )
    if "AGE" in said:
        labels["age"] = float(plain_text(said["AGE"]))
    if "GENDER" in said:
        labels["sex"] = plain_text(said["GENDER"]).strip()[:1].upper()
    if "activity" in data and "label" in data:
        rates = matrix(data["label"]).reshape(-1)
        labels["hr_reference"] = rates_of_windows(rates, *HR_LABELS)
    return labels


def holds_ppg(path, channel_map):
    """Return True: any such file counts as a recording, and one that is something else is refused
    when it is read.
    """
    return True
