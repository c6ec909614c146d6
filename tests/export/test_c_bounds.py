"""The bounds of the README hold: instructions on an emulated Cortex-M4, stack by the call graph."""

import re
import shutil
import subprocess

import pytest

from xmae.beats.certainty import shipped_certainty
from xmae.export.stream import int8_file
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.vectors import write_vectors
from xmae.firmware_sim.emulators.qemu import have_qemu

CORE = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-std=c99", "-O2")
CORE += ("-ffunction-sections", "-fdata-sections", "-fomit-frame-pointer")
BOARD = "examples/cortex_m"
LINK = ("-nostdlib", "-Wl,--gc-sections", "-Wl,--entry=reset", "-T", f"{BOARD}/mps2_an386.ld")
# bytes that functions in assembly push
ASSEMBLY = {"block": 48, "run_quad": 40, "run_quad_exact": 40}
ENGINES = re.compile(r"(.*:)?(xmae_network|dsp)_(run|reset|input)")
FREESTANDING = {"memcpy", "memmove", "memset"}

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="no arm-none-eabi-gcc"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the folder `c` with the shipped student that reads beats."""
    folder = tmp_path_factory.mktemp("bundle") / "c"
    student = PackagedStudent("student", "student", int8_file("beats-mcu"), {}, shipped_certainty())
    write_package(folder, [student])
    write_vectors(folder, [student])
    return folder


def bounds(package):
    """Return the last number of each row of the README's tables of costs, by the row's name."""
    text = (package / "README.md").read_text()
    rows = re.findall(r"^\| (.*?) \|.*\| ([\d,]+) \|$", text, re.M)
    return {name: int(number.replace(",", "")) for name, number in rows}


@pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
def test_counts_are_within_the_bounds(package, tmp_path):
    sources = [*package.glob("src/*.c"), *package.glob("models/*.c")]
    sources += [package / BOARD / f"{name}.c" for name in ("port_qemu", "memory", "measure_cost")]
    include = [f"-I{name}" for name in ("include", "src", "examples", "data")]
    include += ["-isystem", f"{BOARD}/freestanding"]
    program = tmp_path / "measure_cost"
    words = ["arm-none-eabi-gcc", *CORE, *LINK, *include, *sources, "-o", program]
    subprocess.run(words, cwd=package, check=True)
    words = ["qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-nographic"]
    words += ["-semihosting-config", "enable=on,target=native", "-kernel", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    counted = re.findall(
        r"(\d+) Hz: a second (\d+), longest push (\d+), longest without a result (\d+), "
        r"init (\d+), stack (\d+), embedding (\d+)",
        done.stdout + done.stderr,
    )
    assert [row[0] for row in counted] == ["125", "500", "25", "100"]
    limit = bounds(package)
    for row in counted:
        hz, second, push, code, init, stack, embedding = map(int, row)
        assert second <= limit["a second of signal"]
        assert push <= limit["`xmae_push` of the code that completes a second"]
        slow = limit["... at 25 Hz, where a code completes 4 samples"]
        fast = limit["`xmae_push` of any other code, at 100 Hz and more"]
        assert code <= (slow if hz < 100 else fast)
        assert init <= limit["`xmae_init`, `xmae_reset`"]
        assert embedding <= limit["`xmae_embed`"]
        assert stack <= limit["stack of any call, by the call graph"]


def test_the_deepest_way_through_the_calls_is_within_the_bound(package, tmp_path):
    """Frames by GCC; a call through the table of an engine may reach each of its functions."""
    for source in package.glob("src/*.c"):
        words = ["arm-none-eabi-gcc", *CORE, "-fcallgraph-info=su", "-Iinclude", "-Isrc"]
        out = tmp_path / f"{source.stem}.o"
        subprocess.run([*words, "-c", source, "-o", out], cwd=package, check=True)
    frames, calls = {}, {}
    for graph in tmp_path.glob("*.ci"):
        read_graph(graph.read_text(), frames, calls)
    calls["__indirect_call"] = {name for name in frames if ENGINES.fullmatch(name)}
    assert len(calls["__indirect_call"]) == 6
    public = {name for name in frames if name.startswith("xmae_")}
    assert {"xmae_push_at", "xmae_embed", "xmae_read"} <= public
    unknown = {name for names in calls.values() for name in names} - set(frames)
    assert unknown == FREESTANDING | {"__indirect_call"}
    deepest = max(depth(name, frames, calls) for name in public)
    assert 0 < deepest <= bounds(package)["stack of any call, by the call graph"]


def read_graph(text, frames, calls):
    """Add the frames (bytes) and calls of a file of -fcallgraph-info."""
    for name, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', text):
        size = re.search(r"(\d+) bytes \((\w+)", label)
        if size:
            assert size[2] == "static", label
            frames[name] = ASSEMBLY.get(name.split(":")[-1], int(size[1]))
    for caller, called in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
        calls.setdefault(caller, set()).add(called)


def depth(name, frames, calls, above=()):
    """Return bytes of the stack that a function takes with all that it calls; none calls itself."""
    assert name not in above, f"{name} calls itself"
    below = (depth(called, frames, calls, (*above, name)) for called in calls.get(name, ()))
    return frames.get(name, 0) + max(below, default=0)
