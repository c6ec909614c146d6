"""The one exception that stands for a mistake of the caller, not of the program."""


class UserError(ValueError):
    """Something the user can mend: a missing file, a wrong rate, a flat signal, a damaged checkpoint.

    The command line prints its message as one line and exits with code 2, without a traceback; so the message names
    the file or setting, says what is wrong with it, and where possible what to do.
    """
