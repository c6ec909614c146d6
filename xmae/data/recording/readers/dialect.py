"""How a text table is written: what parts its columns, where its names stand, which lines are rows.

Nothing is decided on one line alone. The separator is the one by which the lines of the sample have
as many fields as there are names; decimal commas, a row of units and trailing separators are looked
for in all of the sample. What stays open is refused by name: `ppg,ecg` above rows of three values
is not read as anything.
"""

import csv
import io
import mmap
import re
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from xmae.data.recording.sizes import check_columns
from xmae.data.recording.units import is_unit
from xmae.errors import UserError

SEPARATORS = ",;\t|"
COMMENTS = ("#", "%", "//")  # a line that begins so is no row
COMMENT_LINE = re.compile(rb"[\r\n](?:#|%|//)")
ONE_END = r"\r{0,2}\n|\r(?!\r?\n)"  # a file that was copied as text twice has "\r\r\n"
LINE_END, LINE_END_TEXT = re.compile(ONE_END.encode()), re.compile(ONE_END)
BLANK_ROW = re.compile(rf"(?:{ONE_END})[ \t]*(?:{ONE_END})(?=\s*[^\s\0])".encode())
DOUBLED_END = b"\r\r\n"
WIDE = {  # first bytes of other encodings
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}  # fmt: skip
ZEROS = {0.5: "UTF-16", 0.75: "UTF-32"}  # share of zero bytes
ENCODING_BYTES = 1000
SAMPLE_BYTES, SAMPLE_LINES = 1 << 20, 1000  # of the start of a file, by which it is judged
MOSTLY = 0.9  # share of the lines that must agree
UNIT_ROWS = 3  # lines between names and values that may hold units
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
DATE = re.compile(r"\d{4}-?\d\d-?\d\d([ T]|$)")
MISSING = {"", "nan", "na", "n/a", "null", "none", "<na>", "#n/a", "-nan", "inf", "-inf"}


@dataclass(frozen=True)
class Dialect:
    """How one text table is written: encoding, separator, header, units.

    Parameters
    ----------
    names : tuple of str
        Its columns; a repeated name has ".1" behind it, and so on.
    units : dict of str to str
        Units by column, where a row between names and values states them.
    separator, decimal : str
        One character each.
    first_row : int
        Lines before the first row of values.
    n_fields : int
        Fields of the longest sampled row, at least as many as there are names.
    """

    names: tuple
    units: dict
    separator: str
    decimal: str
    first_row: int
    n_fields: int


def dialect_of(path):
    """Find out how the table in a text file is written.

    Raises
    ------
    UserError
        If the file is not UTF-8, is empty, has no line of names, or its rows do not have as many
        fields as there are names.
    """
    lines = sample_lines(path)
    place = next((k for k, line in enumerate(lines) if is_content(line)), None)
    if place is None:
        raise UserError(f"{path}: not readable as a table: it has no line of names")
    separator = None
    if said := re.fullmatch(r"\"?sep=(.+?)\"?", lines[place].strip("\r\n")):
        separator = "\t" if said[1].strip() in ("\\t", "") else said[1]
        place += 1 + next((k for k, x in enumerate(lines[place + 1 :]) if is_content(x)), 0)
    header, below = lines[place], [(k, x) for k, x in enumerate(lines) if k > place]
    content = [(k, x) for k, x in below if is_content(x)]
    separator = separator or separator_of(header, [x for _, x in content])
    names = fields_of(header, separator)
    while len(names) > 1 and not names[-1]:
        names.pop()
    check_columns(len(names), path)
    refuse_unnamed(path, lines[:place], header, names, separator)
    rows = [(k, fields_of(x, separator)) for k, x in content]
    units, n_unit_rows = unit_row([row for _, row in rows])
    first_row = rows[n_unit_rows][0] if len(rows) > n_unit_rows else place + 1
    if len(names) == 1 and n_unit_rows == 0:
        first_row = place + 1  # an empty line is a missing sample of the only column
    rows = [row for _, row in rows[n_unit_rows:]]
    refuse_field_counts(path, names, rows)
    cells = list(chain.from_iterable(rows))
    names = tuple(unrepeated(names))
    return Dialect(
        names=names,
        units={n: u for n, u in zip(names, units, strict=False) if u},
        separator=separator,
        decimal="," if any(map(COMMA_NUMBER.fullmatch, cells)) else ".",
        first_row=first_row,
        n_fields=max([len(names), *map(len, rows)]),
    )


