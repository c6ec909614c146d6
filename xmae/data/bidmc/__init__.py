"""The shipped excerpt of BIDMC: real ECG and PPG of intensive-care patients. Attribution and licence: LICENSE.md."""

from pathlib import Path

FOLDER = Path(__file__).parent
SHIPPED_SPLIT = FOLDER / "splits.csv"  # all 34 patients; the shipped weights saw the train patients only


def bidmc_files():
    """Paths of the shipped recordings."""
    return sorted(FOLDER.glob("*.npz"))
