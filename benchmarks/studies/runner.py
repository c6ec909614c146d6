"""How the measurements that write a table are run: a mistake of the user is one line, as in `xmae`,
not a traceback.
"""

import sys

from xmae.cli import fail
from xmae.errors import UserError


def run_script(main, *arguments, **settings):
    """What `main` gives; after a `UserError` the process ends with its message as a line and code
    2.
    """
    try:
        return main(*arguments, **settings)
    except UserError as error:
        sys.exit(fail(str(error))[1])