def sample_lines(path):
    """Return the first lines of a text file without line ends."""
    with path.open("rb") as file:
        data = file.read(SAMPLE_BYTES)
    whole = len(data) < SAMPLE_BYTES
    if wide := wide_encoding(data):
        raise UserError(f"{path}: not readable as a table: it is {wide}; save it as UTF-8")
    if not whole:  # the last line may be cut within a character
        data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not readable as a table ({error}); save it as UTF-8") from error
    return LINE_END_TEXT.split(text)[:SAMPLE_LINES]


def wide_encoding(data):
    """Return the encoding of a text with two or four bytes per character; "" for one byte.

    Without a mark at the start, such a text is recognised by its zero bytes: half or three quarters
    of all.
    """
    for mark, name in WIDE.items():
        if data.startswith(mark):
            return name
    zeros = data[:ENCODING_BYTES].count(0) / max(1, len(data[:ENCODING_BYTES]))
    return next((name for share, name in ZEROS.items() if abs(zeros - share) < 0.05), "")


def is_content(line):
    """Tell whether a line is neither empty nor a comment."""
    return bool(line.strip("\0\r\n ")) and not line.startswith(COMMENTS)


def fields_of(line, separator):
    """Return the fields of a line without surrounding spaces."""
    fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [field.strip() for field in fields]


def separator_of(header, rows):
    """Return the character that splits most rows into as many fields as names, or one more that is
    empty; of several the one with most fields.

    First those count by which rows have exactly as many, as "Time, s;PPG" may stand above "0.1;3".
    """
    exact = {s: share for s in SEPARATORS if (share := share_of_values(header, rows, s)) > 0}
    if exact:
        return max(exact, key=lambda s: (exact[s], len(fields_of(header, s))))
    best, most = ",", 1
    for separator in SEPARATORS:
        n_names = len(fields_of(header.rstrip(separator + " "), separator))
        counts = [len(fields_of(row.rstrip(separator + " "), separator)) for row in rows]
        fitting = np.mean([count <= n_names for count in counts]) if counts else 1
        if n_names > most and fitting >= MOSTLY:
            best, most = separator, n_names
    if most == 1:  # one name, or rows that do not fit: by what the names have most of
        best = max(SEPARATORS, key=header.count)
        if header.count(best) == 0:  # one name
            counts = {s: np.mean([s in row for row in rows] or [0]) for s in ";\t|,"}
            best = next((s for s, share in counts.items() if share >= MOSTLY), ",")
            plain = [row.strip() for row in rows]
            if (
                best == ","
                and plain
                and np.mean([bool(COMMA_NUMBER.fullmatch(x)) for x in plain]) > 0.5
            ):
                best = ";"  # decimal commas of the only column
    return best


def share_of_values(header, rows, separator):
    """Return the share of fields that are values, if most rows have as many fields as names; else
    0.
    """
    n_names = len(fields_of(header.rstrip(separator + " "), separator))
    split = [fields_of(row.rstrip(separator + " "), separator) for row in rows]
    if n_names < 2 or not split or np.mean([len(row) == n_names for row in split]) < MOSTLY:
        return 0.0
    return float(np.mean([is_value(cell) for cell in chain.from_iterable(split)]))


