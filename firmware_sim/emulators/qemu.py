"""Firmware on QEMU's system boards: Cortex-M4, M7, M33 and, with Helium, M55; counts by a plugin of
our own.

The plugin (`boards/count_plugin.c`) is compiled for this machine when first needed. QEMU is a
package of the operating system: `apt-get install qemu-system-arm`; version 7.2 is what this was
written with.
"""

import shutil
import subprocess
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from xmae.errors import UserError
from xmae.firmware_sim.build.compile import BOARDS, CORES, compile_host
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.emulators.unicorn import finished, marker_addresses


def have_qemu():
    """Whether qemu-system-arm is installed."""
    return shutil.which("qemu-system-arm") is not None


def run_qemu(firmware, files, markers=(), timeout_s=600, patches=None):
    """Run firmware from reset to its exit, as `run_unicorn` does.

    Parameters
    ----------
    firmware : Firmware
        For any core.
    files, markers, timeout_s, patches
        As for `run_unicorn`.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        If QEMU or a C compiler is not installed, a marker is no symbol, QEMU refuses, or the
        program takes too long.
    """
    if not have_qemu():
        raise UserError("qemu-system-arm is not installed; apt-get install qemu-system-arm")
    core = CORES[firmware.core]
    marks = marker_addresses(firmware, markers)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plugin = compile_host([BOARDS / "count_plugin.c"], folder / "count.so", kernels=False)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        image, counts = firmware.path.resolve(), folder / ".counts"
        if patches:
            image = patched(firmware, patches, folder / ".patched.elf")
        arguments = [*code_range(firmware), f"out={counts}"]
        arguments += [f"mark={address:#x}" for address in marks]
        command = [
            "qemu-system-arm",
            "-M",
            core.machine,
            "-kernel",
            image,
            "-display",
            "none",
            "-monitor",
            "none",
        ]
        command += ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
        command += ["-plugin", ",".join([str(plugin), *arguments])]
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        try:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{firmware.path}: did not finish within {timeout_s} s") from None
        if not counts.is_file() or not counts.stat().st_size:
            raise UserError(f"{firmware.path}: QEMU failed ({done.stderr.strip()[-200:]})")
        visits, by_address = read_counts(counts, marks)
        counts.unlink()
        written = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.stat().st_mtime_ns != before.get(path.name) and not path.name.startswith(".")
        }
        return finished(
            firmware, done.returncode, done.stderr + done.stdout, written, visits, by_address
        )


def code_range(firmware):
    """Where the code lies, for the plugin: it counts nothing else."""
    address, size = next(
        (at, n) for name, _, at, _, n, _ in read_elf(firmware.path)[2] if name == ".text"
    )
    return f"base={address:#x}", f"size={size}"


def read_counts(path, marks):
    """Visits, and executions by region and address, from the plugin's file."""
    visits, counts = [], defaultdict(Counter)
    for line in path.read_text().splitlines():
        kind, mark, *rest = line.split()
        region = marks.get(int(mark, 0), "")
        if kind == "visit":
            visits.append((region, int(rest[0])))
        else:
            counts[region][int(rest[0], 0)] += int(rest[1])
    return visits, counts


def patched(firmware, patches, path):
    """A copy of the ELF file with bytes changed where they are loaded from."""
    image, segments, _ = read_elf(firmware.path)
    image = bytearray(image)
    for address, value in patches.items():
        for offset, _, physical, size in segments:
            if physical <= address and address + len(value) <= physical + size:
                image[offset + address - physical : offset + address - physical + len(value)] = (
                    value
                )
                break
        else:
            raise UserError(f"{address:#x} is not loaded from {firmware.path}")
    path.write_bytes(image)
    return path
