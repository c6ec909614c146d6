"""Parquet files from outside: the sizes that they claim are checked before they are unpacked."""

from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xmae.data.recording.sizes import check_columns, check_samples
from xmae.errors import UserError

LONGEST_TEXT = 1000  # bytes of a cell


def check_parquet(content, path, size=None, columns=None):
    """Raise a `UserError` if a Parquet file unpacks to more than a file of its size can hold.

    Parameters
    ----------
    content : str, Path or pyarrow.Buffer
        The file, or all of its bytes.
    path : str or Path
        Name of the file, for messages.
    size : int, optional
        Its bytes; by default those of the file at `path`.
    columns : list of str, optional
        Those that are to be read; by default all.

    Raises
    ------
    UserError
        If it does.
    OSError, ValueError, pyarrow.ArrowException
        If it is damaged.
    """
    meta = pq.ParquetFile(content).metadata
    check_columns(meta.num_columns, path)
    values = unpacked = 0
    for group in map(meta.row_group, range(meta.num_row_groups)):
        for part in map(group.column, range(group.num_columns)):
            if columns is None or lies_in(part.path_in_schema, columns):
                values += max(part.num_values, group.num_rows)
                unpacked += part.total_uncompressed_size
    check_samples(max(values, unpacked // 8), path, size)
    check_texts(content, path, columns)


def lies_in(path, columns):
    """Tell whether a path such as "ppg.green" lies in one of the columns, as a field of "ppg" or as
    the column "ppg.green".
    """
    return not set(accumulate(path.split("."), "{}.{}".format)).isdisjoint(columns)


def check_texts(content, path, columns=None):
    """Raise a `UserError` for a Parquet file with texts that no table of samples holds: a long text
    may be stored once, and referred to a million times. Arguments are those of `check_parquet`.
    """
    fields = [x for x in pq.read_schema(content) if columns is None or x.name in columns]
    texts = [field.name for field in fields if is_text(field.type)]
    if not texts:
        return
    table = pq.read_table(content, columns=texts, read_dictionary=texts)
    for name in texts:
        for chunk in table[name].chunks:
            words = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            longest = pc.max(pc.binary_length(words)).as_py() or 0
            if longest > LONGEST_TEXT:
                raise UserError(f"{path}: column '{name}' holds a text of {longest} bytes")


def is_text(kind):
    """Tell whether an Arrow type is text or bytes of any length."""
    checks = pa.types.is_string, pa.types.is_large_string, pa.types.is_binary
    return any(check(kind) for check in (*checks, pa.types.is_large_binary))