def refuse_unnamed(path, before, header, names, separator):
    """Raise a `UserError` if the header line is missing, or is only a comment."""
    if not all(NUMBER.fullmatch(name) or name.lower() in MISSING for name in names):
        return
    said = next((x for x in reversed(before) if x.startswith(COMMENTS)), "")
    if len(fields_of(said, separator)) == len(names) and len(names) > 1:
        raise UserError(
            f"{path}: its names stand in a comment, '{said[:60]}'; remove the {said[:1]} before "
            "them"
        )
    raise UserError(
        f"{path}: no line of names: its first line is '{header[:60]}'; write the names of the "
        "columns above it"
    )


def unit_row(rows):
    """Return the units of the columns from rows between names and values, and the number of such
    rows.

    A row of units has no number, at least one unit that is known, and words only in columns in
    which the rows below have none.
    """
    units, n_rows = [], 0
    for place, row in enumerate(rows[:UNIT_ROWS]):
        words = {k for k, cell in enumerate(row) if not is_value(cell)}
        below = rows[place + 1 : place + 50]
        measured = any(NUMBER.fullmatch(cell) or DATE.match(cell) for cell in row)
        if measured or not any(is_unit(row[k]) for k in words):
            break
        if not below or all(is_words(below, k) for k in words):
            break
        units, n_rows = row, place + 1
    return units, n_rows


def is_words(rows, column):
    """Tell whether most rows hold words in a column."""
    cells = [row[column] for row in rows if column < len(row)]
    return bool(cells) and np.mean([not is_value(cell) for cell in cells]) > 0.5


def is_value(cell):
    """Tell whether a field is a number, a date, or a placeholder for a missing value."""
    return bool(NUMBER.fullmatch(cell) or DATE.match(cell)) or cell.lower() in MISSING


def refuse_field_counts(path, names, rows):
    """Raise a `UserError` if most rows have fewer fields than names; rows with more are refused
    when the whole table is read.
    """
    counts = np.array([len(row) for row in rows])
    if len(counts) and np.mean(counts < len(names)) > 1 - MOSTLY and len(counts) > 1:
        raise UserError(
            f"{path}: its rows have {int(np.median(counts))} fields, but there are {len(names)} "
            f"names: {', '.join(names)}"
        )


def unrepeated(names):
    """Return the names without duplicates: a repeated one gets ".1" appended, and so on."""
    seen = {}
    for name in names:
        count = seen[name] = seen.get(name, -1) + 1
        yield f"{name}.{count}" if count else name


