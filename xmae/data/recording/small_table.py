"""Small tables of people, splits and labels, from a CSV or Parquet file, with limits."""

import warnings
from pathlib import Path

import pandas as pd

from xmae.data.recording.parquet import check_parquet
from xmae.data.recording.sizes import check_columns
from xmae.errors import UserError, refusing

LONGEST_HEAD = 1 << 20  # bytes of the line that names the columns


def read_small_table(path, kind, texts=None):
    """Read a table whose first row holds the column names.

    Parameters
    ----------
    path : str or Path
        Its name ends with .parquet, or it is a CSV file.
    kind : str
        Kind of table, for messages.
    texts : list of str, optional
        Columns of a CSV file to keep as text; by default all.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    UserError
        If it cannot be read, has rows longer than its names, or has more columns or longer texts
        than any such table.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with refusing(path, kind):
        if path.suffix.lower() == ".parquet":
            check_parquet(path, path)
            return pd.read_parquet(path)
        with path.open("rb") as file:
            head = file.readline(LONGEST_HEAD)
        check_columns(head.count(b",") + 1, path)
        kinds = str if texts is None else dict.fromkeys(texts, str)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # that cells would be lost
            return pd.read_csv(path, dtype=kinds, index_col=False)
