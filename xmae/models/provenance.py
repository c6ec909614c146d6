"""Schema of the header of an encoder's file: its architecture, and where it came from."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from xmae.files import parse_json
from xmae.manifest import Digest, Free, Line, OpenSchema, Text, Word, checked

LARGEST_SIZE = 8192  # of a width or a number of layers
N_BYTES = "n_bytes"  # the one setting that is no size: it is held against the file's own bytes


def modest(value):
    """Return the settings of an architecture; raises a `ValueError` if a number is too large for
    any.
    """
    if isinstance(value, dict):
        for name, part in value.items():
            if name != N_BYTES:
                modest(part)
    elif isinstance(value, list):
        for part in value:
            modest(part)
    elif isinstance(value, int | float) and abs(value) > LARGEST_SIZE:
        raise ValueError(f"has a number beyond {LARGEST_SIZE}")
    return value


Config = Annotated[dict[Word, Free], AfterValidator(modest)]


class Provenance(OpenSchema):
    """How an encoder was made. Fields with a default may be left out."""

    method: Line = ""
    paper: Line | None = None
    licence: Line | None = None
    note: Line = ""
    device: Line = ""
    architecture: Line | None = None
    file: Line | None = None
    sha256: Digest | None = None
    splits: dict[Text, Literal["train", "val", "test"]] = {}
    settings: dict[Word, Free] = {}
    contract: dict[Word, Free] = {}
    teacher: "Provenance" = None


def read_header(header, kinds, where):
    """Read the kind, configuration and provenance from the header of an encoder's file.

    Parameters
    ----------
    header : dict of str to str
        Metadata of a safetensors file.
    kinds : collection of str
        Those that are known.
    where : str or Path
        For messages.

    Raises
    ------
    UserError
        If one of them is missing, no JSON, or not as its schema says.
    """
    given = {name: header.get(name, "null") for name in ("config", "provenance")}
    config, provenance = (parse_json(text, f"{where}: {name}") for name, text in given.items())
    kind = checked(header.get("kind"), Literal[*kinds], f"{where}: kind of encoder")
    checked(config, Config, f"{where}: config")
    checked(provenance, Provenance, f"{where}: provenance")
    return kind, config, provenance
