"""Firmware on emulated cores: bytes of TensorFlow Lite Micro, counts that two emulators agree on,
faults that show.
"""

from itertools import chain

import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.targets.c.source import write_c
from xmae.export.targets.session import to_int8
from xmae.firmware_sim.build.compile import BOARDS, compile_firmware, have_gcc
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.emulators.counts import name
from xmae.firmware_sim.emulators.qemu import have_qemu, run_qemu
from xmae.firmware_sim.emulators.unicorn import run_unicorn
from xmae.signals.scale import minmax_scale

tflite_micro = pytest.importorskip("tflite_micro")
needs_qemu = pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
needs_gcc = pytest.mark.skipif(not have_gcc(), reason="arm-none-eabi-gcc is not installed")
APP = BOARDS / "embed_windows.c"


@pytest.fixture(scope="module")
def network(watch_bundle, tmp_path_factory):
    """Return generated sources, information on them, int8 windows and TFLM's embeddings."""
    folder = tmp_path_factory.mktemp("network")
    ppg = minmax_scale(prepare_recording(read_recording(bidmc_files()[0]))[0].ppg)[0]
    entry = watch_bundle.entry("student", "litert", "int8")
    path, described = watch_bundle.path / entry.file, entry.input
    info = write_c(path, folder)
    codes = to_int8(ppg[:2], described.scale, described.zero_point)
    micro = tflite_micro.runtime.Interpreter.from_file(str(path), arena_size=2**20)
    expected = b""
    for window in codes:
        micro.set_input(window.reshape(described.shape), 0)
        micro.invoke()
        expected += micro.get_output(0).tobytes()
    return folder / "student_int8.c", info, codes.tobytes(), expected


@pytest.fixture(scope="module")
def firmware(network, tmp_path_factory):
    """Return a function that compiles the network once for a core by a compiler."""
    folder, done = tmp_path_factory.mktemp("elf"), {}

    def get(core, compiler="zig", fast=True):
        key = core, compiler, fast
        if key not in done:
            out = folder / f"{core}_{compiler}_{fast}.elf"
            done[key] = compile_firmware([APP, network[0]], core, out, compiler=compiler, fast=fast)
        return done[key]

    return get


@pytest.fixture(scope="module")
def ran(network, firmware):
    """Return a function that runs both windows once on a core in an emulator."""
    done = {}

    def get(core, compiler, run):
        key = core, compiler, run
        if key not in done:
            done[key] = run(firmware(core, compiler), {"in.bin": network[2]}, markers(network[1]))
        return done[key]

    return get


def markers(info):
    return [layer["function"] for layer in info["layers"] if layer["op"] != "RESHAPE"] + [
        "xmae_model_end"
    ]


def per_mac(run, info):
    """Return the instructions per multiply-accumulate of each window."""
    ends = [i for i, (region, _) in enumerate(run.visits) if region == "xmae_model_end"]
    starts = [i for i, (region, _) in enumerate(run.visits) if region == markers(info)[0]]
    return [
        sum(n for _, n in run.visits[a:b]) / info["macs"] for a, b in zip(starts, ends, strict=True)
    ]


@pytest.mark.parametrize(
    ("core", "compiler", "run", "limit"),
    [
        pytest.param("m4", "zig", run_unicorn, 2.0),
        pytest.param("m7", "zig", run_unicorn, 2.0, marks=pytest.mark.extended),
        pytest.param("m33", "zig", run_unicorn, 2.0, marks=pytest.mark.extended),
        pytest.param("m4", "gcc", run_unicorn, 2.0, marks=needs_gcc),
        pytest.param("m7", "gcc", run_qemu, 2.0, marks=[needs_gcc, needs_qemu]),
        pytest.param("m33", "gcc", run_qemu, 2.0, marks=[needs_gcc, needs_qemu]),
        pytest.param("m55", "gcc", run_qemu, 0.5, marks=[needs_gcc, needs_qemu]),
        pytest.param("m55", "zig", run_qemu, 0.5, marks=needs_qemu),
    ],
)
def test_embeddings_are_tflms_at_the_cost_aimed_at(
    network, firmware, ran, core, compiler, run, limit
):
    _, info, _, expected = network
    built, result = firmware(core, compiler), ran(core, compiler, run)
    assert result.exit_code == 0 and result.console == "done\n"
    assert result.files == {"out.bin": expected}
    assert built.sizes["flash_weights"] <= 192 * 1024
    assert built.sizes["flash_code"] <= 16 * 1024
    assert built.sizes["ram"] <= 64 * 1024
    assert 0 < result.stack_used <= 1024
    first, second = per_mac(result, info)
    assert first <= limit
    assert first == pytest.approx(second, rel=1e-3)  # no time that depends on the input
    assert sum(n for _, n in result.visits) == result.instructions
    classes = sum(
        n
        for kind, n in chain.from_iterable(mix.items() for mix in result.mix.values())
        if kind != "words"
    )
    assert classes == result.instructions
    assert sum(mix["other"] for mix in result.mix.values()) == 0


@needs_qemu
@pytest.mark.parametrize(
    "core", ["m4", *(pytest.param(core, marks=pytest.mark.extended) for core in ("m7", "m33"))]
)
def test_two_emulators_count_the_same(network, ran, core):
    info = network[1]
    one, other = (ran(core, "zig", run) for run in (run_unicorn, run_qemu))
    # startup and exit talk to the host, which differs
    assert one.visits[1:-1] == other.visits[1:-1]
    assert {key: one.mix[key] for key in markers(info)[:-1]} == {
        key: other.mix[key] for key in markers(info)[:-1]
    }


