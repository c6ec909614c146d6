"""Schemas of a bundle's manifest, heads and signature, which are checked when it is opened and when
it is written.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from xmae.errors import UserError
from xmae.evaluation.heads.head import MAX_WIDTH, Heads
from xmae.manifest import (
    Count,
    Digest,
    FileName,
    FilePath,
    Free,
    Line,
    Number,
    Omitted,
    OpenSchema,
    Schema,
    Units,
    Word,
    matching,
    parsed,
)

CODES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}  # least, greatest
Size = Annotated[int, Field(ge=0, le=2**24)]  # 0: any


class End(Schema):
    """The input or output of a file.

    Attributes
    ----------
    shape : list of int
        Batch first; 0 = any.
    dtype : str
        Type of its numbers.
    scale, zero_point : float and int, or None
        A code stands for `scale * (code - zero_point)`: part of the scaled window [-1, 1], or of
        the embedding, which has no unit. None: floats.
    """

    shape: Annotated[list[Size], Field(min_length=1, max_length=6)]
    dtype: Literal["float32", "float16", "int8", "uint8", "int16"]
    scale: Annotated[float, Field(gt=1e-12, lt=1e6)] | None
    zero_point: Annotated[int, Field(ge=-(2**15), lt=2**15)] | None

    @model_validator(mode="after")
    def is_a_code(self) -> Self:
        """Check that the zero point is a code of its type."""
        low, high = CODES.get(self.dtype, (0, 0))
        if self.zero_point is not None and not low <= self.zero_point <= high:
            raise ValueError(f"zero_point {self.zero_point} is no code of {self.dtype}")
        return self


class Drift(OpenSchema):
    """Difference of a file's embeddings from PyTorch's, on held-out windows.

    Attributes
    ----------
    windows : int
        Number of windows compared.
    centred_cosine_median, centred_cosine_p5 : float
        Median and 5th percentile over windows of the cosine between both embeddings, less the mean
        embedding of the training windows; 1 = the same direction.
    max_error : float
        Largest difference of a value of the embedding, which has no unit.
    """

    windows: Count
    centred_cosine_median: Annotated[float, Field(ge=-1.001, le=1.001)]
    centred_cosine_p5: Annotated[float, Field(ge=-1.001, le=1.001)]
    max_error: Number


class Estimate(OpenSchema):
    """What an NPU's compiler estimates of a file.

    Attributes
    ----------
    source : str
        Compiler and accelerator.
    inference_ms : float
        Time of one window, ms.
    cycles : float
        Cycles of the accelerator for one window.
    clock_mhz : float
        Its clock, MHz.
    macs : int
        Multiply-accumulates of one window.
    sram_kib, weights_kib : float
        Working memory, and weights as the accelerator stores them, KiB.
    """

    source: Line = ""
    inference_ms: Omitted[Number] = None
    cycles: Omitted[Number] = None
    clock_mhz: Omitted[Number] = None
    macs: Omitted[Count] = None
    sram_kib: Omitted[Number] = None
    weights_kib: Omitted[Number] = None


class Entry(OpenSchema):
    """One exported file. A field that is None is left out of the manifest, except `drift` and
    `undelegated`, which may be null there.

    Attributes
    ----------
    model, format, precision : str
        Exported model ("student"), target ("litert"), and arithmetic ("int8").
    file, bytes : str, int
        Name in the bundle, and size in bytes.
    macs : int
        Multiply-accumulates of one window.
    embedding : int
        Width of the embedding in the output; the timing map follows. None: all of the output.
    ops : dict
        Operators by kind, with their number.
    undelegated : list of str
        Operators that do not run as they should; None: of no meaning for the format.
    input, output : End
        Input and output of the file.
    arena_bytes : int
        Working memory of TensorFlow Lite Micro, bytes.
    estimated : Estimate
        Estimate by an NPU's compiler, where there is one.
    float_layers : list of str
        Layers that were left in float.
    drift : Drift or None
        Comparison with PyTorch; None: this machine cannot run the file.
    params : int
        Weights of the encoder.
    sha256 : str
        Hash of the file.
    """

    model: Word
    format: Word
    precision: Word
    file: FileName
    bytes: Omitted[Count] = None
    macs: Omitted[Count] = None
    embedding: Omitted[Annotated[int, Field(ge=1, le=MAX_WIDTH)]] = None
    ops: dict[Line, Count] = {}
    undelegated: list[Line] | None = None
    input: Omitted[End] = None
    output: Omitted[End] = None
    arena_bytes: Omitted[Count] = None
    estimated: Omitted[Estimate] = None
    float_layers: list[Line] = []
    drift: Drift | None = None
    params: Omitted[Count] = None
    sha256: Omitted[Digest] = None


class CertaintyTable(Schema):
    """What the certainty of a student that reads beats means; see `xmae.beats.certainty`."""

    half_width: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**16)]], Field(min_length=16, max_length=16)
    ]
    least: Annotated[int, Field(ge=0, le=255)]


class Window(OpenSchema):
    """Input of a model: rate (Hz), samples, range of the scaled signal."""

    sfreq: Number
    n_times: Count
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None


Range = Annotated[list[Count], Field(min_length=2, max_length=2)]  # least, greatest


class CModel(OpenSchema):
    """A student in libxmae; `embed_bytes` is 0 where it gives no embeddings."""

    model: Word
    name: Annotated[str, matching(r"\w+", "name in C", 100)]
    int8: FileName
    memory_bytes: Count
    constant_bytes: Count
    macs_per_second: Count
    reads_beats: bool
    takes_acceleration: bool = False
    embed_bytes: Count
    heads: list[Word]
    crc32: Annotated[int, Field(ge=0, lt=2**32)]


class CLibrary(OpenSchema):
    """The folder `c`: libxmae, and the settings that it supports without a new build."""

    version: Line
    rates_hz: Range
    bits: Range
    hop_s: Range
    channels: Range
    polarity: list[Word]
    models: Annotated[list[CModel], Field(min_length=1)]


class HeadError(OpenSchema):
    """Error of a head on the val split.

    Attributes
    ----------
    units : str
        Units of the errors.
    mae, mae_constant : float
        Mean absolute error of the head, and of the mean of the training subjects.
    windows, subjects : int
        Number of windows and subjects that were judged.
    """

    units: Units
    mae: Number
    mae_constant: Number
    windows: Count
    subjects: Count


class Metrics(OpenSchema):
    """Measurements of the export.

    Attributes
    ----------
    heads_on_val : dict
        By model and task, what its heads miss by.
    heads_at_chance : dict
        By model, the labels that its embedding knows no better than a constant.
    """

    heads_on_val: dict[Word, dict[Word, HeadError]] = {}
    heads_at_chance: dict[Word, list[Line]] = {}


class Licences(Schema):
    """Licences of the models and of the data."""

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
    metrics: Metrics = Metrics()
    provenance: dict[Word, Free] = {}
    licences: Omitted[Licences] = None
    c: Omitted[CLibrary] = None


class Draft(Manifest):
    """A manifest before it is sealed: without hashes."""

    files: dict[FilePath, Digest] = {}


class Signature(Schema):
    """`manifest.sig`."""

    algorithm: Literal["Ed25519"]
    public_key: Annotated[
        str, matching(r"[0-9a-f]{64}", "public key of 32 bytes in hexadecimal", 64)
    ]
    signature: Annotated[
        str, matching(r"[0-9a-f]{128}", "signature of 64 bytes in hexadecimal", 128)
    ]


def checked_heads(value: Any, models: list[Entry], where: object) -> Heads:
    """Check the heads of a file, {model: {task: head}}: each must be as wide as its model's
    embedding.

    Parameters
    ----------
    value : object
        The JSON value of `heads.json`.
    models : list of Entry
        Entries of the manifest.
    where : Path
        For messages.

    Raises
    ------
    UserError
        If they are not.
    """
    heads = parsed(value, Heads, where)
    for entry in models:
        if entry.output is None:
            continue
        width = entry.embedding or entry.output.shape[-1]
        for task, head in heads.get(entry.model, {}).items():
            if len(head.weight) != width:
                raise UserError(
                    f"{where}: {entry.model}.{task}: {len(head.weight)} weights for an "
                    f"embedding of {width}"
                )
    return heads
