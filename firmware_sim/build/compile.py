"""C to machine code: firmware for Cortex-M by arm-none-eabi-gcc or, from PyPI alone, by `ziglang`;
and host builds.

Both compilers get the same sources, startup code and linker script; the memory of the device is in
the linker script, so that firmware which does not fit is refused at build time.
"""

import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from xmae.errors import UserError
from xmae.firmware_sim.build.elf import read_elf, read_symbols, section_sizes

BOARDS = Path(__file__).parents[1] / "boards"
KERNELS = Path(str(files("xmae.export.targets.c"))) / "kernels"
CORTEX_M = KERNELS.parent / "package" / "examples" / "cortex_m"
WARNINGS = ("-Wall", "-Wextra", "-Wvla", "-Wframe-larger-than=512", "-Werror")


@dataclass(frozen=True)
class Core:
    """A processor by its compilers' names, and the memory map of an emulated board (addresses in
    bytes).

    `machine`: QEMU's board. `flash_bytes`: how much there is for code on it; a device's own,
    smaller budgets are the linker's to keep.
    """

    name: str
    gcc: tuple
    zig: tuple
    flash: int
    flash_bytes: int
    ram: int
    machine: str


MIB = 2**20
ZIG = "thumb-freestanding-eabihf"
CORES = {  # addresses and sizes: QEMU 7.2 hw/arm/mps2.c, mps2-tz.c
    core.name: core
    for core in (
        Core(
            "m4",
            ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
            (ZIG, "cortex_m4+vfp4d16sp"),
            0x00000000,
            4 * MIB,
            0x20000000,
            "mps2-an386",
        ),
        Core(
            "m7",
            ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"),
            (ZIG, "cortex_m7+fp_armv8d16"),
            0x00000000,
            4 * MIB,
            0x20000000,
            "mps2-an500",
        ),
        Core(
            "m33",
            ("-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
            (ZIG, "cortex_m33+dsp+fp_armv8d16sp"),
            0x10000000,
            4 * MIB,
            0x38000000,
            "mps2-an505",
        ),
        Core(
            "m55",
            ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
            (ZIG, "cortex_m55+mve_fp+fp_armv8d16"),
            0x00000000,
            MIB // 2,
            0x20000000,
            "mps3-an547",
        ),
    )
}
AMPLE_RAM = MIB // 2  # bytes: what every one of these boards has
CRC_AT = 4 * 8  # bytes from the start of flash: a vector that is reserved; see boards/startup.c


@dataclass(frozen=True)
class Firmware:
    """A linked program.

    Attributes
    ----------
    path : Path
        ELF file.
    core, compiler : str
        "m4", "m7", "m33" or "m55"; "gcc" or "zig".
    sizes : dict
        Bytes: `flash_weights` of the network, `flash_constants` of filters and heads, `flash_code`
        (code with its own constants, initial values), `flash`; `ram_static` (data and zeroed
        memory), `ram` (with the stack).
    symbols : dict
        Name to (address, size).
    """

    path: Path
    core: str
    compiler: str
    sizes: dict
    symbols: dict


def have_gcc():
    """Tell whether arm-none-eabi-gcc is installed."""
    return shutil.which("arm-none-eabi-gcc") is not None


def kernel_sources():
    """Return the C files of the kernels, plain and fast."""
    return sorted(KERNELS.glob("*.c"))


def compile_firmware(
    sources, core, out, *, include=(), defines=(), flash_bytes=4 * MIB, ram_bytes=AMPLE_RAM,
    stack_bytes=4096, fast=True, compiler=None, cmsis_nn=None,
):  # fmt: skip
    """Compile and link a program for one core, with kernels and startup code, and write a CRC-32
    into its flash.

    Parameters
    ----------
    sources : sequence of path
        C files with `int app(void)`.
    core : str
        "m4", "m7", "m33" or "m55".
    out : str or Path
        ELF file to write.
    include : sequence of path
        More folders of headers; those of the sources, kernels and boards are known.
    defines : sequence of str
        Such as "NAME=1".
    flash_bytes, ram_bytes : int
        Memory of the device; at most that of the emulated board is used.
    stack_bytes : int
        Reserved for the stack.
    fast : bool
        Use the core's SMLAD or Helium instructions.
    compiler : str or None
        "gcc" (arm-none-eabi-gcc) or "zig"; None: the first that is installed.
    cmsis_nn : path or None
        Folder of a CMSIS-NN release, for sources that call it.

    Returns
    -------
    Firmware

    Raises
    ------
    UserError
        If core or compiler is unknown, no compiler is installed, or the program does not compile or
        does not fit.
    """
    compiler = known_compiler(core, compiler)
    headers = [KERNELS, BOARDS, *dict.fromkeys(Path(source).parent for source in sources), *include]
    own, warnings = [BOARDS / "startup.c", CORTEX_M / "memory.c", *kernel_sources()], WARNINGS
    if cmsis_nn:
        theirs, their_headers = cmsis_nn_files(cmsis_nn)
        own, headers, warnings = own + theirs, headers + their_headers, ("-w",)
    if not fast:
        defines = (*defines, "XMAE_PLAIN=1")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "link.ld"
        script.write_text(linker_script(core, flash_bytes, ram_bytes, stack_bytes))
        flags = compiler_flags(core, compiler, warnings, headers, defines)
        link = ["-T", script, "-Wl,--gc-sections", "-Wl,--entry=reset", "-o", out]
        build([*flags, *own, *sources, *link])
    symbols = read_symbols(out)
    put_flash_crc(out, symbols["flash_start"][0], symbols["flash_end"][0])
    return Firmware(Path(out), core, compiler, memory_use(out, stack_bytes), symbols)


def known_compiler(core, compiler):
    """Return the compiler to use: the named one, or the first that is installed.

    Raises
    ------
    UserError
        If core or compiler is unknown, or it is not installed.
    """
    if core not in CORES:
        raise UserError(f"unknown core {core!r}; known: {', '.join(CORES)}")
    compiler = compiler or ("gcc" if have_gcc() else "zig")
    if compiler not in ("gcc", "zig"):
        raise UserError(f"unknown compiler {compiler!r}; known: gcc (arm-none-eabi-gcc), zig")
    if compiler == "gcc" and not have_gcc():
        raise UserError(
            "arm-none-eabi-gcc is not installed; apt-get install gcc-arm-none-eabi, or use zig"
        )
    return compiler


def linker_script(core, flash_bytes, ram_bytes, stack_bytes):
    """Return the boards' linker script with sizes and addresses filled in."""
    values = {
        "FLASH_ORIGIN": CORES[core].flash,
        "FLASH_LENGTH": min(flash_bytes, CORES[core].flash_bytes),
        "RAM_ORIGIN": CORES[core].ram,
        "RAM_LENGTH": min(ram_bytes, AMPLE_RAM),
        "STACK": stack_bytes,
    }
    script = (BOARDS / "link.ld.in").read_text()
    for key, value in values.items():
        script = script.replace(f"@{key}@", f"{value:#x}")
    return script


def compiler_flags(core, compiler, warnings, headers, defines):
    """Return the start of a compiler's command line: all but files and linking."""
    if compiler == "gcc":
        command = ["arm-none-eabi-gcc", *CORES[core].gcc, "-mthumb", "-nostdlib"]
    else:
        target, cpu = CORES[core].zig
        command = zig("cc", "-target", target, f"-mcpu={cpu}", "-nostdlib")
    command += ["-O2", "-std=c99", "-g0", "-fomit-frame-pointer"]
    command += ["-ffunction-sections", "-fdata-sections"]
    command += ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables", *warnings]
    command += [f"-I{header}" for header in headers]
    command += ["-isystem", str(CORTEX_M / "freestanding")]
    # or each core would fuse, and round, other products of the front end
    command += ["-ffp-contract=off"]
    if compiler == "zig":  # its own are on by default
        command += ["-fno-sanitize=all", "-fno-unroll-loops"]
    return command + [f"-D{define}" for define in defines]


def memory_use(path, stack_bytes):
    """Return the memory use of a linked program by sections, as `Firmware.sizes`."""
    sizes = section_sizes(path)
    data = sizes.get(".data", 0)
    code = sizes[".text"] + sizes.get(".ARM.exidx", 0) + data
    static = data + sizes.get(".bss", 0)
    weights, constants = sizes.get(".weights", 0), sizes.get(".constants", 0)
    return {
        "flash_weights": weights,
        "flash_constants": constants,
        "flash_code": code,
        "flash": code + weights + constants,
        "ram_static": static,
        "ram": static + stack_bytes,
    }


def put_flash_crc(path, start, end):
    """Write the CRC-32 of a linked program's flash, from `start` to `end` without the CRC's own
    word, into its vector table.
    """
    image, segments, _ = read_elf(path)
    flash, image, word = bytearray(end - start), bytearray(image), None
    for offset, _, physical, size in segments:
        if start <= physical < end:
            flash[physical - start : physical - start + size] = image[offset : offset + size]
            if physical <= start + CRC_AT < physical + size:
                word = offset + start + CRC_AT - physical
    struct.pack_into("<I", image, word, zlib.crc32(flash[:CRC_AT] + flash[CRC_AT + 4 :]))
    Path(path).write_bytes(image)


def cmsis_nn_files(folder):
    """Return the C files of CMSIS-NN's int8 convolutions and the include folders, from a release
    that the user downloaded.

    Raises
    ------
    UserError
        If they are not there.
    """
    folder = Path(folder)
    kinds = ("ConvolutionFunctions", "NNSupportFunctions")
    sources = sorted(chain.from_iterable(folder.rglob(f"Source/{kind}/arm_*.c") for kind in kinds))
    headers = sorted(path for path in folder.rglob("Include") if path.is_dir())
    if not any(path.name == "arm_convolve_wrapper_s8.c" for path in sources):
        raise UserError(
            f"{folder}: no CMSIS-NN (no Source/ConvolutionFunctions/arm_convolve_wrapper_s8.c "
            "under it)"
        )
    return sources, headers


def compile_host(
    sources, out, *, include=(), defines=(), shared=True, sanitize=False, kernels=True
):
    """Compile for this machine with the plain kernels: a shared library for `ctypes`, or a program.

    Parameters
    ----------
    sources, include, defines
        As for `compile_firmware`; without startup code.
    out : str or Path
        File to write.
    shared : bool
        Library instead of program.
    sanitize : bool
        Add AddressSanitizer and UndefinedBehaviorSanitizer; the first error ends the program.
    kernels : bool
        Link the kernels.

    Returns
    -------
    Path

    Raises
    ------
    UserError
        If there is no compiler or the code does not compile.
    """
    native = next((found for name in ("gcc", "clang", "cc") if (found := shutil.which(name))), None)
    command = [native] if native else zig("cc")
    headers = [KERNELS, *dict.fromkeys(Path(source).parent for source in sources), *include]
    command += [
        "-std=c99",
        "-O1" if sanitize else "-O2",
        "-g",
        *WARNINGS,
        *(f"-I{header}" for header in headers),
    ]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if sanitize else []
    command += ["-shared", "-fPIC"] if shared else []
    command += [f"-D{define}" for define in defines]
    build([*command, *(kernel_sources() if kernels else ()), *sources, "-o", out])
    return Path(out)


def compile_linux(sources, core, out, *, include=()):
    """Compile a program for Arm Linux by `ziglang`, with the plain kernels and the glibc of Debian
    12.

    Parameters
    ----------
    sources, include
        As for `compile_host`.
    core : str
        "a7", "a53" or "a55".
    out : str or Path
        File to write.

    Raises
    ------
    UserError
        If ziglang is not installed or the code does not compile.
    """
    target = "arm-linux-gnueabihf.2.36" if core == "a7" else "aarch64-linux-gnu.2.36"
    headers = [KERNELS, *dict.fromkeys(Path(source).parent for source in sources), *include]
    command = [
        *zig("cc", "-target", target),
        f"-mcpu=cortex_{core}",
        "-std=c99",
        "-O2",
        "-ffp-contract=off",
    ]
    command += [
        "-fno-sanitize=all",
        *WARNINGS,
        "-DXMAE_PLAIN=1",
        *(f"-I{header}" for header in headers),
    ]
    build([*command, KERNELS / "xmae_kernels.c", *sources, "-o", out])


def zig(*arguments):
    """Return the command line of zig's C compiler."""
    if find_spec("ziglang") is None:
        raise UserError("no C compiler: pip install 'xmae[firmware]' brings one (ziglang)")
    return [sys.executable, "-m", "ziglang", *arguments]


def build(command):
    """Run a compiler; on failure, raise an error with its messages."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        told = ("error:", "overflow", "will not fit", "undefined")
        lines = [line for line in done.stderr.splitlines() if any(word in line for word in told)]
        raise UserError(f"firmware does not build: {' | '.join(lines[:3]) or done.stderr[-300:]}")
