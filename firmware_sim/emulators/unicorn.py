"""Firmware on an emulated Cortex-M4, M7 or M33 by Unicorn: from PyPI alone, with exact and
repeatable counts.

Unicorn reports each basic block as it is entered; its instructions are counted from the firmware's
own code. The devices are two: flash with RAM, and semihosting for files (kept in memory) and text.
Unicorn has no Cortex-M55.
"""

import struct
from collections import Counter, defaultdict

from xmae.errors import UserError
from xmae.firmware_sim.build.compile import AMPLE_RAM, CORES
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.emulators.channel import CONSOLE, CREATE, TRUNCATE, Files
from xmae.firmware_sim.emulators.channel import WRITE as WRITABLE
from xmae.firmware_sim.emulators.counts import Run, classify

BREAKPOINT = 7  # Unicorn's number of the exception that BKPT raises
# semihosting, Arm IHI 0100
MAX_NAME = 1024
OPEN, CLOSE, WRITE0, WRITE, READ, EXIT = 0x01, 0x02, 0x04, 0x05, 0x06, 0x20


def run_unicorn(firmware, files, markers=(), timeout_s=600, patches=None):
    """Run firmware from reset to its exit.

    Parameters
    ----------
    firmware : Firmware
        For "m4", "m7" or "m33".
    files : dict of bytes
        Files that it can open, by name.
    markers : sequence of str
        Functions; executing the first instruction of one begins a region that lasts until the next
        marker.
    timeout_s : float
        Wall time that it may take, seconds.
    patches : dict of bytes
        Written to memory after loading, by address.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        If unicorn or capstone is not installed, the core is another, a marker is no symbol, the
        program accesses memory that is not there, or takes too long.
    """
    try:
        import unicorn
        from unicorn import arm_const as arm
    except ImportError:
        raise UserError("unicorn is not installed; pip install 'xmae[firmware]'") from None
    models = {
        "m4": arm.UC_CPU_ARM_CORTEX_M4,
        "m7": arm.UC_CPU_ARM_CORTEX_M7,
        "m33": arm.UC_CPU_ARM_CORTEX_M33,
    }
    if firmware.core not in models:
        raise UserError(f"Unicorn has no core {firmware.core!r}; known: {', '.join(models)}")
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(models[firmware.core])
    load(machine, firmware, patches or {})
    counter = BlockCounter(machine, marker_addresses(firmware, markers))
    host = Host(machine, files, arm)
    machine.hook_add(unicorn.UC_HOOK_BLOCK, counter.block)
    machine.hook_add(unicorn.UC_HOOK_INTR, host.interrupt)
    stack, entry = struct.unpack("<II", machine.mem_read(CORES[firmware.core].flash, 8))
    machine.reg_write(arm.UC_ARM_REG_SP, stack)
    try:
        machine.emu_start(entry | 1, 0xFFFFFFFE, timeout=int(timeout_s * 1e6))
    except unicorn.UcError as error:
        at = machine.reg_read(arm.UC_ARM_REG_PC)
        raise UserError(f"{firmware.path}: {error} at {at:#x}") from error
    if host.exit_code is None:
        raise UserError(f"{firmware.path}: did not finish within {timeout_s} s")
    return finished(
        firmware,
        host.exit_code,
        host.files.console,
        host.files.written(),
        counter.visits(),
        counter.by_address(),
    )


def load(machine, firmware, patches):
    """Map a machine's memories, and load the firmware and then `patches` (bytes by address)."""
    core = CORES[firmware.core]
    machine.mem_map(core.flash, core.flash_bytes)
    machine.mem_map(core.ram, AMPLE_RAM)
    # system control space: plain memory is enough for what startup does with it
    machine.mem_map(0xE000E000, 0x1000)
    image, segments, _ = read_elf(firmware.path)
    for offset, _, physical, size in segments:
        machine.mem_write(physical, image[offset : offset + size])
    for address, value in patches.items():
        machine.mem_write(address, value)


def marker_addresses(firmware, markers):
    """Return the marker functions: {address: name}."""
    if missing := [name for name in markers if name not in firmware.symbols]:
        raise UserError(f"{firmware.path}: no function {', '.join(missing)}")
    return {firmware.symbols[name][0]: name for name in markers}


