"""Units that recorders state, and what they are worth: of time, voltage and acceleration.

A unit that is stated but not known is refused by name: nothing is taken for seconds or millivolts
by default. Three spellings of the micro sign, case and a closing "s" do not count.
"""

import re

from xmae.errors import UserError

G = 9.80665  # m/s2
TIME_NAMES = ("TIME", "TIMESTAMP", "TIMES", "T", "SECONDS")  # of a column with times
BRACKETS = re.compile(r"[(\[{<]\s*([^)\]}>]*[^)\]}>\s])\s*[)\]}>]+")
BEHIND = (
    # "time, s", "ECG/mV", "time in ms"; "X/V" may be lead V of a device
    re.compile(r"(.*\w)(?:\s*,\s*|\s+in\s+|\s*/(?!V$)\s*)([^\s,]+)"),
    # "ecg_mV", "acc_x_mg": where the unit cannot be a lead or an axis
    re.compile(r"(?i)((?:ecg|ekg|lead).*)[_ .-]([mun\u00b5\u03bc]v)"),
    re.compile(r"(?i)(acc.*)[_ .-](m?g|ms-?2|m/s2|m/s\^2)"),
)

SECONDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "msec": 1e-3, "millisec": 1e-3,
    "millisecond": 1e-3, "us": 1e-6, "usec": 1e-6, "microsec": 1e-6, "microsecond": 1e-6,
    "ns": 1e-9, "nsec": 1e-9, "nanosec": 1e-9, "nanosecond": 1e-9, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip
TO_MILLIVOLT = {
    "nv": 1e-6, "uv": 1e-3, "microvolt": 1e-3, "mv": 1.0, "millivolt": 1.0, "mvolt": 1.0,
    "uvolt": 1e-3, "v": 1e3, "volt": 1e3,
}  # fmt: skip
TO_G = {
    "g": 1.0, "mg": 1e-3, "m/s2": 1 / G, "m/s^2": 1 / G, "m/s/s": 1 / G, "ms-2": 1 / G,
    "ms2": 1 / G, "ms^-2": 1 / G, "m*s-2": 1 / G, "meter/s2": 1 / G,
}  # fmt: skip
# any scale: what is measured has no unit, or one of the converter
ARBITRARY = {
    "", "-", "1", "nu", "au", "arb", "arbitrary", "unitless", "nounit", "none", "n/a", "na", "adc",
    "adu", "count", "raw", "lsb", "bit", "digit", "unknown", "?", "norm", "normalized",
    "normalised", "dl", "cal", "uncal", "code", "wave", "pm",
}  # fmt: skip
# others that stand in a row of units
OTHERS = {
    "bpm", "%", "c", "degc", "mmhg", "ohm", "kohm", "us", "na", "ua", "ma", "hz", "deg/s", "dps",
    "rad/s", "ut", "hpa", "kpa", "pa", "db", "unix", "utc", "iso8601", "localflux", "sample",
}  # fmt: skip


def plain_unit(unit):
    """Normalise a unit: without case, spaces, brackets, micro sign and plural.

    Examples
    --------
    >>> plain_unit("µV"), plain_unit(" Seconds"), plain_unit("m/(s^2)"), plain_unit("a.u.")
    ('uv', 'second', 'm/s^2', 'au')
    """
    plain = str(unit).strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    plain = plain.replace("\u00b2", "2").replace("\u00b0", "").replace("**", "^")
    plain = re.sub(r"[\s()\[\]._]", "", plain) if plain.strip("._") else plain
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and "/" not in plain else plain


def split_unit(name):
    """Split a column's name into the quantity and the unit behind it; "" if it has none.

    Examples
    --------
    >>> split_unit("ECG [mV]"), split_unit("time in ms"), split_unit("ecg_uV"), split_unit("ppg")
    (('ECG', 'mV'), ('time', 'ms'), ('ecg', 'uV'), ('ppg', ''))
    """
    if found := BRACKETS.search(name):
        return BRACKETS.sub("", name).strip(), found[1].strip()
    for pattern in BEHIND:
        if (found := pattern.fullmatch(name.strip())) and is_unit(found[2]):
            return found[1], found[2]
    return name, ""


def is_unit(text):
    """Tell whether a text is a unit that a table may state below its names."""
    plain = plain_unit(text)
    known = (SECONDS, TO_MILLIVOLT, TO_G, ARBITRARY - {"", "-", "1", "?"}, OTHERS)
    return any(plain in units for units in known)


def seconds_in(unit, where):
    """Return the seconds in a stated unit of time; `where` names file and column in the error.

    Raises
    ------
    UserError
        If the unit is not one of time.
    """
    plain = plain_unit(unit)
    if plain not in SECONDS:
        raise UserError(
            f"{where} has the unit '{unit}', which is no known unit of time; say time_unit in a"
            " channel map (--channels): s, ms, us, ns, min or h"
        )
    return SECONDS[plain]


def millivolts_in(unit, where):
    """Return the millivolts in a stated unit, or None where the scale is arbitrary.

    Raises
    ------
    UserError
        If the unit is neither of voltage nor arbitrary.
    """
    return scale_of(unit, where, TO_MILLIVOLT, "ECG", "mV, uV, V, or 'a.u.' for any scale")


def gravities_in(unit, where):
    """Return the g in a stated unit of acceleration, or None where the scale is arbitrary.

    Raises
    ------
    UserError
        If the unit is neither of acceleration nor arbitrary.
    """
    return scale_of(unit, where, TO_G, "acceleration", "g, mg or m/s2")


def scale_of(unit, where, scales, quantity, expected):
    """Look a unit up in `scales`; None for an arbitrary one; raises a `UserError` for an unknown
    one.
    """
    plain = plain_unit(unit)
    if plain in scales:
        return scales[plain]
    if plain in ARBITRARY:
        return None
    raise UserError(
        f"{where} has the unit '{unit}', which is no known unit of {quantity}; say units in a"
        f" channel map (--channels): {expected}"
    )
