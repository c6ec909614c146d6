"""The one exception that stands for a mistake of the caller, not of the program, and its most usual cause."""


class UserError(ValueError):
    """Something the user can mend: a missing file, a wrong rate, a flat signal, a damaged checkpoint.

    The command line prints its message as one line and exits with code 2, without a traceback; so the message names
    the file or setting, says what is wrong with it, and where possible what to do.
    """


def require_choice(name, value, choices):
    """Raise a `UserError` unless the setting `name` has one of its choices."""
    if value not in choices:
        raise UserError(f"unknown {name} '{value}'; expected one of {', '.join(choices)}")
