"""Text from outside, made harmless where it is shown: on a terminal, in a spreadsheet."""

from unicodedata import category, normalize

# what a spreadsheet takes for the start of a formula; the last four are of full width
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def printable(text):
    r"""Replace control and invisible characters by their names; newlines and tabs stay.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Control characters, those that turn the direction of writing, and halves of characters
        become escapes.

    Examples
    --------
    >>> print(printable("red \x1b[31m"))
    red \x1b[31m
    """
    return "".join(
        char if char in "\n\t" or not hidden(char) else char.encode("unicode_escape").decode()
        for char in text
    )


def composed(name):
    """Return a name as most programs write it: accented letters as one character (NFC), without
    surrounding spaces. File names on a Mac are decomposed, and would count as another person.

    Examples
    --------
    >>> composed(" Zoe\u0308 ") == "Zo\u00eb"
    True
    """
    return normalize("NFC", str(name)).strip()


def hidden(char):
    """Tell whether a character is control, format, surrogate, private, or an unusual line end."""
    return category(char)[0] == "C" or category(char) in ("Zl", "Zp")


def cell(value):
    """Return a value as a cell of a CSV file: text that looks like a formula is quoted.

    Examples
    --------
    >>> cell("=1+1"), cell("hr"), cell(-1.5)
    ("'=1+1", 'hr', -1.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def out_of_cell(value):
    """Return the value from which `cell` made a text."""
    quoted = isinstance(value, str) and value[:1] == "'" and value[1:].startswith(FORMULA)
    return value[1:] if quoted else value
