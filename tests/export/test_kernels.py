"""The int8 kernels, fast and plain, on random shapes and extreme numbers, against TensorFlow Lite's
definition.

The reference is written from the specification and gemmlowp's definition of its roundings, in
Python integers; the kernels run compiled for this machine under sanitizers, and on emulated cores.
"""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmae.firmware_sim.build.compile import BOARDS, compile_firmware, compile_host, have_gcc
from xmae.firmware_sim.emulators.qemu import have_qemu, run_qemu
from xmae.firmware_sim.emulators.unicorn import run_unicorn

DATA = Path(__file__).parents[1] / "fixtures"
CONV, DEPTHWISE, ADD, MEAN, POOL, PAD = range(6)


@dataclass
class Case:
    """One call of a kernel: the numbers of its struct, its arrays, and what TensorFlow Lite
    gives.
    """

    kind: int
    fields: list
    expected: np.ndarray
    inputs: np.ndarray
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    bias: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    multiplier: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    shift: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))

    def encode(self):
        sizes = [
            len(self.bias),
            len(self.multiplier),
            self.weights.size,
            self.inputs.size,
            self.expected.size,
        ]
        head = [self.kind, *self.fields, *[0] * (17 - len(self.fields)), *sizes]
        arrays = (
            self.bias.astype("<i4"),
            self.multiplier.astype("<i4"),
            self.shift,
            self.weights,
            self.inputs,
        )
        return np.array(head, "<i4").tobytes() + b"".join(array.tobytes() for array in arrays)


# ---- the reference: gemmlowp/fixedpoint.h and tensorflow/lite/kernels/internal/common.h, in words
# -----------------


def truncated(a, b):
    """Return the quotient as C computes it."""
    return abs(a) // b * (1 if a >= 0 else -1)


def rescaled(x, multiplier, shift):
    """Compute MultiplyByQuantizedMultiplier: SaturatingRoundingDoublingHighMul, then
    RoundingDivideByPOT.
    """
    product = x * 2 ** max(shift, 0) * multiplier
    high = truncated(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)
    right = max(-shift, 0)
    mask = 2**right - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def clamped(x, low, high):
    return min(max(x, low), high)


def windows(x, zero, out, kernel, stride, pad):
    """Return (out_h, out_w, k_h, k_w, channels) of an NHWC image, zero point where it is padded."""
    (out_h, out_w), (k_h, k_w) = out, kernel
    image = np.full(
        (out_h * stride[0] + k_h + 64, out_w * stride[1] + k_w + 64, x.shape[2]), zero, np.int64
    )
    image[pad[0] : pad[0] + x.shape[0], pad[1] : pad[1] + x.shape[1]] = x
    view = np.lib.stride_tricks.sliding_window_view(image, kernel, (0, 1))
    return view[:: stride[0], :: stride[1]][:out_h, :out_w].transpose(0, 1, 3, 4, 2)


# ---- random cases
# -------------------------------------------------------------------------------------------------


def bytes_like(draw, shape):
    """Return int8 values: random, all at one end, or alternating between the ends."""
    seed, kind = (
        draw(st.integers(0, 2**32 - 1)),
        draw(st.sampled_from(["random", "low", "high", "ends"])),
    )
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.integers(-128, 128, shape).astype(np.int8)
    return {
        "low": np.full(shape, -128, np.int8),
        "high": np.full(shape, 127, np.int8),
        "ends": rng.choice(np.array([-128, 127], np.int8), shape),
    }[kind]