@pytest.mark.extended
def test_counts_repeat_and_fast_paths_are_worth_it(network, firmware, ran):
    _, info, codes, expected = network
    fast, again = (
        ran("m4", "zig", run_unicorn),
        run_unicorn(firmware("m4"), {"in.bin": codes}, markers(info)),
    )
    plain = run_unicorn(firmware("m4", fast=False), {"in.bin": codes[:1000]}, markers(info))
    assert fast.visits == again.visits and fast.mix == again.mix
    assert plain.files == {"out.bin": expected[:256]}
    assert per_mac(plain, info)[0] > 3 * per_mac(fast, info)[0]


@pytest.mark.parametrize("run", [run_unicorn, pytest.param(run_qemu, marks=needs_qemu)])
def test_a_flipped_bit_in_the_weights_is_noticed(network, firmware, run):
    built = firmware("m4")
    address, size = built.symbols["xmae_weights"]
    at = address + size // 3
    original = bytes_at(built, at)
    damaged = run(built, {"in.bin": network[2]}, patches={at: bytes([original ^ 0x10])})
    assert damaged.exit_code == 3 and not damaged.files.get("out.bin")


def bytes_at(built, address):
    image, segments, _ = read_elf(built.path)
    offset, _, physical, _ = next(s for s in segments if s[2] <= address < s[2] + s[3])
    return image[offset + address - physical]


PROGRAMS = {
    "loop": "int app(void) { for (volatile int i = 0;; i++) {} }",
    "wild": "int app(void) { return *(volatile int *)0x60000000; }",
    "undefined": 'int app(void) { __asm__ volatile(".short 0xde00"); return 0; }',
    "seven": "int app(void) { return 7; }",
}


@pytest.mark.parametrize(
    "run", [run_unicorn, pytest.param(run_qemu, marks=[needs_qemu, pytest.mark.extended])]
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_that_go_wrong(tmp_path, program, run):
    (tmp_path / "app.c").write_text(PROGRAMS[program])
    built = compile_firmware([tmp_path / "app.c"], "m4", tmp_path / "app.elf", compiler="zig")
    if program == "loop":
        with pytest.raises(UserError, match="did not finish within 1 s"):
            run(built, {}, timeout_s=1)
    # it stops where a core would take the fault
    elif program in ("wild", "undefined") and run is run_unicorn:
        with pytest.raises(UserError, match=r"app\.elf: .* at 0x"):
            run(built, {})
    else:
        assert run(built, {}).exit_code == (7 if program == "seven" else 99)


def test_what_does_not_fit_is_refused(network, tmp_path):
    source = network[0]
    for small in ({"flash_bytes": 128 * 1024}, {"ram_bytes": 8 * 1024}):
        with pytest.raises(UserError, match="does not build: .*(FLASH|RAM|overflow|will not fit)"):
            compile_firmware([APP, source], "m4", tmp_path / "small.elf", compiler="zig", **small)


def test_wrong_names(network, firmware, tmp_path):
    with pytest.raises(UserError, match="unknown core 'm3'"):
        compile_firmware([APP, network[0]], "m3", tmp_path / "x.elf")
    with pytest.raises(UserError, match="no function nowhere"):
        run_unicorn(firmware("m4"), {}, ["nowhere"])
    with pytest.raises(UserError, match="Unicorn has no core 'm55'"):
        run_unicorn(firmware("m55"), {})
    with pytest.raises(UserError, match="unknown compiler 'clang'; known: gcc"):
        compile_firmware([APP, network[0]], "m4", tmp_path / "x.elf", compiler="clang")
    (tmp_path / "bad.c").write_text("int app(void) { return missing; }")
    with pytest.raises(UserError, match="does not build: .*missing"):
        compile_firmware([tmp_path / "bad.c"], "m4", tmp_path / "x.elf", compiler="zig")


@pytest.mark.parametrize(
    ("halves", "expected"),
    [  # encodings as GNU as 2.40 writes them
        ((0xEEF4, 0x0F20), "mve_mac"),  # vmladava.s8 r0, q2, q0
        ((0xEEF9, 0x0F20), "mve_alu"),  # vaddva.s32 r0, q0
        ((0xEEA8, 0x0F42), "mve_alu"),  # vmovlb.s8 q0, q1
        ((0xFC9B, 0x5E00), "mve_load"),  # vld20.8
        ((0xEC80, 0x6F08), "mve_store"),  # vstrw.32
        ((0xEEA0, 0x1B10), "mve_alu"),  # vdup.32 q0, r1
        ((0xF020, 0xE801), "mve_alu"),  # vctp.32 r0
        ((0xF00F, 0xC005), "loop"),  # le
        ((0xFB20, 0x4405), "mac"),  # smlad r4, r0, r5, r4
        ((0xFB50, 0xF011), "mul"),  # smmulr r0, r0, r1
        ((0xE9D3, 0x2600), "loadm"),  # ldrd r2, r6, [r3]
        ((0xFA30, 0xF180), "alu"),  # sxtb16 r1, r0
        ((0xFBB0, 0xF0F1), "div"),  # udiv r0, r0, r1
    ],
)
def test_instructions_are_named_right(halves, expected):
    code = b"".join(half.to_bytes(2, "little") for half in halves)
    assert name(code, 0)[0] == expected
