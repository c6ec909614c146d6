"""What emulators need of a 32-bit little-endian ELF file: loadable bytes, sections' sizes,
symbols.
"""

import struct
from pathlib import Path

from xmae.errors import UserError


def read_elf(path):
    """Read an ELF file: its bytes, program headers and section headers.

    Returns
    -------
    image : bytes
    segments : list of (offset, address, physical address, bytes in file) of what is to be loaded
    sections : list of (name, type, address, offset, size, link)
    """
    image = Path(path).read_bytes()
    if image[:6] != b"\x7fELF\x01\x01":
        raise UserError(f"{path}: not a 32-bit little-endian ELF file")
    phoff, shoff = struct.unpack_from("<II", image, 28)
    phsize, phcount, shsize, shcount, names_at = struct.unpack_from("<HHHHH", image, 42)
    segments = []
    for i in range(phcount):
        kind, offset, virtual, physical, size = struct.unpack_from(
            "<IIIII", image, phoff + i * phsize
        )
        if kind == 1 and size:  # PT_LOAD
            segments.append((offset, virtual, physical, size))
    headers = [struct.unpack_from("<IIIIIII", image, shoff + i * shsize) for i in range(shcount)]
    names = headers[names_at][4]
    sections = [
        (text(image, names + name), kind, address, offset, size, link)
        for name, kind, _, address, offset, size, link in headers
    ]
    return image, segments, sections


def read_symbols(path):
    """Return the functions and objects by name: (address without the Thumb bit, size)."""
    image, _, sections = read_elf(path)
    symbols = {}
    for _, kind, _, offset, size, link in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        strings = sections[link][3]
        for at in range(offset, offset + size, 16):
            name, value, length, info, _, _ = struct.unpack_from("<IIIBBH", image, at)
            if name and info & 15 < 3:  # no type, object, function
                symbols[text(image, strings + name)] = (
                    value & ~1 if info & 15 == 2 else value,
                    length,
                )
    return symbols


def section_sizes(path):
    """Return the size of each section by name, bytes."""
    return {name: size for name, *_, size, _ in read_elf(path)[2]}


def text(image, at):
    """Return the zero-terminated string at an offset."""
    return image[at : image.index(b"\0", at)].decode()
