"""Set a tenth of the recordings of a folder aside for choosing, by the hash of their names.

    python -m xmae.benchmarks.release.split_by_hash FOLDER split.csv

The CSV file is for `xmae prepare --split`. No recording is for testing: such sets name no subjects,
so they may train and choose, and no result is reported on them.
"""

import csv
from pathlib import Path

from xmae.benchmarks.studies.runner import run_tool
from xmae.errors import UserError
from xmae.files import atomic_file
from xmae.twin.bank import held_out


def split_by_hash(folder: str, out: str, /) -> dict:
    """Write the subject and split of every .npz recording in a folder.

    Parameters
    ----------
    folder : str
        With the recordings.
    out : str
        CSV file to write.

    Raises
    ------
    UserError
        If the folder holds none.
    """
    names = sorted(path.stem for path in Path(folder).glob("*.npz"))
    if not names:
        raise UserError(f"{folder}: holds no .npz recordings")
    split = {name: "val" if held_out(name) else "train" for name in names}
    with atomic_file(Path(out)) as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([("subject", "split"), *split.items()])
    return {which: list(split.values()).count(which) for which in ("train", "val")}


if __name__ == "__main__":
    run_tool(split_by_hash)
