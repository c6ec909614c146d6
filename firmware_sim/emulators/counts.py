"""What an emulated run gives, whichever the emulator: results, and instructions counted by address,
named by class.

An emulator says how often each instruction was executed in each region; the names come from
disassembling the firmware with capstone. Capstone 5 knows no Helium; those instructions are told
apart by their opcode (Armv8-M Architecture Reference Manual, DDI 0553, "Vector extension"
encodings).
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from xmae.errors import UserError
from xmae.firmware_sim.build.elf import read_elf

MAC = ("smla", "smmla", "smlal", "mla", "umlal", "umaal", "smlsd", "smuad", "mls")
MUL = ("mul", "smul", "smmul", "umull", "smusd")
FLOAT = (
    "vmov",
    "vadd",
    "vsub",
    "vmul",
    "vdiv",
    "vcvt",
    "vcmp",
    "vfm",
    "vml",
    "vneg",
    "vabs",
    "vsqrt",
    "vmrs",
    "vmsr",
    "vnmul",
)
BRANCH = ("b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh")
CONDITIONS = {
    "eq",
    "ne",
    "cs",
    "hs",
    "cc",
    "lo",
    "mi",
    "pl",
    "vs",
    "vc",
    "hi",
    "ls",
    "ge",
    "lt",
    "gt",
    "le",
    "al",
}


@dataclass
class Run:
    """A finished run.

    Attributes
    ----------
    exit_code : int
        Exit code of the program; 99 from the fault handler.
    console : str
        Text that the program wrote.
    files : dict of bytes
        Files it wrote.
    visits : list of (str, int)
        Regions in order of execution, with the instructions in each; "" before the first marker.
    mix : dict of Counter
        By region: executed instructions by class; "words" counts words moved by instructions of
        several words.
    stack_used : int or None
        Deepest use of the stack, bytes.
    """

    exit_code: int
    console: str
    files: dict
    visits: list
    mix: dict
    stack_used: int | None = None
    instructions: int = field(init=False)

    def __post_init__(self):
        self.instructions = sum(count for _, count in self.visits)


def classify(path, counts):
    """Return the executed instructions by class.

    Parameters
    ----------
    path : path
        ELF file.
    counts : dict of dict
        By region: address of an instruction to how often it was executed.

    Returns
    -------
    dict of Counter
        alu, mul, mac, div, load, store, loadm, storem (two words or more), branch, fp, mve_alu,
        mve_mac, mve_load, mve_store, loop (low-overhead loops), system, other; and words.
    """
    image, segments, _ = read_elf(path)
    names = {}
    result = {}
    for region, addresses in counts.items():
        mix = result[region] = Counter()
        for address, count in addresses.items():
            if address not in names:
                names[address] = name(code_at(image, segments, address), address)
            kind, words = names[address]
            mix[kind] += count
            if words:
                mix["words"] += words * count
    return result


def code_at(image, segments, address):
    """Return the four bytes of code at an address."""
    for offset, start, physical, size in segments:
        for base in (start, physical):
            if base <= address < base + size:
                return image[offset + address - base :][:4]
    raise UserError(f"executed address {address:#x} is not in the firmware")


def name(code, address):
    """Return the class of the instruction that `code` starts with, and the words that it moves."""
    first = int.from_bytes(code[:2], "little")
    if first >= 0xE800 and (helium := vector_class(first, int.from_bytes(code[2:4], "little"))):
        return helium, 0
    instruction = next(disassembler().disasm(code, address, 1), None)
    if instruction is None:
        return "other", 0
    mnemonic = instruction.mnemonic.split(".")[0]
    words = 0
    if mnemonic.startswith(("ldm", "stm", "vldm", "vstm")):
        words = len(instruction.operands) - 1
    elif mnemonic in ("push", "pop", "vpush", "vpop"):
        words = len(instruction.operands)
    elif mnemonic.startswith(("ldrd", "strd")):
        words = 2
    kind = mnemonic_class(mnemonic)
    return (f"{kind}m", words) if words > 1 else (kind, 0)


def mnemonic_class(mnemonic):
    """Return the class of an instruction of the base, DSP or floating-point set, by its name."""
    if mnemonic in BRANCH or (mnemonic[0] == "b" and mnemonic[1:] in CONDITIONS):
        return "branch"
    for kind, starts in (
        ("load", ("ldr", "ldm", "pop", "vldr", "vldm", "vpop")),
        ("store", ("str", "stm", "push", "vstr", "vstm", "vpush")),
        ("div", ("sdiv", "udiv")),
        ("fp", FLOAT),
        ("mac", MAC),
        ("mul", MUL),
        (
            "system",
            ("bkpt", "svc", "dsb", "isb", "dmb", "msr", "mrs", "cps", "wfi", "wfe", "nop", "it"),
        ),
    ):
        if mnemonic.startswith(starts):
            return kind
    return "alu"


def vector_class(first, second):
    """Return the class of a Helium or low-overhead-loop instruction from its two half-words, or
    None.
    """
    if first & 0xFF80 == 0xF000 and second & 0xD001 == 0xC001:
        # VCTP; LE, WLS, DLS and their tail-predicated forms
        return "mve_alu" if second == 0xE801 else "loop"
    if first & 0xEE00 == 0xEC00 and second & 0x0E00 == 0x0E00:
        return "mve_load" if first & 0x0010 else "mve_store"
    if first & 0xEF00 == 0xEF00 or first & 0xFF00 == 0xEE00 and second & 0x0F1F == 0x0B10:
        return "mve_alu"  # the latter: VMOV between a lane and a register, VDUP
    if first & 0xEF00 == 0xEE00 and second & 0x0E00 == 0x0E00:
        is_sum = first & 1 and second & 0x0100  # VADDV, beside VMLADAV and VMLSDAV
        return "mve_mac" if first & 0xEFF0 == 0xEEF0 and not is_sum else "mve_alu"
    return None


@cache
def disassembler():
    """Return the Capstone disassembler for Thumb-2, made once."""
    try:
        from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs
    except ImportError:
        raise UserError("capstone is not installed; pip install 'xmae[firmware]'") from None
    tool = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    tool.detail = True
    return tool
