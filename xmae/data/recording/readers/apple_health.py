"""ECG of an Apple Watch, as Apple Health exports it: a CSV file of 30 s, lead I, in uV.

Lines such as `Recorded Date,2024-05-04 10:00:00 +0200` and `Sample Rate,512.41 hertz` come first,
then a sample a line. Names and date of birth of the person stand there too, and are not read.
"""

import re

import numpy as np
import pandas as pd

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.errors import UserError

HEAD_LINES = 25
KEYS = ("Recorded Date", "Sample Rate")


def recognises(path):
    """Whether the first lines name the date and the rate of a recording."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = [file.readline() for _ in range(HEAD_LINES)]
    return all(any(line.lstrip('"').startswith(key) for line in head) for key in KEYS)


def part_of(path, channel_map):
    """The one channel of a file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as an ECG of Apple Health ({error})") from error
    said = {}
    for line in lines[:HEAD_LINES]:
        name, _, value = line.partition(",")
        said.setdefault(name.strip(' "'), value.strip(' "'))
    samples = [line for line in lines if re.fullmatch(r'\s*"?-?[\d.,]+"?\s*,?', line)]
    number = re.match(r"[\d.,]+", said["Sample Rate"])
    try:
        rate = float(number[0].replace(",", "."))
        x = [float(line.strip(' ",').replace(",", ".")) for line in samples]
        start = pd.Timestamp(said["Recorded Date"]).isoformat()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as an ECG of Apple Health ({error})") from error
    unit = said.get("Unit", "uV")
    return parts.Part([Channel("I", np.asarray(x), rate, unit=unit)], start, {"ecg": ["I"]})


def read(path, channel_map):
    """Refuse the file by itself: it has no PPG."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Never: the watch exports no PPG."""
    return False
