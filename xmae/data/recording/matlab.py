"""MATLAB 5 files from outside: their arrays are walked through before SciPy unpacks them.

SciPy takes what a file says of its size as it is, and steps down a level of the machine's stack for
each cell within a cell, so that a file of many ends the process. The walk reads the same fields in
the same order (MAT-File Format, MathWorks, chapter 1), keeps none of the numbers, and stops where
the file is no real recording's. Files of MATLAB 4 have no cells.
"""

import math
import struct
import zlib
from pathlib import Path

from xmae.data.recording.sizes import check_samples
from xmae.errors import UserError

PIECE = 1 << 20  # bytes
DEEPEST, MOST = 32, 100_000  # arrays within arrays, and arrays within one
MATRIX, COMPRESSED = 14, 15  # types of a part
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17  # classes of an array
LARGEST_CLASS = 17
MAX_AXES = 32
COMPLEX = 1 << 11  # flag of an array


class Parts:
    """Reader of the bytes of an array, which come in pieces.

    Parameters
    ----------
    pieces : iterator of bytes
    order : str
        "<" or ">", as `struct` has it.
    """

    def __init__(self, pieces, order):
        self.pieces, self.order, self.piece, self.at = pieces, order, b"", 0

    def take(self, n):
        """Return the next n bytes; raises a `ValueError` if there are fewer."""
        content = b""
        while len(content) < n:
            if self.at == len(self.piece):
                self.piece, self.at = next(self.pieces, b""), 0
                if not self.piece:
                    raise ValueError("ends within an array")
            part = self.piece[self.at : self.at + n - len(content)]
            content, self.at = content + part, self.at + len(part)
        return content

    def tag(self):
        """Return the type of the next element, its size in bytes, and its content if the tag holds
        it.
        """
        first, second = struct.unpack(f"{self.order}II", content := self.take(8))
        if first >> 16:  # a small one: both halves of the first word, then at most four bytes
            return first & 0xFFFF, first >> 16, content[4 : 4 + (first >> 16)]
        return first, second, None

    def skip(self):
        """Skip an element; return its size in bytes."""
        _, size, content = self.tag()
        left = size + -size % 8 if content is None else 0
        while left > 0:
            left -= len(self.take(min(left, PIECE)))
        return size

    def numbers(self):
        """Return the whole numbers in a short element."""
        _, size, content = self.tag()
        if size > 4 * MAX_AXES:
            raise ValueError(f"{size} bytes of sizes")
        content = self.take(size + -size % 8)[:size] if content is None else content
        return struct.unpack(f"{self.order}{size // 4}i", content[: size // 4 * 4])


def check_matlab(path):
    """Raise a `UserError` if a MATLAB 5 file unpacks to more than a file of its size can hold, or
    has more arrays, or deeper ones, than any recording.

    Raises
    ------
    UserError
        If it is one.
    zlib.error, OSError, ValueError, struct.error
        If the file is damaged.
    """
    unpacked = 0
    with open(path, "rb") as file:
        start = file.read(128)
        if len(start) < 128 or 0 in start[:4]:  # too short, or of MATLAB 4
            return
        order = "<" if start[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            begin = file.tell()
            if kind == COMPRESSED:
                unpacked = walk_packed(file, size, order, path, unpacked)
            elif kind == MATRIX:
                file.seek(begin - 8)
                walk(Parts(iter(lambda: file.read(PIECE), b""), order), path)
            file.seek(begin + size)


def walk_packed(file, size, order, path, unpacked):
    """Walk through a compressed array to its end; return the bytes unpacked so far."""
    unpacker, total = zlib.decompressobj(), unpacked

    def pieces():
        nonlocal total
        left, limit = size, Path(path).stat().st_size
        while left > 0 and (packed := file.read(min(left, PIECE))):
            left -= len(packed)
            while packed:
                piece = unpacker.decompress(packed, PIECE)
                packed, total = unpacker.unconsumed_tail, total + len(piece)
                check_samples(total // 8, path, limit)
                if piece:
                    yield piece

    content = pieces()
    walk(Parts(content, order), path)
    for _ in content:  # what follows counts too
        pass
    return total


def walk(parts, path):
    """Walk through an array and everything within it: at most `MOST` arrays, at most `DEEPEST`
    deep.
    """
    left, count = [1], 0  # arrays to come, at each depth
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1], count = left[-1] - 1, count + 1
        if len(left) > DEEPEST:
            raise UserError(f"{path}: arrays nested more than {DEEPEST} deep; damaged or forged")
        if count > MOST:
            raise UserError(f"{path}: more than {MOST} arrays within one; damaged or forged")
        left.append(step(parts))


def step(parts):
    """Read the header of an array, skip its numbers, and return how many arrays it contains."""
    kind, size, _ = parts.tag()
    if kind != MATRIX:
        raise ValueError(f"a part of type {kind} where an array is expected")
    if not size:
        return 0
    parts.take(8)  # the tag of the flags, which SciPy does not look at either
    flags = struct.unpack(f"{parts.order}II", parts.take(8))[0]
    kind = flags & 0xFF
    if kind > LARGEST_CLASS:
        raise ValueError(f"an array of class {kind}")
    if kind == OPAQUE:
        for _ in range(3):  # names
            parts.skip()
        return 1
    count = math.prod(parts.numbers())
    parts.skip()  # its name
    return held(parts, kind, count, bool(flags & COMPLEX))


def held(parts, kind, count, is_complex):
    """Skip the content of an array with this many elements; return how many arrays it contains."""
    if kind in (CELL, FUNCTION):
        return max(count, 0) if kind == CELL else 1
    if kind in (STRUCT, OBJECT):
        if kind == OBJECT:
            parts.skip()  # the name of its class
        (longest,) = parts.numbers()
        return max(count, 0) * (parts.skip() // max(longest, 1))
    elements = {CHAR: 1, SPARSE: 3 + is_complex}.get(kind, 1 + is_complex)
    for _ in range(elements):
        parts.skip()
    return 0
