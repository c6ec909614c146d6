"""Firmware on QEMU's system boards: Cortex-M4, M7, M33 and, with Helium, M55; counts by a plugin of
our own.

The plugin (`boards/count_plugin.c`) is compiled for this machine when first needed. QEMU is a
package of the operating system: `apt-get install qemu-system-arm`; version 7.2 is what this was
written with.

The guest reaches no file and no command of this machine: its semihosting ends in
`xmae.firmware_sim.emulators.channel`, its board has no network, and QEMU may start no program
(seccomp) and is confined as far as `xmae.firmware_sim.emulators.confine` can.
"""

import io
import shutil
import subprocess
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from threading import Timer

from xmae.errors import UserError
from xmae.firmware_sim.build.compile import BOARDS, CORES, compile_host
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.emulators.channel import Debugger, Files
from xmae.firmware_sim.emulators.confine import confinement
from xmae.firmware_sim.emulators.unicorn import finished, marker_addresses

APART = (
    "-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none",
    "-semihosting-config", "enable=on,target=gdb", "-gdb", "stdio", "-S",
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip


def have_qemu():
    """Tell whether qemu-system-arm is installed."""
    return shutil.which("qemu-system-arm") is not None


def run_qemu(firmware, files, markers=(), timeout_s=600, patches=None):
    """Run firmware from reset to its exit, as `run_unicorn` does.

    Parameters
    ----------
    firmware : Firmware
        For any core.
    files, markers, timeout_s, patches
        As for `run_unicorn`.

    Raises
    ------
    UserError
        As `run_unicorn`, and if no C compiler is installed or QEMU refuses.
    """
    if not have_qemu():
        raise UserError("qemu-system-arm is not installed; apt-get install qemu-system-arm")
    marks = marker_addresses(firmware, markers)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plugin = compile_host([BOARDS / "count_plugin.c"], folder / "count.so", kernels=False)
        counts, image = folder / "counts", folder / "image.elf"
        image.write_bytes(patched(firmware, patches or {}))
        arguments = [*code_range(firmware), f"out={counts}"]
        arguments += [f"mark={address:#x}" for address in marks]
        command = [
            "qemu-system-arm", "-M", CORES[firmware.core].machine, "-kernel", image, *APART,
            "-plugin", ",".join([str(plugin), *arguments]),
        ]  # fmt: skip
        opened = Files(files)
        code, said = converse(confinement().command(command, folder), opened, timeout_s)
        if code is None:
            raise UserError(f"{firmware.path}: did not finish within {timeout_s} s")
        if not counts.is_file() or not counts.stat().st_size:
            raise UserError(f"{firmware.path}: QEMU failed ({said.strip()[-200:]})")
        visits, by_address = read_counts(counts, marks)
        return finished(firmware, code, opened.console, opened.written(), visits, by_address)


def converse(command, files, timeout_s):
    """Run QEMU and act as its debugger: exit code (None after a timeout) and QEMU's messages."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stderr=log, **pipes) as process,
    ):
        said = io.BufferedReader(process.stdout)
        late = Timer(timeout_s, process.kill)
        late.start()
        try:
            if not Debugger(process.stdin, said, files).run():
                process.kill()
        except BrokenPipeError:  # it has ended
            pass
        finally:
            in_time = late.is_alive()
            late.cancel()
            if not in_time:
                process.kill()
        code = process.wait()
        log.seek(0)
        return code if in_time else None, log.read().decode(errors="replace")


def code_range(firmware):
    """Return the address range of the code, the only one in which the plugin counts."""
    address, size = next(
        (at, n) for name, _, at, _, n, _ in read_elf(firmware.path)[2] if name == ".text"
    )
    return f"base={address:#x}", f"size={size}"


def read_counts(path, marks):
    """Read the plugin's file: visits, and executions by region and address."""
    visits, counts = [], defaultdict(Counter)
    for line in path.read_text().splitlines():
        kind, mark, *rest = line.split()
        region = marks.get(int(mark, 0), "")
        if kind == "visit":
            visits.append((region, int(rest[0])))
        else:
            counts[region][int(rest[0], 0)] += int(rest[1])
    return visits, counts


def patched(firmware, patches):
    """Return the ELF file with bytes changed at their load addresses."""
    image, segments, _ = read_elf(firmware.path)
    image = bytearray(image)
    for address, value in patches.items():
        for offset, _, physical, size in segments:
            if physical <= address and address + len(value) <= physical + size:
                start = offset + address - physical
                image[start : start + len(value)] = value
                break
        else:
            raise UserError(f"{address:#x} is not loaded from {firmware.path}")
    return bytes(image)
