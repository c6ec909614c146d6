"""Schemas of `store.json` and of the notes of a preparation, checked when they are read."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict

from xmae.errors import UserError
from xmae.manifest import (
    Count,
    Digest,
    FileName,
    Free,
    Omitted,
    OpenSchema,
    Text,
    parsed,
)

STORE = "store.json"
# 1 had no index, measures and counts, 2 no beats, and its label hr was the monitor's; both can
# still be read
SCHEMA_VERSION = 3
READABLE = (1, 2, 3)
# what older versions did not count
UNKNOWN: dict[str, Any] = {
    "settings": {},
    "dropped": {},
    "windows_by_split": {},
    "subjects_by_split": {},
    "left_out": [],
}
# names of files that we write, and may remove
OURS = re.compile(
    r"(\d{5,}|index|labels)-.*[0-9a-f]{12}\.parquet|\.(\d{5,}|index|labels|store)\b.*"
)


def time_or_nothing(text: str) -> str:
    """Check that a text is empty or a time in ISO 8601."""
    if text:
        datetime.fromisoformat(text)
    return text


class Table(OpenSchema):
    """A Parquet file of the store: its name, and its SHA-256."""

    file: FileName
    sha256: Digest


class Shard(Table):
    """Windows of one subject, 10 s each.

    Attributes
    ----------
    subject : str
        Subject of the windows.
    windows : int
        Number of windows.
    with_truth : int or None
        Number of windows with a heart rate from the ECG; None: not counted, in older stores.
    source : str
        Name of the file that they were prepared from.
    """

    subject: Text
    windows: Count
    with_truth: Omitted[Count] = None
    source: Text = ""


class LeftOut(OpenSchema):
    """A recording that was left out."""

    source: Text
    why: Text


class Store(OpenSchema):
    """Content of `store.json`, of any version."""

    schema_version: Count
    splits: dict[Text, Literal["train", "val", "test"]]
    shards: list[Shard]
    windows: Count
    index: Omitted[Table] = None
    labels: list[Table] = []
    leads: list[Text] = []
    settings: dict[Text, Free] = {}
    limits: dict[Text, Free] = {}
    dropped: dict[Text, Count] = {}
    repairs: dict[Text, Count] = {}
    passed_over: dict[Text, Count] = {}
    windows_by_split: dict[Text, Count] = {}
    subjects_by_split: dict[Text, Count] = {}
    left_out: list[LeftOut] = []


class Row(OpenSchema):
    """The index row of a recording."""

    model_config = ConfigDict(extra="ignore")
    subject: Text
    record: Text
    source: Text
    start: Annotated[str, AfterValidator(time_or_nothing)]
    samples_sha256: Text
    windows: Count
    shard: FileName
    row: Count


class Note(OpenSchema):
    """What `xmae prepare` records of a finished file."""

    of: Free
    source: Text
    shards: list[Shard]
    recordings: list[dict[Text, Free]]
    refused: list[Text]
    leads: list[Text]
    counts: dict[Text, Count]
    repairs: dict[Text, Count]
    passed_over: dict[Text, Count]


def checked_store(meta: Any, where: object) -> dict[str, Any]:
    """Check a `store.json` against the schema; its subjects must have a split.

    Raises
    ------
    UserError
        If it is not, or of a version that cannot be read.
    """
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if version not in READABLE or isinstance(version, bool):
        raise UserError(
            f"{where}: store of version {str(version)[:20]}, expected {SCHEMA_VERSION}; "
            "prepare it again"
        )
    store = parsed(meta, Store, f"{where}/{STORE}")
    for shard in store.shards:
        if shard.subject not in store.splits:
            raise UserError(
                f"{where}/{STORE}: {shard.file}: the subject {shard.subject} has no split"
            )
    return UNKNOWN | meta


def named_files(meta: dict[str, Any]) -> set[str]:
    """Return the names of all files that a `store.json` names, and its own; each is one part of a
    path.
    """
    index = [meta["index"]] if meta.get("index") else []
    entries = (*meta["shards"], *meta.get("labels", []), *index)
    return {STORE} | {table.file for table in parsed([*entries], list[Table], STORE)}
