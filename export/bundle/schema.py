"""What may stand in a bundle's manifest, heads and signature; held against them as it is opened,
and as it is written.
"""

from typing import Annotated, Literal

from pydantic import Field

from xmae.errors import UserError
from xmae.manifest import (
    Count,
    Digest,
    FileName,
    FilePath,
    Free,
    Line,
    Number,
    OpenSchema,
    Schema,
    Units,
    Word,
    checked,
    matching,
)

MAX_WIDTH = 65_536  # numbers of an embedding
Size = Annotated[int, Field(ge=0, le=2**24)]  # 0: any


class End(Schema):
    """Input or output of a file; without scale and zero point where it is float."""

    shape: Annotated[list[Size], Field(min_length=1, max_length=6)]
    dtype: Literal["float32", "float16", "int8", "uint8", "int16"]
    scale: Annotated[float, Field(gt=1e-12, lt=1e6)] | None
    zero_point: Annotated[int, Field(ge=-(2**15), lt=2**15)] | None


class Drift(OpenSchema):
    """A file against PyTorch, on so many windows."""

    windows: Count
    centred_cosine_median: Annotated[float, Field(ge=-1.001, le=1.001)]
    centred_cosine_p5: Annotated[float, Field(ge=-1.001, le=1.001)]
    max_error: Number


class Estimate(OpenSchema):
    """What an NPU's compiler says of a file."""

    cycles: Number = 0
    inference_ms: Number = 0
    source: Line = ""


class Entry(OpenSchema):
    """One exported file. What has a default may be left out, but not be null."""

    model: Word
    format: Word
    precision: Word
    file: FileName
    sha256: Digest = None
    bytes: Count = 0
    params: Count = 0
    macs: Count = 0
    arena_bytes: Count = 0
    ops: dict[Line, Count] = {}
    undelegated: list[Line] | None = None
    float_layers: list[Line] = []
    input: End = None
    output: End = None
    embedding: Count = None  # numbers of the output; the timing map's follow
    drift: Drift | None = None  # null: this machine cannot run it
    estimated: Estimate = None


class CertaintyTable(Schema):
    """What a certainty of a student that reads beats promises; see `xmae.beats.certainty`."""

    half_width: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**16)]], Field(min_length=16, max_length=16)
    ]
    least: Annotated[int, Field(ge=0, le=255)]


class Window(OpenSchema):
    """What a model takes: rate (Hz), samples, range of the scaled signal."""

    sfreq: Number
    n_times: Count
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None


Range = Annotated[list[Count], Field(min_length=2, max_length=2)]  # least, greatest


class CModel(OpenSchema):
    """A student in libxmae."""

    model: Word
    name: matching(r"\w+", "name in C", 100)
    int8: FileName
    memory_bytes: Count
    constant_bytes: Count
    macs_per_second: Count
    reads_beats: bool
    embed_bytes: Count
    heads: list[Word]
    crc32: Annotated[int, Field(ge=0, lt=2**32)]


class CLibrary(OpenSchema):
    """The folder `c`: libxmae, and what it takes without being made anew."""

    version: Line
    rates_hz: Range
    bits: Range
    hop_s: Range
    channels: Range
    polarity: list[Word]
    models: Annotated[list[CModel], Field(min_length=1)]


class Licences(Schema):
    """Under which licences models and data are."""

    models: Line
    data: Line


class Manifest(OpenSchema):
    """`manifest.json`, in this version."""

    schema_version: Count
    name: Line = "xmae"
    window: Window
    preprocessing: dict[Word, Free]
    models: list[Entry]
    files: dict[FilePath, Digest]
    tools: dict[Word, Line] = {}
    certainty: dict[Word, CertaintyTable] = {}  # by model
    data: dict[Word, Free] = {}
    metrics: dict[Word, Free] = {}
    provenance: dict[Word, Free] = {}
    licences: Licences = None
    c: CLibrary = None


class Draft(Manifest):
    """A manifest that is about to be sealed: without hashes."""

    files: dict[FilePath, Digest] = {}


class Head(Schema):
    """A linear head: numbers for each value of an embedding."""

    kind: Literal["regression", "binary"]
    label: Line
    units: Units
    weight: Annotated[list[Number], Field(min_length=1, max_length=MAX_WIDTH)]
    bias: Number
    skill: Number = 1


Heads = dict[Word, dict[Word, Head]]  # by model and task


class Signature(Schema):
    """`manifest.sig`."""

    algorithm: Literal["Ed25519"]
    public_key: matching(r"[0-9a-f]{64}", "public key of 32 bytes in hexadecimal", 64)
    signature: matching(r"[0-9a-f]{128}", "signature of 64 bytes in hexadecimal", 128)


def checked_heads(heads, models, where):
    """Return heads that are as `Heads` says and as wide as the embeddings of their models.

    Parameters
    ----------
    heads : dict
        `heads.json`.
    models : list of dict
        Entries of the manifest.
    where : Path
        For messages.

    Raises
    ------
    UserError
        If they are not.
    """
    checked(heads, Heads, where)
    for entry in models:
        if not entry.get("output"):
            continue
        width = entry.get("embedding") or entry["output"]["shape"][-1]
        for task, head in heads.get(entry["model"], {}).items():
            if len(head["weight"]) != width:
                raise UserError(
                    f"{where}: {entry['model']}.{task}: {len(head['weight'])} weights for an "
                    f"embedding of {width}"
                )
    return heads
