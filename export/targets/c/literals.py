"""Values as C source: the only way by which a number or a text of a model gets into a C file."""

import math
import operator
import re


def integer(value, suffix=""):
    """Format a whole number as a C literal, with a suffix such as "u".

    Raises
    ------
    TypeError
        If it is no whole number: text is none, whatever it says.

    Examples
    --------
    >>> integer(3, "u"), integer(-3)
    ('3u', '-3')
    """
    number = operator.index(value)
    # C has no literal for the lowest
    return f"{number}{suffix}" if number != -(2**31) else "(-2147483647 - 1)"


def real(value):
    """Format a number as a C float literal with enough digits for the same float32.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not finite.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} cannot be written as a C constant")
    return f"{number:.9e}f"


def comment(text):
    """Make a text safe inside a C comment: characters with a meaning there become "_".

    Examples
    --------
    >>> comment("rr (/min)"), comment("*/ int x; /*")
    ('rr (/min)', '_/ int x_ /_')
    """
    return re.sub(r"[^A-Za-z0-9 %/.,:()^=_-]", "_", text)


def table_block(text):
    """Return tables as C, between comments that switch clang-format off."""
    return f"/* clang-format off */\n{text}/* clang-format on */\n"


def identifier(text):
    """Turn a text into a C identifier: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)
