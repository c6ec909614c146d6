"""`xmae tasks`: an empty label table for the tasks of the paper, or any others, in the rows that a
store has.
"""

from pathlib import Path

import pandas as pd

from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_choice, require_choices
from xmae.evaluation.protocol.labels import KEYS
from xmae.evaluation.protocol.tasks import PAPER, REGISTRY
from xmae.files import atomic_file
from xmae.text import cell

ROWS = {"subject": ["subject"], "record": ["subject", "record"], "window": list(KEYS)}


def tasks(data: str, names: str = "paper", rows: str = "subject", out: str = "runs/labels") -> dict:
    """Write a label table to be filled in, and explain what belongs in each column.

    Parameters
    ----------
    data : str
        Store of windows, whose subjects, recordings or times make the rows.
    names : str
        Tasks, separated by commas, or "paper" for its 19.
    rows : str
        One row per "subject", "record" or "window" (10 s; the time is its start, s).
    out : str
        Folder for labels.csv, and columns.md: what to write into each column.

    Returns
    -------
    dict
        `columns`: per label column what to write into it; `rows`; "out": the table.
    """
    chosen = PAPER if names == "paper" else require_choices("task", names, REGISTRY)
    require_choice("rows", rows, ROWS)
    path = Path(out) / "labels.csv"
    if path.exists():
        raise UserError(f"{path}: is there already; labels may be in it, so name another folder")
    windows = WindowStore(data).windows()
    keys = {"subject": windows.subject, "record": windows.record, "time": windows.start_s}
    table = pd.DataFrame({key: keys[key] for key in ROWS[rows]}).drop_duplicates()
    columns = {
        REGISTRY[name].column: f"{REGISTRY[name].label}: {REGISTRY[name].fill}" for name in chosen
    }
    table[list(columns)] = float("nan")
    with atomic_file(path) as temporary:
        table.map(cell).to_csv(temporary, index=False)
    with atomic_file(Path(out) / "columns.md") as temporary:
        temporary.write_text(
            "".join(f"- `{column}`: {words}\n" for column, words in columns.items())
        )
    summary = [
        f"{len(table)} rows to be filled in, one column per task: {', '.join(columns)}",
        f"then: xmae evaluate MODEL --data {data} --labels {path}",
    ]
    return {"columns": columns, "rows": len(table), "summary": summary, "out": str(path)}
