"""Empatica EmbracePlus: raw data as Avro files, about half an hour each.

`rawData` has `bvp` (nW, `samplingFrequency` Hz, `timestampStart` in us, UTC) and `accelerometer`,
whose counts are scaled by `imuParams`; without usable ones gravity tells their unit. The person is
`enrollment.participantID`.
"""

import io
import zlib
from datetime import UTC, datetime

import numpy as np

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.data.recording.sizes import PIECE, check_samples
from xmae.errors import UserError

CODECS = ("null", "deflate")


def part_of(path, channel_map):
    """Read the channels of a file."""
    record = load(path)
    try:
        bvp = record["rawData"]["bvp"]
        start_us, rate = bvp["timestampStart"], float(bvp["samplingFrequency"])
        channels = [Channel("BVP", np.asarray(bvp["values"], np.float64), rate)]
        acc = record["rawData"].get("accelerometer")
        if acc and len(acc["x"]):
            channels += axes(acc, 1e-6 * (acc["timestampStart"] - start_us))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: not the layout of an EmbracePlus ({error!r})") from error
    start = datetime.fromtimestamp(1e-6 * start_us, UTC).isoformat()
    who = record.get("enrollment")
    subject = str(who.get("participantID") or "").strip() if isinstance(who, dict) else ""
    return parts.Part(channels, start, subject=subject)


def load(path):
    """Read the only record of an Avro file."""
    try:
        import fastavro
    except ImportError:
        raise UserError(
            f"{path}: needs the package fastavro; try pip install 'xmae[recorders]'"
        ) from None
    try:
        with path.open("rb") as file:
            content = fastavro.reader(file)
            if content.codec not in CODECS:
                raise UserError(f"{path}: packed by {content.codec}; expected {', '.join(CODECS)}")
            refuse_weightless(content.writer_schema, path)
        check_unpacked(path, content.codec)
        with path.open("rb") as file:
            return next(fastavro.reader(file))
    except UserError:
        raise
    except (OSError, ValueError, StopIteration, EOFError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not readable as Avro, perhaps truncated ({error})") from error


def refuse_weightless(schema, path, in_union=False):
    """Raise a `UserError` for a schema with values that take no bytes, of which an array can claim
    any number.
    """
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if isinstance(schema, list):
        for part in schema:
            refuse_weightless(part, path, in_union=True)
    elif isinstance(kind, dict | list):
        refuse_weightless(kind, path, in_union)
    elif (
        (kind == "null" and not in_union)
        or (kind == "record" and not schema.get("fields"))
        or (kind == "fixed" and not schema.get("size"))
    ):
        raise UserError(f"{path}: holds values without content; damaged or forged")
    elif isinstance(schema, dict):
        parts = [field["type"] for field in schema.get("fields", ())]
        parts += [schema[key] for key in ("items", "values") if key in schema]
        for part in parts:
            refuse_weightless(part, path)


def check_unpacked(path, codec):
    """Raise a `UserError` if the compressed blocks of a file unpack to more than a file of its size
    can hold.
    """
    import fastavro

    unpacked, content = 0, path.read_bytes()
    mark = fastavro.reader(io.BytesIO(content))._header["sync"]
    place = content.index(mark) + len(mark)
    while codec != "null" and place < len(content):
        _, place = whole_number(content, place)
        size, place = whole_number(content, place)
        unpacker, piece = zlib.decompressobj(-zlib.MAX_WBITS), content[place : place + size]
        while piece:
            unpacked += len(unpacker.decompress(piece, PIECE))
            check_samples(unpacked // 4, path)
            piece = unpacker.unconsumed_tail
        place += size + len(mark)


def whole_number(content, place):
    """Read a number in Avro's encoding; return it and the place after it."""
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), place
        if shift > 63:
            raise ValueError("a number that is too long")


def axes(acc, start_s):
    """Return the channels of acceleration: in g, or in counts where the size of a count is not
    stated.
    """
    step = step_of(acc.get("imuParams") or {})
    rate, unit = float(acc["samplingFrequency"]), "g" if step else ""
    counts = {axis: np.asarray(acc[axis.lower()], np.float64) for axis in "XYZ"}
    return [Channel(f"ACC_{k}", x * (step or 1), rate, start_s, unit) for k, x in counts.items()]


def step_of(scale):
    """Return the acceleration of one count of the accelerometer, g; 0 where the file does not state
    it.
    """
    if scale.get("conversionFactor"):
        return float(scale["conversionFactor"])
    physical, digital = (
        scale.get(f"{kind}Max", 0) - scale.get(f"{kind}Min", 0) for kind in ("physical", "digital")
    )
    return physical / digital if digital else 0.0


def read(path, channel_map):
    """Yield the only recording of a file."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file has PPG."""
    return parts.holds_ppg(part_of, path, channel_map)
