"""ECG of an Apple Watch, as Apple Health exports it: a CSV file of 30 s, lead I, in uV.

Lines such as `Recorded Date,2024-05-04 10:00:00 +0200` and `Sample Rate,512.41 hertz` come first,
then one sample per line. Names and date of birth of the person stand there too, and are not read.
"""

import re

import numpy as np
import pandas as pd

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.errors import UserError

HEAD_LINES = 25
# in every language of the phone: when, how often, in what
DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")
RATE = re.compile(r"(?i)([\d.,]+)\s*(?:hertz|hercios|hz)")
UNITS = ("uV", "\u00b5V", "\u03bcV", "mV")
SAMPLE = re.compile(r'\s*"?-?[\d.,]+"?\s*,?')


def recognises(path):
    """Tell whether the first lines state the date and rate of a recording."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        said = values_of([file.readline() for _ in range(HEAD_LINES)])
    return all(any(kind.fullmatch(value) for value in said) for kind in (DATE, RATE))


def values_of(lines):
    """Return the text behind the name in each line of the header."""
    return [line.partition(",")[2].strip(' "\r\n') for line in lines[:HEAD_LINES]]


def part_of(path, channel_map):
    """Read the only channel of a file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as an ECG of Apple Health ({error})") from error
    said = values_of(lines)
    samples = [line for line in lines if SAMPLE.fullmatch(line)]
    number = next(filter(None, map(RATE.fullmatch, said)))[1]
    try:
        rate = float(number.replace(",", "."))
        x = [float(line.strip(' ",').replace(",", ".")) for line in samples]
        start = pd.Timestamp(next(filter(DATE.fullmatch, said))).isoformat()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as an ECG of Apple Health ({error})") from error
    unit = next((value for value in said if value in UNITS), "uV")
    return parts.Part([Channel("I", np.asarray(x), rate, unit=unit)], start, {"ecg": ["I"]})


def read(path, channel_map):
    """Refuse a file that stands alone, since it has no PPG."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Return False: the watch exports no PPG."""
    return False
