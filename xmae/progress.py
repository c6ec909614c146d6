"""Progress of long steps on standard error: bars come from tqdm, and lines from `stage`."""

import sys

from tqdm import tqdm

from xmae.launch import rank


def stage(text):
    """Print which step begins, as a line that does not break progress bars."""
    if rank() == 0:
        tqdm.write(f"... {text}", file=sys.stderr)
