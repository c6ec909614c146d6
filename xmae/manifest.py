"""What a manifest from outside may hold: one rule for names, and one way to read it.

Every JSON file that xmae reads back (bundle, store, signature, benchmark) has a schema, a class
derived from `Schema`. The whole file is checked against it before anything in it is used, so that a
name is a name and a number is a number from there on.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)

from xmae.errors import UserError
from xmae.files import read_json
from xmae.text import hidden, printable

MAX_DEPTH = 12  # of free-form parts
MAX_TEXT = 20_000  # characters of a text in them
MAX_INTEGER = 2**53  # JSON numbers beyond are not exact everywhere


def one_line(text: str) -> str:
    """Return a text; raises a `ValueError` if it contains control characters, which a terminal
    would obey.
    """
    if any(map(hidden, text)):
        raise ValueError("has control characters")
    return text


def plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON value; raises a `ValueError` if it is nested too deeply, too long or not
    finite.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, part in value.items():
            plain(key, depth)
            plain(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            plain(part, depth + 1)
    elif isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"has a text of more than {MAX_TEXT} characters")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("has a number that is not finite")
    elif isinstance(value, int) and abs(value) >= 2**64:
        raise ValueError("has a number that is too large")
    return value


def given(value: Any) -> Any:
    """Return a value that may be left out but not be null; raises a `ValueError` for null."""
    if value is None:
        raise ValueError("may be left out, but not be null")
    return value


def as_it_stands(value: Any, check: Callable[[Any], Any]) -> Any:
    """Return a value unchanged after a check that may convert it: 100 stays 100, not 100.0."""
    check(value)
    return value


def matching(pattern: str, what: str, longest: int) -> AfterValidator:
    """Return a check that a text matches a pattern completely; `what` describes the expected
    text.
    """
    rule = re.compile(pattern)

    def held(text: str) -> str:
        if len(text) > longest or not rule.fullmatch(text):
            raise ValueError(f"{text[:40]!a} is no {what}")
        return text

    return AfterValidator(held)


# the one rule for names of files: a part of a path, never a path, and never hidden
FileName = Annotated[str, matching(r"\w[\w.+-]*", "plain file name", 200)]
# such a name, or a few of them with "/" between: a file in folders of a folder
FilePath = Annotated[str, matching(r"\w[\w.+-]*(/\w[\w.+-]*){0,9}", "plain path", 400)]
# names of other people's recordings: also with spaces and brackets
PathPart = Annotated[str, matching(r"[\w(\[][\w.+() \[\]&,'~@#=-]*", "plain file name", 200)]
# models, tasks, formats, precisions, operators
Word = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9_.:+-]*", "plain name", 100)]
Units = Annotated[str, matching(r"[A-Za-z0-9%/. ^°µ-]*", "plain unit", 20)]
Digest = Annotated[str, matching(r"[0-9a-f]{64}", "SHA-256", 64)]
Line = Annotated[str, StringConstraints(max_length=1000), AfterValidator(one_line)]
Text = Annotated[str, StringConstraints(max_length=1000)]  # shown through `xmae.text` only
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Number = Annotated[float, Field(ge=-1e9, le=1e9), WrapValidator(as_it_stands)]
Value = TypeVar("Value")
# what may be left out of a file, and is then None; in the file it may not be null
Omitted = Annotated[Value | None, BeforeValidator(given)]
Free = Annotated[Any, AfterValidator(plain)]  # what is only shown or passed on


class Schema(BaseModel):
    """A part of a manifest, with exact types, finite numbers, and no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON value that the part was made from: omitted fields stay omitted."""
        return self.model_dump(exclude_unset=True)


class OpenSchema(Schema):
    """A part that may have further fields, whose plain values are only shown or passed on."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Free] = Field(init=False)


def read_manifest(path: Path | str, schema: Any) -> Any:
    """Read a JSON file and check it against a schema.

    Parameters
    ----------
    path : str or Path
    schema : type
        A `Schema`, or a type made of some, such as ``dict[Word, Head]``.

    Returns
    -------
    dict
        As it stands in the file.

    Raises
    ------
    UserError
        If the file is missing or no JSON, or anything in it is not as the schema says.
    """
    return checked(read_json(path), schema, path)


def checked(value: Any, schema: Any, where: object) -> Any:
    """Check a JSON value against a schema and return it unchanged; see `parsed`."""
    parsed(value, schema, where)
    return value


def parsed(value: Any, schema: type[Value], where: object) -> Value:
    """Convert a JSON value to an object of a schema; messages say `where` it is from.

    Parameters
    ----------
    value : object
        JSON value of dicts, lists, texts, numbers and None.
    schema : type
        A `Schema`, or a type made of some, such as ``dict[Word, Head]``.
    where : Path or str
        For messages.

    Raises
    ------
    UserError
        If it is not as the schema says; the message names the first field that is wrong.
    """
    try:
        return TypeAdapter(schema).validate_python(value)
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{where}: {first_fault(error)}") from None


def first_fault(error: ValidationError | RecursionError) -> str:
    """Describe the first fault of a failed validation in one line, with the number of faults."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    parts = [part for part in first["loc"] if part != "[key]"]
    place = printable(".".join(str(part)[:60] for part in parts))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "missing":
        return f"lacks {place}{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{place or 'the whole'}: {message}{more}"


def path_below(name: object, where: object) -> str:
    """Return a relative path that stays below the folder of the manifest `where`; raises a
    `UserError` for any other.

    Raises
    ------
    UserError
        If it is absolute, goes up, is hidden, or holds what is no name of a file.
    """
    parts = str(name).split("/")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{where}: {str(name)[:60]!r} lies too deep")
    for part in parts:
        checked(part, PathPart, f"{where}: the name {str(name)[:60]!r}")
    return str(name)


def file_name(name: object, where: object) -> str:
    """Return a name that is one part of a path, to be joined to the folder or URL `where`; raises a
    `UserError` for any other.

    Raises
    ------
    UserError
        If it could lead out of the folder, or names nothing.
    """
    return checked(name, FileName, f"{where}: the name {str(name)[:60]!r}")