def read_text_table(path, text_columns=()):
    """Read a text table.

    Parameters
    ----------
    path : Path
        The file.
    text_columns : iterable of str
        Columns that are text whatever stands in them, such as subject 007.

    Returns
    -------
    table : DataFrame
        A row a sample; a row that the file breaks off in holds nothing but its time, if it has one.
    dialect : Dialect
        How the file is written.
    repairs : list of str
        "cut_row", "zero_tail", "short_rows" and "blank_rows", where it is so.

    Raises
    ------
    UserError
        If it cannot be read, or rows have more fields than there are names.
    """
    dialect, repairs = dialect_of(path), []
    end, uneven = look_through(path)
    extra = [f"\0{k}" for k in range(dialect.n_fields - len(dialect.names))]
    source, skip = path, dialect.first_row
    if uneven or end is not None:
        source, repairs = (
            io.BytesIO(without_comments(path, end, skip)),
            ["zero_tail"] if end else [],
        )
        skip = 0
    try:
        table = pd.read_csv(
            source, header=None, names=[*dialect.names, *extra], index_col=False, skiprows=skip,
            encoding="utf-8-sig", sep=dialect.separator, decimal=dialect.decimal,
            skipinitialspace=True, dtype=dict.fromkeys(text_columns, str),
            skip_blank_lines=len(dialect.names) > 1, low_memory=False,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    for name in extra:
        filled = np.flatnonzero(table[name].notna())
        if len(filled):
            raise UserError(
                f"{path}: row {filled[0] + 1} has more fields than there are names "
                f"({', '.join(dialect.names)}); name every column, and remove what stands above "
                "the names"
            )
    table = table[list(dialect.names)]
    refuse_double_spacing(path, table)
    fields = cut_fields(path, end, dialect)
    if fields and len(table):
        table = without_cut(table, fields)
        repairs = [*repairs, "cut_row"]
    return table, dialect, repairs + uneven_rows(path, end, dialect, table)


def refuse_double_spacing(path, table):
    """Raise a `UserError` if every second line of a single column is empty: the line ends were
    doubled, and no samples are missing.
    """
    empty = table.iloc[:, 0].isna().to_numpy()
    ways = (empty[::2], empty[1::2])
    if (
        table.shape[1] == 1
        and len(table) > 2
        and any(a.all() and not b.any() for a, b in (ways, ways[::-1]))
    ):
        raise UserError(f"{path}: every second line is empty; remove those lines")


def uneven_rows(path, end, dialect, table):
    """Return the repairs to count for rows: "short_rows" if some have fewer fields than names,
    "blank_rows" if there are empty lines between rows.

    Absent fields are missing samples. The last row is ignored, since a file may break off in it.
    """
    n_names = len(dialect.names)
    if n_names < 2 or not len(table):
        return []
    content = path.read_bytes()[:end]
    begin = 0
    for _ in range(dialect.first_row):
        begin = found.end() if (found := LINE_END.search(content, begin)) else begin
    repairs = ["blank_rows"] if BLANK_ROW.search(content, begin) else []
    if table[dialect.names[-1]][:-1].isna().any():
        mark, comments = dialect.separator.encode(), tuple(x.encode() for x in COMMENTS)
        rows = [
            x for x in LINE_END.split(content[begin:]) if x.strip() and not x.startswith(comments)
        ]
        if any(row.count(mark) < n_names - 1 for row in rows[:-1]):
            repairs.append("short_rows")
    return repairs


def look_through(path):
    """Return where the zero bytes at the end of a file begin (None: there are none), and whether
    comments or doubled line ends stand between its rows; zero bytes elsewhere are refused.
    """
    if not path.stat().st_size:
        return None, False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = data.find(b"\0")
        if first >= 0 and re.compile(rb"[^\0]").search(data, first):
            row = data[:first].count(b"\n") + 1
            raise UserError(
                f"{path}: zero bytes from line {row} on, as of a card that was not written; the "
                "rows there are lost: cut the file before them, or take the rest as a file of its "
                "own"
            )
        uneven = bool(COMMENT_LINE.search(data)) or data.find(DOUBLED_END) >= 0
        return (first if first >= 0 else None), uneven


def without_comments(path, end, n_lines):
    """Return the bytes of a text file up to `end`, without its first lines and without comment
    lines.
    """
    lines = LINE_END.split(path.read_bytes()[:end])[n_lines:]
    marks = tuple(mark.encode() for mark in COMMENTS)
    return b"\n".join(line for line in lines if not line.startswith(marks))


def cut_fields(path, end, dialect):
    """Return the number of fields in the last line if the file breaks off within it; else 0."""
    size = path.stat().st_size if end is None else end
    with path.open("rb") as file:
        file.seek(max(0, size - 65536))
        tail = file.read(size - file.tell()).decode(errors="replace")
    if not tail or tail[-1] in "\r\n":
        return 0
    n_fields = len(fields_of(re.split(r"[\r\n]", tail)[-1], dialect.separator))
    return n_fields if n_fields < len(dialect.names) or end is not None else 0


def without_cut(table, n_fields):
    """Return the table with only the complete fields in its last row: all but the last one
    written.
    """
    table = table.copy()
    table.iloc[-1, n_fields - 1 :] = None if table.dtypes.eq(object).any() else np.nan
    return table if n_fields > 1 else table.iloc[:-1]
