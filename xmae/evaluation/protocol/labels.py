"""Label tables: one Parquet or CSV file of who, which recording, when, and what is true of it,
joined to windows.

Columns: `subject`; `record` (optional, empty = all recordings of the subject); `time` (optional, s
from the start of the recording, empty = all of it: a row holds until the next row of the same
recording); then a column for each label, named like `Task.column`, or one column `label` for a
single task. An empty label is a missing one.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from xmae.data.recording.people import subject_name
from xmae.data.recording.sentinels import refuse_no_values
from xmae.data.recording.small_table import read_small_table
from xmae.data.store.windows import OLD_NAMES
from xmae.errors import UserError
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.progress import stage
from xmae.text import out_of_cell

KEYS = ("subject", "record", "time")


def read_labels(path, tasks=None, known=REGISTRY):
    """Read a label table.

    Parameters
    ----------
    path : str or Path
        `.parquet` or `.csv`.
    tasks : sequence of str, optional
        Tasks asked for: where there is just one, its labels may stand in a column `label`.
    known : dict
        Tasks by name; those of the package, and declared ones.

    Returns
    -------
    pandas.DataFrame
        Text columns subject and record ("" = all), float column time (NaN = from the start), float
        label columns.

    Raises
    ------
    UserError
        If the file cannot be read, lacks `subject` or labels, has an unknown column, a label that
        is no number, a class other than 0 and 1, or two rows for the same subject, record and time.
    """
    path = Path(path)
    table = read_table(path)
    if "label" in table and tasks and len(tasks) == 1:
        table = table.rename(columns={"label": known[tasks[0]].column})
    names = [name for name in table if name not in KEYS]
    check_columns(path, table, names, known)
    for name in ("time", *names) if "time" in table else names:
        table[name] = numbers_of(path, table[name])
    table = table.assign(
        subject=table["subject"].map(subject_name).fillna(""),
        record=table["record"].map(subject_name).fillna("") if "record" in table else "",
        time=table.get("time", np.nan),
    )
    check_classes(path, table, known)
    if (twice := table.duplicated(list(KEYS))).any():
        subject, record, time = table.loc[twice, list(KEYS)].iloc[0]
        raise UserError(
            f"{path}: two rows for subject {subject}, record {record or '(any)'}, time {time:g}"
        )
    return table


def read_table(path):
    """Read the file unchanged, with subject and record as text and labels under their current
    names.
    """
    texts = ["subject", "record"]
    table = read_small_table(path, "a label table (.parquet or .csv)", texts)
    table = table.rename(columns=OLD_NAMES)
    for name in table.columns.intersection(texts):
        table[name] = table[name].map(out_of_cell)
    return table


def check_columns(path, table, names, known):
    """Raise a `UserError` for a table without subject or labels, or with a label that no task
    uses.
    """
    if "subject" not in table or not names:
        raise UserError(
            f"{path}: a label table has the column subject and at least one label; found "
            f"{list(table)}"
        )
    columns = tuple(dict.fromkeys(task.column for task in known.values()))
    if unknown := [name for name in names if name not in columns]:
        hint = f"; declare your own with --tasks {unknown[0]}:binary or {unknown[0]}:number:UNIT"
        if "label" in unknown:
            hint = "; a column 'label' serves one task, named with --tasks"
        raise UserError(
            f"{path}: no task uses the column {unknown[0]!r}; known: {', '.join(columns)}{hint}"
        )


def numbers_of(path, column):
    """Return a column as floats; raises a `UserError` for text and for infinite numbers."""
    try:
        column = pd.to_numeric(column).astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: column {column.name}: {error}") from error
    refuse_no_values(column, f"{path}: column {column.name}")
    minus_one = int((column == -1).sum())
    if minus_one and column[column != -1].min() > 0:
        stage(
            f"warning: {path}: column {column.name} is -1 in {minus_one} rows, which are taken as"
            " measured; leave a missing label empty"
        )
    return column


def check_classes(path, table, known):
    """Raise a `UserError` if a label with two classes is not 0, 1 or empty."""
    two_classes = [task for task in known.values() if task.kind == "binary" and task.above is None]
    for task in two_classes:
        if task.column in table:
            wrong = table[task.column].dropna()
            if not (wrong := wrong[~wrong.isin([0, 1])]).empty:
                raise UserError(f"{path}: {task.column} is 0, 1 or empty, not {wrong.iloc[0]:g}")


def join_labels(data, table, name="the label table"):
    """Add the labels of a table to a dataset.

    A window gets the row that holds at its middle; a row of its recording goes before one of its
    subject.

    Parameters
    ----------
    data : Dataset
        Its `labels` are added to; columns of the table replace those of the same name.
    table : pandas.DataFrame
        As `read_labels` gives it.
    name : str
        Name of the table in errors.

    Raises
    ------
    UserError
        If the table names a subject or recording that the dataset does not have.
    """
    _check_matches(table["subject"], data.subject, "subjects", name, data.name)
    with_record = table[table["record"] != ""]
    known = np.char.add(np.char.add(data.subject.astype(str), " / "), data.record.astype(str))
    _check_matches(
        with_record["subject"] + " / " + with_record["record"], known, "recordings", name, data.name
    )
    windows = pd.DataFrame(
        {"subject": data.subject, "record": data.record, "time": data.start_s + data.seconds / 2}
    )
    windows = windows.reset_index().sort_values("time", kind="stable")
    rows = table.assign(time=table["time"].fillna(-np.inf)).sort_values("time", kind="stable")
    names = [column for column in table if column not in KEYS]
    joined = pd.DataFrame(np.nan, index=range(len(windows)), columns=names)
    for keys, part in ((["subject"], rows[rows["record"] == ""].drop(columns="record")),
                       (["subject", "record"], rows[rows["record"] != ""])):  # fmt: skip
        found = pd.merge_asof(windows, part, on="time", by=keys).set_index("index").sort_index()
        joined = found[names].combine_first(joined)
    data.labels.update({column: joined[column].to_numpy(dtype=np.float64) for column in names})


def _check_matches(named, known, what, name, dataset):
    named, known = sorted(set(named)), set(known)
    if unknown := [item for item in named if item not in known]:
        raise UserError(
            f"{name}: {len(unknown)} of its {len(named)} {what} are not in {dataset}: "
            f"{', '.join(unknown[:3])}"
            f"{' ...' if len(unknown) > 3 else ''} (it has {', '.join(sorted(known)[:3])} ...); "
            "leave them out of the table, or use the store that they belong to"
        )
