"""The FIFO between interrupt and main loop: an interrupt after each single instruction of the
reader, emulated.
"""

import struct
from itertools import count

import pytest

from xmae.firmware_sim.build.compile import AMPLE_RAM, CORES, compile_firmware, have_gcc
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.build.generate import FIFO_DEPTH, SOURCES

unicorn = pytest.importorskip("unicorn")
M4 = CORES["m4"]
TOP, BLOCK, RETURN = M4.ram + AMPLE_RAM, M4.ram + AMPLE_RAM // 2, M4.flash + M4.flash_bytes - 2
CONFIG = f"#define FIFO_DEPTH {FIFO_DEPTH}u\n"
APP = """#include "fifo.h"
int app(void) { struct sample s = {0, 0}; fifo_push(s); return fifo_pop(&s); } /* both are linked */
"""


class Fifo:
    """`fifo_push` and `fifo_pop` on an emulated Cortex-M4, with RAM as it is after a start."""

    def __init__(self, firmware):
        from unicorn import arm_const as arm

        self.arm, self.machine = (
            arm,
            unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS),
        )
        self.machine.mem_map(M4.flash, M4.flash_bytes)
        self.machine.mem_map(M4.ram, AMPLE_RAM)
        image, segments, _ = read_elf(firmware.path)
        for offset, _, physical, size in segments:
            self.machine.mem_write(physical, image[offset : offset + size])
        self.entry = {name: firmware.symbols[name][0] | 1 for name in ("fifo_push", "fifo_pop")}

    def begin(self, name, *arguments, stack=TOP - 64):
        registers = [self.arm.UC_ARM_REG_R0 + i for i in range(len(arguments))]
        for register, value in zip(registers, arguments, strict=True):
            self.machine.reg_write(register, value)
        self.machine.reg_write(self.arm.UC_ARM_REG_SP, stack)
        self.machine.reg_write(self.arm.UC_ARM_REG_LR, RETURN | 1)
        return self.entry[name]

    def push(self, word, time_ms, stack=TOP - 64):
        self.machine.emu_start(self.begin("fifo_push", word, time_ms, stack=stack), RETURN)

    def pop(self, after=None, interrupt=None):
        """Return what comes out (None: empty), with `interrupt` after so many instructions; and
        whether it came in time.
        """
        at, done = self.begin("fifo_pop", BLOCK), False
        if interrupt:
            self.machine.emu_start(at, RETURN, count=after) if after else None
            at = (self.machine.reg_read(self.arm.UC_ARM_REG_PC) if after else at) | 1
            done = at != RETURN | 1
            registers = self.machine.context_save()
            interrupt()
            self.machine.context_restore(registers)
        if not interrupt or done:
            self.machine.emu_start(at, RETURN)
        found = self.machine.reg_read(self.arm.UC_ARM_REG_R0)
        return struct.unpack("<II", self.machine.mem_read(BLOCK, 8)) if found else None, done


@pytest.fixture(scope="module", params=["zig", "gcc"])
def firmware(request, tmp_path_factory):
    if request.param == "gcc" and not have_gcc():
        pytest.skip("arm-none-eabi-gcc is not installed")
    folder = tmp_path_factory.mktemp("fifo")
    (folder / "watch_config.h").write_text(CONFIG)
    (folder / "app.c").write_text(APP)
    return compile_firmware(
        [folder / "app.c", SOURCES / "fifo.c"], "m4", folder / "fifo.elf", compiler=request.param
    )


@pytest.mark.parametrize("held", [0, 1, FIFO_DEPTH - 1, FIFO_DEPTH])
def test_an_interrupt_at_any_instruction_of_the_reader_tears_and_loses_nothing(firmware, held):
    """A full FIFO either refuses the sample, and the next one says so, or has read the place before
    it is filled.
    """
    for after in count():
        fifo = Fifo(firmware)
        for i in range(held):
            fifo.push(1000 + i, 10 * i)
        popped, in_time = fifo.pop(
            after, lambda fifo=fifo: fifo.push(0xABCDE, 7777, stack=TOP - 1024)
        )
        if not in_time:
            assert after > 5
            break
        fifo.push(2000, 20_000)
        out = [] if popped is None else [popped]
        while (one := fifo.pop()[0]) is not None:
            out.append(one)
        sent = [(1000 + i, 10 * i) for i in range(held)] + [(0xABCDE, 7777), (2000, 20_000)]
        dropped = [
            (word | 1 << 25 if word == 2000 else word, ms) for word, ms in sent if ms != 7777
        ]
        if held == FIFO_DEPTH:
            assert out in (dropped, sent[:-1]), after
        else:
            assert out == sent, after
