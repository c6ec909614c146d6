"""`python -m xmae`."""

import sys

from xmae.cli import main

sys.exit(main())
