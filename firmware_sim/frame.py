"""Result frames of the watch, as they come over UART or semihosting; the C side is `app/frame.h`.

A frame is A7 5E, version, kind, u16 length, payload, CRC-32 of everything between sync and CRC;
little-endian. Whatever else is in the stream (boot noise, half a frame from before a brown-out) is
skipped.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

SYNC = b"\xa7\x5e"
VERSION = 1
BOOT, RESULT, INPUT = 1, 2, 3
HEADER, TRAILER = 6, 4  # bytes
MAX_PAYLOAD = 4096  # bytes: a longer one is noise that looks like a header
_RESULT = struct.Struct("<IIHHHHH")


class Status(IntFlag):
    """Flags of a result; with INVALID there is no result."""

    LOST = 1
    SATURATED = 2
    STUCK = 4
    FLAT = 8
    RATE = 16
    FIRST = 32
    BAD_FLASH = 64
    NO_PULSE = 128
    IMPLAUSIBLE = 256
    INVALID = 0x8000


@dataclass(frozen=True)
class Boot:
    """Message of a watch that has started: `status` (BAD_FLASH: it will not measure) and the CRC-32
    of its flash.
    """

    status: Status
    flash_crc: int


@dataclass(frozen=True, eq=False)
class Result:
    """Result of one window.

    Attributes
    ----------
    sequence, start_ms : int
        Number since the start; time of the window's first sample on the watch's clock, ms.
    status : Status
        See `Status`; `valid` unless INVALID.
    lost, saturated : int
        Samples of the buffer (window and margins).
    heads : float32 array, shape (n_heads,)
        One number per head; empty if invalid.
    embedding : int8 array, shape (D,)
        Empty if invalid.
    """

    sequence: int
    start_ms: int
    status: Status
    lost: int
    saturated: int
    heads: np.ndarray
    embedding: np.ndarray

    @property
    def valid(self):
        """Tell whether the frame holds a result."""
        return not self.status & Status.INVALID


@dataclass(frozen=True, eq=False)
class Input:
    """Input of the network, int8 (1000,); sent after its result by firmware built with TRACE."""

    codes: np.ndarray


def parse_frames(stream):
    """Return all complete and undamaged frames in a stream.

    Parameters
    ----------
    stream : bytes
        As received; may begin and end in the middle of a frame and hold noise.

    Returns
    -------
    list of Boot, Result or Input
        In order. What is cut, damaged, of another version or inconsistent is left out.

    Examples
    --------
    >>> parse_frames(b"noise" + frame_bytes(BOOT, struct.pack("<HI", 0, 7)) + b"noise")
    [Boot(status=<Status: 0>, flash_crc=7)]
    """
    frames, at = [], 0
    while (at := stream.find(SYNC, at)) >= 0:
        frame, size = _frame_at(stream, at)
        if frame is not None:
            frames.append(frame)
        at += size
    return frames


def frame_bytes(kind, payload):
    """Return a frame as the watch would send it."""
    body = struct.pack("<BBH", VERSION, kind, len(payload)) + payload
    return SYNC + body + struct.pack("<I", zlib.crc32(body))


def results_and_inputs(frames):
    """Return the results among frames, and the network's inputs of the valid ones: int8 (n_valid,
    1000); see TRACE.
    """
    results = [frame for frame in frames if isinstance(frame, Result)]
    inputs = [frame.codes for frame in frames if isinstance(frame, Input)]
    seen = [codes for codes, result in zip(inputs, results, strict=True) if result.valid]
    return results, np.array(seen, np.int8)


def _frame_at(stream, at):
    """Return the frame whose sync is at `at` and its length; (None, 1) if there is none, so that
    the search goes on.
    """
    if len(stream) - at < HEADER + TRAILER:
        return None, 1
    version, kind, length = struct.unpack_from("<BBH", stream, at + 2)
    end = at + HEADER + length
    if version != VERSION or length > MAX_PAYLOAD or len(stream) < end + TRAILER:
        return None, 1
    if zlib.crc32(stream[at + 2 : end]) != struct.unpack_from("<I", stream, end)[0]:
        return None, 1
    frame = _PAYLOADS.get(kind, lambda _: None)(stream[at + HEADER : end])
    return (None, 1) if frame is None else (frame, HEADER + length + TRAILER)


def _boot(payload):
    if len(payload) != 6:
        return None
    status, crc = struct.unpack("<HI", payload)
    return Boot(Status(status), crc)


def _result(payload):
    if len(payload) < _RESULT.size:
        return None
    sequence, start_ms, status, lost, saturated, n_heads, n_embedding = _RESULT.unpack_from(payload)
    if len(payload) != _RESULT.size + 4 * n_heads + n_embedding:
        return None
    heads = np.frombuffer(payload, "<f4", n_heads, _RESULT.size)
    embedding = np.frombuffer(payload, np.int8, n_embedding, _RESULT.size + 4 * n_heads)
    return Result(sequence, start_ms, Status(status), lost, saturated, heads, embedding)


def _input(payload):
    return Input(np.frombuffer(payload, np.int8))


_PAYLOADS = {BOOT: _boot, RESULT: _result, INPUT: _input}
