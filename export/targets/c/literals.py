"""Values as C source: the only way by which a number or a text of a model gets into a C file."""

import math
import operator
import re


def integer(value, suffix=""):
    """Return a whole number as C writes it, with a suffix such as "u".

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
    """Return a number as a C float, with digits that give the same float32.

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
    """Return a text as it may stand inside a C comment: what could end it or mean more is "_".

    Examples
    --------
    >>> comment("rr (/min)"), comment("*/ int x; /*")
    ('rr (/min)', '_/ int x_ /_')
    """
    return re.sub(r"[^A-Za-z0-9 %/.,:()^=_-]", "_", text)


def table_block(text):
    """Return tables in C between marks that keep clang-format off."""
    return f"/* clang-format off */\n{text}/* clang-format on */\n"


def identifier(text):
    """Return a text as a C identifier: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)
