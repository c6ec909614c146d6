"""The one exception that stands for a mistake of the caller, not of the program, and its most usual
cause.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(ValueError):
    """An error that the user can fix: a missing file, a wrong rate, a flat signal, a damaged
    checkpoint.

    The command line prints its message as one line and exits with code 2, without a traceback; so
    the message names the file or setting, says what is wrong with it, and where possible what to
    do.
    """


@contextmanager
def refusing(where: object, kind: str) -> Iterator[None]:
    """Turn any exception of a parser inside a block into a `UserError` of one line.

    A damaged or forged file can raise anything in a library that reads it. This is the one boundary
    for all of them; a `UserError` passes as it is.

    Parameters
    ----------
    where : str or Path
        The file.
    kind : str
        Expected content, such as "a TFLite model".

    Raises
    ------
    UserError
        If the block raises any exception; an interrupt passes.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{where}: not readable as {kind} ({why})") from error


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise a `UserError` unless the setting `name` has one of its choices."""
    if value not in choices:
        raise UserError(f"unknown {name} '{value}'; expected one of {', '.join(choices)}")


def names_of(text: str) -> list[str]:
    """Return the values of a setting that are separated by commas."""
    return [part.strip() for part in text.split(",")]


def require_choices(name: str, text: str, choices: Collection[str]) -> list[str]:
    """Return the values of a setting, separated by commas; raise a `UserError` unless each is one
    of its choices.
    """
    values = names_of(text)
    for value in values:
        require_choice(name, value, choices)
    return values


def require_at_least(least: float, **settings: float) -> None:
    """Raise a `UserError` if one of the numeric settings is below `least`."""
    for name, value in settings.items():
        if not value >= least:
            raise UserError(f"{name} is {value:g}; expected at least {least:g}")


def require_share(**settings: float) -> None:
    """Raise a `UserError` if one of the settings is no share, 0 to 1."""
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is a share between 0 and 1, not {value:g}")


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """Return the end of a message, "; did you mean NAME?", with the choice most similar to the
    word; "" if none is.
    """
    close = get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f"; did you mean {close[0]}?" if close else ""
