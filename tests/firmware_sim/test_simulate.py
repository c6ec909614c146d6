"""`xmae simulate`: real patients through compiled firmware on emulated watches, and faults injected
there.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from xmae.benchmarks.report.watch_table import equality
from xmae.benchmarks.simulate import chosen_devices, failures, simulate
from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.evaluation.heads.head import Head
from xmae.firmware_sim.build import arm_root
from xmae.firmware_sim.build.arm_root import is_set_up, root_path, setup_roots
from xmae.firmware_sim.build.compile import CORES, CRC_AT, compile_firmware, have_gcc
from xmae.firmware_sim.build.elf import read_elf
from xmae.firmware_sim.build.generate import FIFO_DEPTH, STACK_BYTES, write_firmware
from xmae.firmware_sim.cost import cost
from xmae.firmware_sim.cost.cost import per_window
from xmae.firmware_sim.cost.profile import BUDGET, device_names, load_device
from xmae.firmware_sim.emulators.registry import installed, runner
from xmae.firmware_sim.frame import Boot, Result, Status, parse_frames
from xmae.firmware_sim.frontend import digitise, fifo_words
from xmae.firmware_sim.play import limits
from xmae.firmware_sim.play_cortex_a import apply_heads, play_cortex_a

pytest.importorskip("unicorn")
pytest.importorskip("tflite_micro")
PATIENT = str(next(path for path in bidmc_files() if path.stem == "bidmc34"))  # of the test split
RATE = 50


@pytest.fixture(scope="module")
def firmware(watch_bundle, tmp_path_factory):
    """Return firmware for a Cortex-M4, without the trace of inputs, and what it was built from."""
    folder, device = tmp_path_factory.mktemp("m4"), load_device("apollo4")
    built = write_firmware(watch_bundle, folder, device.ram_bytes, device.flash_bytes, RATE)
    firmware = compile_firmware(
        built["sources"], "m4", folder / "watch.elf", include=built["include"],
        ram_bytes=device.ram_bytes, stack_bytes=STACK_BYTES,
    )  # fmt: skip
    return firmware, built


def play(firmware, codes, patches=None, markers=()):
    words = fifo_words(np.asarray(codes, float), RATE).astype("<u4").tobytes()
    return runner("unicorn")(firmware, {"in.bin": words}, markers, patches=patches or {})


def pulse(seconds, seed=0):
    """Return something like a pulse, for faults whose effect does not depend on the wave."""
    t = np.arange(seconds * RATE) / RATE
    wave = np.sin(2 * np.pi * 1.2 * t) + 0.3 * np.sin(4 * np.pi * 1.2 * t)
    return np.rint(130_000 + 20_000 * wave + np.random.default_rng(seed).normal(0, 300, len(t)))


@pytest.fixture(scope="module")
def play_on(watch_bundle, tmp_path_factory):
    """Return a function of devices: a test subject through those that can run here, a window every
    5 s, once; the folder and the result.
    """

    @cache
    def get(*names):
        names = [name for name in names if any(map(installed, load_device(name).emulators))]
        if not names:
            pytest.skip("needs emulators that pip cannot bring")
        out = tmp_path_factory.mktemp("played") / "out"
        return out, simulate(
            str(watch_bundle.path), ",".join(names), PATIENT, str(out), seconds=22, hop_s=5
        )

    return get


@pytest.fixture(scope="module")
def played(play_on):
    """Return the results of a device of each kind of core and emulator."""
    return play_on("apollo4", "ensemble-m55", "snapdragon-a53", "snapdragon-a7")


@pytest.mark.parametrize(
    "device",
    [
        *("apollo4", "ensemble-m55"),
        *(pytest.param(name, marks=pytest.mark.extended) for name in ("stm32u5", "stm32h7")),
    ],
)
def test_embeddings_equal_tflm_on_every_cortex_m(played, play_on, device):
    out, result = play_on("stm32u5", "stm32h7") if device.startswith("stm32") else played
    if device not in result["devices"]:
        pytest.skip(f"{device} needs qemu-system-arm, which pip cannot bring")
    one = result["devices"][device]
    assert one["boot"] == ["OK"] and one["valid"] == one["windows"] == 2
    assert [row["window_start_s"] for row in one["results"]] == [3, 8]
    assert one["bit_exact"] == {"windows": 2, "equal": 2, "with": "TensorFlow Lite Micro"}
    assert one["memory"]["stack_used"] <= STACK_BYTES / 2
    assert {name: limit["limit"] for name, limit in one["limits"].items()} == BUDGET | {
        "fifo": FIFO_DEPTH
    }
    for name, limit in one["limits"].items():
        assert limit["met"] and 0 < limit["used"] <= limit["limit"], name
    # samples meanwhile
    assert one["limits"]["fifo"]["used"] >= one["estimated"]["latency_ms"]["high"] * 125 / 1000
    assert one["counts"]["start_instructions"] > one["memory"]["flash"]  # all of it is read
    assert [head["name"] for head in one["heads"]] == ["hr"] and not one["without_skill"]
    assert all(row["heads"].keys() == {"hr"} for row in one["results"])
    assert one["counts"]["spread"] <= 0.05
    assert one["counts"]["instructions_per_mac"] <= (0.5 if one["core"] == "m55" else 2.0)
    for number in (one["estimated"]["latency_ms"], one["estimated"]["energy_mj"]):
        assert 0 < number["low"] < number["estimated"] < number["high"]
    assert (
        np.load(out / device / "embeddings.npz")["embeddings"] == first_embeddings(played)
    ).all()


def first_embeddings(played):
    """Return the embeddings of the first device: all Cortex-M give the same bytes."""
    return np.load(played[0] / next(iter(played[1]["devices"])) / "embeddings.npz")["embeddings"]


@pytest.mark.parametrize(("device", "steps"), [("snapdragon-a53", 4), ("snapdragon-a7", 0)])
def test_cortex_a(played, device, steps):
    if device not in played[1]["devices"]:
        pytest.skip("needs qemu-user and `xmae simulate --setup`, which pip cannot bring")
    one = played[1]["devices"][device]
    assert one["bit_exact"]["windows"] == one["valid"] == one["windows"] == 2
    assert one["bit_exact"]["largest_step"] <= one["bit_exact"]["allowed_step"] == steps
    assert one["counts"]["spread"] <= 0.05
    parts = sum(row["instructions"] for row in one["layers"])
    assert one["counts"]["instructions_a_window"] == pytest.approx(parts, rel=0.01)
    assert [row["status"] for row in one["results"]] == [["FIRST"], []]
    first = played[1]["devices"]["apollo4"]["results"]
    # XNNPACK's embeddings are not TFLM's
    for row, other in zip(one["results"], first, strict=True):
        assert row["heads"]["hr"] == pytest.approx(other["heads"]["hr"], abs=2)


def test_a_cortex_a_gives_no_number_for_a_bad_signal(watch_bundle, tmp_path):
    if not installed("qemu-user"):
        pytest.skip("needs qemu-user and `xmae simulate --setup`, which pip cannot bring")
    # every 20th at the upper rail
    codes = np.where(np.arange(27 * RATE) % 20, pulse(27), 2**18 - 1)
    one, embeddings = play_cortex_a(
        watch_bundle, load_device("snapdragon-a53"), codes, tmp_path, RATE
    )
    assert one["valid"] == 0 < one["windows"] and embeddings.shape == (0, 256)
    assert (
        one["bit_exact"]["not_compared"]
        and one["runtimes"] == {}
        and one["counts"]["network_instructions"] == 0
    )
    for row in one["results"]:
        assert row["heads"] is None and {"SATURATED", "INVALID"} <= set(row["status"])


def test_a_cortex_a_sends_no_heart_rate_that_nobody_has():
    """Its heads are applied apart from the firmware, by the same rule."""
    none = np.zeros(0, np.float32)
    head = Head(kind="regression", label="x", units="bpm", weight=[1.0, 0.0], bias=60.0)
    results = [
        Result(i, 0, status, 0, 0, none, none)
        for i, status in enumerate((Status(0), Status.INVALID, Status(0)))
    ]
    marked, said, plausible = apply_heads(
        results, np.array([[10.0, 0], [200.0, 0]]), {"hr": head, "age": head}
    )
    assert [result.valid for result in marked] == [True, False, False] and plausible.tolist() == [
        True,
        False,
    ]
    assert marked[2].status == Status.IMPLAUSIBLE | Status.INVALID and [
        len(values) for values in said
    ] == [2, 0, 0]
    assert apply_heads(results, np.zeros((2, 2)), {})[2].all()  # without heads: the embedding alone


def test_setup_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not is_set_up("arm64") and not is_set_up("armhf")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="qemu-aarch64 is not installed; apt-get install qemu-user"):
        setup_roots()
    assert not list(tmp_path.iterdir())


def test_each_version_of_the_runtimes_has_an_arm_system_of_its_own(monkeypatch):
    before = root_path("arm64")
    monkeypatch.setattr(arm_root, "version", lambda name: "1.2.3")
    assert before.name.startswith("arm64-") and root_path("arm64") != before


def test_a_program_that_does_not_end_is_one_clear_line():
    with pytest.raises(UserError, match="sleep did not end within 0.1 s"):
        arm_root.command(["sleep", 60], timeout=0.1)


def test_a_recording_without_samples_is_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(UserError, match="no PPG samples"):
            digitise(np.full(5000, value), 125, 125, 18)
    codes = digitise(np.array([1.0, np.inf, 3.0, -np.inf, 2.0]), 125, 125, 18)
    assert np.isnan(codes).tolist() == [False, True, False, True, False]


def test_table_is_written_and_shown_in_the_report(played):
    out, result = played
    assert result["passed"] and json.loads((out / "simulate.json").read_text()) == json.loads(
        json.dumps({key: value for key, value in result.items() if key not in ("out", "summary")})
    )
    table, page = (out / "watch.md").read_text(), (out / "report.html").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    for name, one in result["devices"].items():
        (row,) = [row for row in rows if row.startswith(f"| {name} (")]
        battery = one["estimated"]["battery"]
        for number in (
            one["estimated"]["latency_ms"],
            one["estimated"]["energy_mj"],
            *(b["mah_per_day"] for b in battery),
        ):
            text = f"{number['estimated']:.3g} ({number['low']:.3g} to {number['high']:.3g})"
            assert text in row and text in page
        assert (
            f"{one['counts']['instructions_a_window']:,}" in row
            and equality(one["bit_exact"]) in row
        )
    assert "estimated" in table and "On emulated watches" in page and "in order: hr (bpm)" in table
    assert ("Vela" in page) == ("ensemble-m55" in result["devices"])


def test_a_limit_that_is_missed_a_byte_that_differs_or_nothing_at_all_fails_the_run():
    same = {"windows": 2, "equal": 2, "with": "a reference"}
    kept, over = ({"ram": {"used": n, "limit": 2, "unit": "bytes", "met": n <= 2}} for n in (1, 3))

    def passes(played):
        return not failures({"windows": 3, "valid": 2, "results": [{"status": ["FLAT"]}]} | played)

    assert passes({"bit_exact": same, "limits": kept})
    nothing = {"windows": 0, "equal": 0, "with": None, "not_compared": "why"}
    assert not passes({"bit_exact": nothing, "limits": kept})
    assert not passes({"bit_exact": nothing, "valid": 0, "limits": kept})
    assert not passes({"bit_exact": same, "limits": over})
    assert not passes({"bit_exact": same | {"equal": 1}, "limits": kept})
    near = same | {"equal": 0, "allowed_step": 1}
    assert passes({"bit_exact": near | {"largest_step": 1}}) and not passes(
        {"bit_exact": near | {"largest_step": 2}}
    )
    # int8 codes as float32 numbers
    assert passes({"bit_exact": near | {"largest_step": 1.0000001}})
    assert not passes({"bit_exact": near | {"allowed_step": 0, "largest_step": 0.004}})
    assert not passes(
        {"bit_exact": same, "runtimes": {"other": {"bit_exact": same | {"equal": 1}}}}
    )


def test_a_window_longer_than_the_fifo_misses_a_limit():
    sizes = {"flash_weights": 1, "flash_code": 1, "ram": 1}
    assert limits(sizes, 256, 125)["fifo"] == {
        "used": 32,
        "limit": 32,
        "unit": "samples",
        "met": True,
    }
    assert not limits(sizes, 257, 125)["fifo"]["met"] and limits(sizes, 257, 100)["fifo"]["met"]


def test_a_recording_without_a_pulse_does_not_pass(watch_bundle, tmp_path, capsys, monkeypatch):
    """And neither does one whose embeddings nobody compared: exit code 1, and what was wrong in all
    that is written.
    """
    monkeypatch.setattr("xmae.firmware_sim.play.find_spec", lambda name: None)
    recording, out, time = tmp_path / "recording.csv", tmp_path / "out", np.arange(17 * RATE) / RATE
    for words, ppg in {
        "no valid window in 1 (FIRST, INVALID, NO_PULSE)": np.random.default_rng(0).normal(
            size=len(time)
        ),
        "embeddings not compared: tflite-micro is not installed": pulse(17),
    }.items():
        np.savetxt(recording, np.stack([time, ppg], 1), "%.6f", ",", header="time,ppg", comments="")
        assert (
            main(
                ["simulate", str(watch_bundle.path), "--signal", str(recording), "--out", str(out)]
            )
            == 1
        )
        assert f"NOT PASSED: apollo4: {words}" in capsys.readouterr().err
        result = json.loads((out / "simulate.json").read_text())
        assert not result["passed"] and result["failures"]["apollo4"][0].startswith(words)
        assert all(words in (out / name).read_text() for name in ("watch.md", "report.html"))


def test_all_devices_are_those_that_can_run(monkeypatch):
    monkeypatch.setattr(
        "xmae.benchmarks.simulate.installed", lambda emulator: emulator == "unicorn"
    )
    monkeypatch.setattr(
        "xmae.firmware_sim.emulators.registry.installed", lambda emulator: emulator == "unicorn"
    )
    chosen, not_run = chosen_devices("all", None)
    assert {profile.name for profile, _ in chosen} | not_run.keys() == set(device_names())
    assert (
        all(emulator == "unicorn" for _, emulator in chosen)
        and "qemu-system-arm" in not_run["ensemble-m55"]
    )
    monkeypatch.setattr("xmae.benchmarks.simulate.installed", lambda emulator: False)
    with pytest.raises(UserError, match="no emulator is installed"):
        chosen_devices("all", None)


def test_the_room_reads_a_bundle_and_nothing_else():
    """firmware_sim knows the bundle and what is in it, and no training, data, evaluation or
    report.
    """
    may = ("xmae.firmware_sim", "xmae.export", "xmae.signals", "xmae.errors", "xmae.files")
    for path in Path(cost.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("xmae"):
                assert node.module.startswith(may), f"{path.name} imports {node.module}"


ANY_PULSE = """
#define has_pulse judged
#include "pulse.c"
#undef has_pulse
int has_pulse(const int8_t *input);
int has_pulse(const int8_t *input) {
    volatile int verdict = judged(input);
    return verdict | 1;
}
"""


@pytest.mark.extended
def test_time_does_not_depend_on_the_input(firmware, tmp_path):
    """Pulse, noise, square wave and a single spike, window after window: instructions differ by
    less than 5 %.

    The check for a pulse is made, and what it says ignored: every window goes through the network.
    """
    (tmp_path / "any_pulse.c").write_text(ANY_PULSE)
    built = firmware[1]
    sources = [
        *(source for source in built["sources"] if source.name != "pulse.c"),
        tmp_path / "any_pulse.c",
    ]
    always = compile_firmware(
        sources, "m4", tmp_path / "w.elf", include=built["include"], stack_bytes=STACK_BYTES
    )
    functions = [
        layer["function"] for layer in built["layers"] if layer["function"] in always.symbols
    ]
    markers = ["phase_samples", "phase_front_end", *functions, "phase_heads", "phase_frame"]
    random = np.random.default_rng(1)
    square = np.where(np.arange(18 * RATE) // 20 % 2, 250_000.0, 10_000.0) + random.integers(
        0, 3, 18 * RATE
    )
    spike = 100_000 + random.integers(0, 2, 18 * RATE)
    spike[10 * RATE :: 7 * RATE] += 100_000
    signals = [pulse(18), random.integers(1000, 2**18 - 1000, 18 * RATE), square, spike]
    counts = per_window(play(always, np.concatenate(signals), markers=markers).visits)
    assert len(counts) >= 5
    assert max(counts) / min(counts) <= 1.05


# where a bit may flip, by what lies there; one of the symbols (GCC's or clang's names), or an
# address
FLIPPED = {
    "weights": "xmae_weights", "constants": "constants",
    "layer": r"layer\.\d+|xmae_layer_\d+\.layer", "network's code": "xmae_conv",
    "front end's code": "front_end", "a layer's code": r"xmae_layer_\d+", "vectors": 12,
    "expected CRC": CRC_AT,
}  # fmt: skip
FEW = {name: FLIPPED[name] for name in ("weights", "layer", "front end's code")}
OTHER_BOARDS = [
    ("m4", "gcc", "unicorn"),
    ("m7", "zig", "qemu"),
    ("m33", "gcc", "qemu"),
    ("m55", "gcc", "qemu"),
    ("m55", "zig", "qemu"),
]
BOARDS = [
    ("m4", "zig", "unicorn"),
    *(pytest.param(*board, marks=pytest.mark.extended) for board in OTHER_BOARDS),
]


@pytest.mark.parametrize(("core", "compiler", "emulator"), BOARDS)
def test_every_flipped_bit_is_found_at_the_start(firmware, tmp_path, core, compiler, emulator):
    if (compiler == "gcc" and not have_gcc()) or not installed(emulator):
        pytest.skip("arm-none-eabi-gcc or qemu-system-arm is not installed")
    built = firmware[1]
    one = compile_firmware(
        built["sources"], core, tmp_path / "watch.elf", include=built["include"], compiler=compiler,
        stack_bytes=STACK_BYTES,
    )  # fmt: skip
    words = fifo_words(pulse(17), RATE).astype("<u4").tobytes()
    (boot, result) = parse_frames(runner(emulator)(one, {"in.bin": words}).files["out.bin"])
    assert boot.status == 0 and result.valid
    start, end = (one.symbols[name][0] for name in ("flash_start", "flash_end"))
    assert end - start == one.sizes["flash"]
    for name, place in (FLIPPED if (core, compiler) == ("m4", "zig") else FEW).items():
        at = start + place if isinstance(place, int) else place_of(one, place)
        flipped = bytes([byte_at(one, at) ^ 0x10])
        run = runner(emulator)(one, {"in.bin": words}, patches={at: flipped})
        (boot,) = parse_frames(run.files["out.bin"])
        assert (
            isinstance(boot, Boot)
            and Status.BAD_FLASH in boot.status
            and Status.INVALID in boot.status
        ), name
        assert run.exit_code == 2, name


def place_of(firmware, pattern):
    """Return an address inside the first symbol whose name matches."""
    address, size = next(
        place for name, place in sorted(firmware.symbols.items()) if re.fullmatch(pattern, name)
    )
    return address + size // 3


def byte_at(firmware, address):
    """Return the byte that the ELF file holds for an address."""
    image, segments, _ = read_elf(firmware.path)
    for offset, _, physical, size in segments:
        if physical <= address < physical + size:
            return image[offset + address - physical]
    raise AssertionError(f"{address:#x} is not in the file")


def test_brown_out_between_window_and_result(firmware):
    """Power fails while a result is sent, RAM comes back as noise: a restart, and no number that is
    not a right one.
    """
    codes = pulse(37)
    whole = play(firmware[0], codes).files["out.bin"]
    truth = {frame.start_ms: frame for frame in parse_frames(whole) if isinstance(frame, Result)}
    noise = np.random.default_rng(3).integers(0, 256, BUDGET["ram"], dtype=np.uint8).tobytes()
    later = fifo_words(codes, RATE)[10 * RATE :].astype("<u4").tobytes()
    again = runner("unicorn")(
        firmware[0], {"in.bin": later}, patches={CORES["m4"].ram: noise}
    ).files["out.bin"]
    second = len(whole) - len(whole) // 5  # inside a frame
    frames = parse_frames(whole[:second] + again)
    boots = [i for i, frame in enumerate(frames) if isinstance(frame, Boot)]
    assert len(boots) == 2 and all(frames[i].status == 0 for i in boots)
    after = [frame for frame in frames[boots[1] :] if isinstance(frame, Result)]
    assert after and Status.FIRST in after[0].status and after[0].sequence == 0
    for frame in frames:
        if isinstance(frame, Result):
            assert frame.start_ms in truth
            assert np.array_equal(frame.embedding, truth[frame.start_ms].embedding)


def test_both_compilers_give_the_same_bytes(firmware, tmp_path):
    if not have_gcc():
        pytest.skip("arm-none-eabi-gcc is not installed; ziglang alone was used")
    pytest.importorskip("ziglang")
    built = firmware[1]
    other = compile_firmware(
        built["sources"],
        "m4",
        tmp_path / "zig.elf",
        include=built["include"],
        compiler="zig",
        stack_bytes=STACK_BYTES,
    )
    frames = [parse_frames(play(each, pulse(17)).files["out.bin"]) for each in (firmware[0], other)]
    for a, b in zip(*frames, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Result):
            assert (
                np.abs(a.heads - b.heads).max() < 0.5
                and np.abs(a.embedding.astype(int) - b.embedding).max() <= 3
            )


def test_list_names_every_device_and_what_it_needs(capsys):
    assert main(["simulate", "--list"]) == 0
    printed = capsys.readouterr().out
    assert (
        all(name in printed for name in device_names())
        and "apt-get install qemu-system-arm" in printed
    )


def test_mistakes_give_one_line(watch_bundle, tmp_path, capsys):
    bundle, out = str(watch_bundle.path), str(tmp_path / "out")
    for arguments, words in (
        ([bundle, "--device", "abacus", "--signal", PATIENT], "unknown device 'abacus'"),
        ([bundle, "--signal", str(tmp_path / "none.npz")], "no such file"),
        ([bundle, "--signal", PATIENT, "--sfreq", "200"], "200 Hz"),
        ([bundle, "--signal", PATIENT, "--seconds", "10"], "needs 16 s"),
        ([bundle, "--signal", PATIENT, "--emulator", "qemu-user"], "cannot be emulated"),
        (
            [bundle, "--signal", PATIENT, "--student", "student-app"],
            "holds no int8 student-app for litert",
        ),
        ([str(tmp_path), "--signal", PATIENT], "no bundle"),
        ([bundle, "--signal", PATIENT, "--cmsis-nn", str(tmp_path)], "no CMSIS-NN"),
        ([], "--bundle and --signal must be given"),
    ):
        assert main(["simulate", *arguments, "--out", out]) == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_firmware_that_does_not_fit_the_budget_is_refused(firmware, tmp_path):
    built = firmware[1]
    with pytest.raises(UserError, match="does not build"):
        compile_firmware(
            built["sources"],
            "m4",
            tmp_path / "small.elf",
            include=built["include"],
            ram_bytes=24 * 1024,
        )
