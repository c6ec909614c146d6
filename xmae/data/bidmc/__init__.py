"""The shipped excerpt of BIDMC: real ECG and PPG of intensive-care patients. Attribution and
licence: LICENSE.md.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
# all 34 subjects; the shipped weights saw the train subjects only
SHIPPED_SPLIT = FOLDER / "splits.csv"


def bidmc_files():
    """Return the paths of the shipped recordings."""
    return sorted(FOLDER.glob("*.npz"))