@st.composite
def output_stage(draw, channels, bound):
    """Return the multipliers, shifts, zero point and limits such that outputs use their range and
    the sums stay below 2^30.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    multiplier = rng.choice([2**30, 2**31 - 1, *rng.integers(2**30, 2**31, 4)], channels)
    useful = int(np.log2(max(bound, 1))) - 7  # right shift that brings sums to about eight bits
    spread = rng.integers(-2, 3, channels)
    left = int(29 - np.ceil(np.log2(max(bound, 1))))
    shift = np.clip(-useful + spread, -22, max(left, 0)).astype(np.int8)
    zero = draw(st.one_of(st.just(-128), st.integers(-128, 127)))
    low, high = draw(st.sampled_from([(-128, 127), (zero, 127), (zero, min(127, zero + 40))]))
    return multiplier.astype(np.int64), shift, zero, low, high


@st.composite
def sliding(draw, kind):
    """Return a convolution (or depthwise) of one or two dimensions with its packed weights."""
    two_d = draw(st.booleans())
    in_h = draw(st.integers(1, 5)) if two_d else 1
    in_w, in_c = draw(st.integers(1, 24)), draw(st.sampled_from([1, 2, 3, 4, 8, 12, 16, 20, 32]))
    k_h = draw(st.integers(1, min(3, in_h)))
    k_w = draw(st.integers(1, min(8 if in_c < 8 else 3, in_w)))
    stride = draw(st.integers(1, 2)) if two_d else 1, draw(st.integers(1, 3))
    if draw(st.booleans()):  # SAME
        out = -(-in_h // stride[0]), -(-in_w // stride[1])
        pad = [
            max((o - 1) * s + k - n, 0) // 2
            for o, s, k, n in zip(out, stride, (k_h, k_w), (in_h, in_w), strict=True)
        ]
    else:
        out, pad = ((in_h - k_h) // stride[0] + 1, (in_w - k_w) // stride[1] + 1), [0, 0]
    out_c = in_c if kind == DEPTHWISE else draw(st.integers(1, 9))
    x, in_zero = bytes_like(draw, (in_h, in_w, in_c)), draw(st.integers(-128, 127))
    taps = k_h * k_w
    w = bytes_like(draw, (out_c, taps if kind == DEPTHWISE else taps * in_c)).astype(np.int64)
    bias = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(-(2**16), 2**16, out_c)
    view = windows(x, in_zero, out, (k_h, k_w), stride, pad)
    centred = view - in_zero
    if kind == DEPTHWISE:
        sums = np.einsum("yxijc,cij->yxc", centred, w.reshape(out_c, k_h, k_w)) + bias
        padded = np.zeros((-(-out_c // 4) * 4, taps), np.int8)
        padded[:out_c] = w
        packed = padded.reshape(-1, 4, taps).transpose(0, 2, 1)
    else:
        sums = np.einsum("yxk,ck->yxc", centred.reshape(*out, -1), w) + bias
        padded = np.zeros((-(-out_c // 2) * 2, -(-w.shape[1] // 8) * 8), np.int8)
        padded[:out_c, : w.shape[1]] = w
        packed = padded.reshape(-1, 2, padded.shape[1]).transpose(0, 2, 1)
    bound = 2**16 + 256 * 128 * w.shape[1]
    multiplier, shift, zero, low, high = draw(output_stage(out_c, bound))
    expected = np.array(
        [
            clamped(
                rescaled(int(s), int(multiplier[i % out_c]), int(shift[i % out_c])) + zero,
                low,
                high,
            )
            for i, s in enumerate(sums.ravel())
        ],
        np.int8,
    )
    folded = np.append(
        bias - in_zero * w.sum(1), np.zeros(out_c % 2 if kind == CONV else 0, np.int64)
    )
    fields = [in_h, in_w, in_c, *out, out_c, k_h, k_w, *stride, *pad, in_zero, zero, low, high]
    return Case(kind, fields, expected, x, packed, folded, multiplier, shift)


@st.composite
def addition(draw):
    size = draw(st.integers(1, 70))
    a, b = bytes_like(draw, size), bytes_like(draw, size)
    zero1, zero2, zero = (draw(st.one_of(st.just(-128), st.integers(-128, 127))) for _ in range(3))
    m1, m2, m = (
        draw(st.one_of(st.sampled_from([2**30, 2**31 - 1]), st.integers(2**30, 2**31 - 1)))
        for _ in range(3)
    )
    s1, s2 = draw(st.permutations([0, draw(st.integers(-9, 0))]))
    if s1 == 0:  # scale / (2 * the larger scale) is at most one half
        m1 = 2**30
    if s2 == 0:
        m2 = 2**30
    shift = draw(st.integers(-20, -14))
    low, high = draw(st.sampled_from([(-128, 127), (zero, 127)]))
    expected = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        total = rescaled((x - zero1) << 20, m1, s1) + rescaled((y - zero2) << 20, m2, s2)
        expected.append(clamped(rescaled(total, m, shift) + zero, low, high))
    fields = [size, m1, m2, m, s1, s2, shift, zero1, zero2, zero, low, high]
    return Case(ADD, fields, np.array(expected, np.int8), a, b)


@st.composite
def reduction(draw):
    kind = draw(st.sampled_from([MEAN, POOL, PAD]))
    h, w, c = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    x, zero = bytes_like(draw, (h, w, c)), draw(st.integers(-128, 127))
    if kind == MEAN:
        multiplier, shift, out_zero = (
            draw(st.integers(2**29, 2**31 - 1)),
            draw(st.integers(-8, 1)),
            draw(st.integers(-128, 127)),
        )
        sums = (x.astype(np.int64) - zero).sum((0, 1)).tolist()
        expected = [clamped(rescaled(s, multiplier, shift) + out_zero, -128, 127) for s in sums]
        fields = [h * w, c, multiplier, shift, zero, out_zero]
    elif kind == PAD:
        before, after = ([draw(st.integers(0, 2)) for _ in range(3)] for _ in range(2))
        image = np.pad(x, list(zip(before, after, strict=True)), constant_values=zero)
        expected, fields = image.ravel(), [h, w, c, *image.shape, *before, zero]
    else:
        k_h, k_w, stride = draw(st.integers(1, h)), draw(st.integers(1, w)), draw(st.integers(1, 2))
        out = -(-h // stride), -(-w // stride)
        pad = [
            max((o - 1) * stride + k - n, 0) // 2
            for o, k, n in zip(out, (k_h, k_w), (h, w), strict=True)
        ]
        low = draw(st.sampled_from([-128, -5]))
        expected = []
        for y in range(out[0]):
            for z in range(out[1]):
                rows = slice(max(y * stride - pad[0], 0), y * stride - pad[0] + k_h)
                columns = slice(max(z * stride - pad[1], 0), z * stride - pad[1] + k_w)
                patch = x[rows, columns].reshape(-1, c).astype(int)
                for total in patch.sum(0).tolist():
                    half = len(patch) // 2
                    expected.append(
                        clamped(
                            truncated(total + (half if total > 0 else -half), len(patch)), low, 127
                        )
                    )
        fields = [h, w, c, *out, k_h, k_w, stride, stride, *pad, low, 127]
    return Case(kind, fields, np.array(expected, np.int8), x)


cases = st.lists(
    st.one_of(sliding(CONV), sliding(DEPTHWISE), addition(), reduction()), min_size=8, max_size=24
)

# ---- where they run
# -----------------------------------------------------------------------------------------------


def emulated(core, run, compiler):
    def make(folder):
        firmware = compile_firmware(
            [DATA / "kernel_cases.c"], core, folder / "cases.elf", compiler=compiler
        )
        return lambda data: check_exit(run(firmware, {"cases.bin": data}))

    return make


def check_exit(run):
    assert run.exit_code == 0, f"guard bytes overwritten ({run.exit_code})"
    return run.files["outputs.bin"]


def sanitized_host(folder):
    sources = [DATA / "kernel_cases.c", DATA / "host_semihost.c"]
    program = compile_host(sources, folder / "cases", include=[BOARDS], shared=False, sanitize=True)

    def run(data):
        (folder / "cases.bin").write_bytes(data)
        done = subprocess.run([program], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return (folder / "outputs.bin").read_bytes()

    return run


PLACES = {
    "host": sanitized_host,
    "m4-zig": emulated("m4", run_unicorn, "zig"),
    "m7-gcc": emulated("m7", run_unicorn, "gcc"),
    "m55-gcc": emulated("m55", run_qemu, "gcc"),
    "m55-zig": emulated("m55", run_qemu, "zig"),
}


def lacks(place):
    """Return what this machine lacks to run there."""
    if place == "host" and shutil.which("gcc") is None and shutil.which("clang") is None:
        return "sanitizers need gcc or clang on this machine"
    if place.endswith("gcc") and not have_gcc():
        return "arm-none-eabi-gcc is not installed"
    return (
        "qemu-system-arm is not installed" if place.startswith("m55") and not have_qemu() else None
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return functions from encoded cases to outputs, on this machine and emulated cores: cases are
    drawn once for all.
    """
    return {
        name: make(tmp_path_factory.mktemp(name))
        for name, make in PLACES.items()
        if not lacks(name)
    }


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batch=cases)
def test_kernels_give_what_tensorflow_lite_defines(places, batch):
    encoded = b"".join(case.encode() for case in batch)
    for place, run in places.items():
        outputs, at = np.frombuffer(run(encoded), np.int8), 0
        for case in batch:
            size = case.expected.size
            for name in ("plain", "fast"):
                assert np.array_equal(outputs[at : at + size], case.expected), (
                    place,
                    name,
                    case.kind,
                    case.fields,
                )
                at += size
        assert at == len(outputs)


@pytest.mark.parametrize("place", PLACES)
def test_kernels_were_run_there(places, place):
    if reason := lacks(place):
        pytest.skip(reason)
    assert place in places