def finished(firmware, exit_code, console, files, visits, counts):
    """Make a `Run` from counts by address."""
    lines = [line for line in console.splitlines() if line.startswith("stack_used=")]
    rest = "".join(
        line for line in console.splitlines(keepends=True) if not line.startswith("stack_used=")
    )
    used = int(lines[-1].split("=")[1]) if lines else None
    return Run(exit_code, rest, files, visits, classify(firmware.path, counts), used)


class BlockCounter:
    """Counter of each basic block's executions by region, and of the instructions of each visit of
    a region.
    """

    def __init__(self, machine, markers):
        self.machine, self.markers = machine, markers
        self.blocks = defaultdict(Counter)  # region -> (address, size) -> executions
        self.current = self.blocks[""]
        self.order = [["", 0]]
        self.lengths = {}

    def block(self, _, address, size, __):
        """Count a block as it is entered."""
        key = address, size
        if address in self.markers:
            name = self.markers[address]
            self.current = self.blocks[name]
            self.order.append([name, 0])
        length = self.lengths.get(key)
        if length is None:
            length = self.lengths[key] = len(
                starts(bytes(self.machine.mem_read(address, size)), address)
            )
        self.current[key] += 1
        self.order[-1][1] += length

    def visits(self):
        """Return (region, instructions) of each visit, in order of execution."""
        return [(name, count) for name, count in self.order]

    def by_address(self):
        """Return the executions by address: {region: {address: count}}."""
        result = {}
        for region, blocks in self.blocks.items():
            addresses = result[region] = Counter()
            for (address, size), count in blocks.items():
                for start in starts(bytes(self.machine.mem_read(address, size)), address):
                    addresses[start] += count
        return result


def starts(code, address):
    """Return the addresses of the Thumb instructions in a stretch of code; a first half-word from
    0xE800 up makes four bytes.
    """
    found, at = [], 0
    while at < len(code):
        found.append(address + at)
        at += 4 if code[at + 1] >= 0xE8 else 2
    return found


class Host:
    """Host side of semihosting, with files in memory."""

    def __init__(self, machine, files, arm):
        self.machine, self.arm = machine, arm
        self.files, self.exit_code = Files(files), None

    def words(self, address, count):
        """Return the `count` words at an address."""
        return struct.unpack(f"<{count}I", self.machine.mem_read(address, 4 * count))

    def interrupt(self, _, number, __):
        """Handle an exception of the core."""
        arm, machine = self.arm, self.machine
        if number != BREAKPOINT:
            self.files.console += f"exception {number}\n"
            self.exit_code = 99
            machine.emu_stop()
            return
        operation, block = machine.reg_read(arm.UC_ARM_REG_R0), machine.reg_read(arm.UC_ARM_REG_R1)
        result = self.serve(operation, block)
        machine.reg_write(arm.UC_ARM_REG_R0, result & 0xFFFFFFFF)
        machine.reg_write(arm.UC_ARM_REG_PC, (machine.reg_read(arm.UC_ARM_REG_PC) + 2) | 1)

    def serve(self, operation, block):
        """Serve one semihosting call; return the value for r0."""
        if operation == WRITE0:
            text = bytearray()
            while (byte := self.machine.mem_read(block + len(text), 1)[0]) != 0:
                text.append(byte)
            self.files.write(CONSOLE[1], bytes(text))
            return 0
        if operation == OPEN:
            address, mode, length = self.words(block, 3)
            name = bytes(self.machine.mem_read(address, min(length, MAX_NAME))).decode()
            flags = WRITABLE | CREATE | TRUNCATE if mode >= 4 else 0
            return max(self.files.open(name, flags), -1)
        if operation == EXIT:
            self.exit_code = self.words(block, 2)[1]
            self.machine.emu_stop()
            return 0
        if operation == CLOSE:
            return 0
        if operation not in (READ, WRITE):
            raise UserError(f"the firmware used semihosting operation {operation:#x}")
        handle, address, length = self.words(block, 3)
        if operation == WRITE:
            done = self.files.write(handle, bytes(self.machine.mem_read(address, length)))
            return length - max(done, 0)
        data = self.files.read(handle, length)
        data = data if isinstance(data, bytes) else b""
        self.machine.mem_write(address, data)
        return length - len(data)
