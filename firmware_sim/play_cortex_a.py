"""Watches with a Cortex-A: the watch's own C code and the runtimes' own wheels under qemu-user,
instructions counted.

The firmware's front end, compiled for Arm Linux, takes the recording sample by sample, judges it by
the same rules as on a microcontroller and gives the windows; LiteRT, ExecuTorch and ONNX Runtime
(tflite-runtime on 32-bit cores) embed them in the small systems of `arm_root`. A plugin counts
instructions between marks, which are system calls that nobody else makes.

QEMU 7.2 has no Cortex-A55; a Cortex-A76 whose `/proc/cpuinfo` names the A55 makes XNNPACK choose
the A55's kernels.
"""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from xmae.errors import UserError
from xmae.export.targets import litert
from xmae.export.targets.session import from_int8, to_int8
from xmae.firmware_sim.build.arm_root import ROOTS, command, is_set_up, root_path
from xmae.firmware_sim.build.compile import BOARDS, compile_host, compile_linux
from xmae.firmware_sim.build.generate import SOURCES, plausible_range, write_firmware
from xmae.firmware_sim.cost.cost import (
    compute_cycles,
    estimates,
    layer_row,
    millijoules,
    milliseconds,
    spread,
)
from xmae.firmware_sim.cost.profile import Span
from xmae.firmware_sim.emulators.confine import confinement
from xmae.firmware_sim.frame import Boot, Status, parse_frames, results_and_inputs
from xmae.firmware_sim.frontend import fifo_words
from xmae.firmware_sim.play import PATIENCE_S, heads_of, not_compared, timeline_row

PLENTY = 2**30  # bytes: memory is no limit on these devices
# ms for the samples between windows: a sensor hub takes them, and they are not counted
NONE = Span(0, 0, 0)
XNNPACK_STEPS = 4  # of int8, between kernels of two processors; 2 were the most in 24 windows


@dataclass(frozen=True)
class Cpu:
    """A core: its system, QEMU's name for it, its `/proc/cpuinfo`, the formats of its runtimes, the
    main one first.

    `steps`: by how many int8 steps its LiteRT (tflite-runtime on 32-bit Arm) may differ from
    LiteRT's reference kernels, which give the same bits on every processor. tflite-runtime 2.14
    is held to them; it gave these bits for the students of November, and is a step off in 4 of 47
    windows of today's `student-mcu`. XNNPACK has kernels of its own for each processor, which round
    in other ways. A step in an early layer may become more in the embedding.
    """

    root: str
    qemu: str
    architecture: int
    part: str
    features: str
    formats: tuple = ("litert", "executorch", "onnx")
    steps: int = XNNPACK_STEPS


V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CPUS = {
    "a7": Cpu(
        "armhf",
        "cortex-a7",
        7,
        "0xc07",
        "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae",
        ("litert",),
        0,
    ),
    "a53": Cpu("arm64", "cortex-a53", 8, "0xd03", V8),
    "a55": Cpu(
        "arm64", "cortex-a76", 8, "0xd05", V8 + " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
    ),
}
TITLES = {"litert": "LiteRT", "executorch": "ExecuTorch", "onnx": "ONNX Runtime"}


def play_cortex_a(bundle, device, codes, folder, rate, hop_s=10, adc_bits=18, student="student"):
    """Play a recording through a student on a Cortex-A; returns result and embeddings as
    `xmae.firmware_sim.play.play`.

    Parameters
    ----------
    bundle, device, codes, folder, rate, hop_s, adc_bits, student
        As for `play`; the device has a Cortex-A.

    Returns
    -------
    result : dict
        As `play`'s, for the first runtime; `bit_exact` with LiteRT's reference kernels, with
        `largest_step` in int8 steps and the `allowed_step`.
        The work on samples between windows is in none of the numbers. `runtimes`: `counts`,
        `estimated` and `bit_exact` (with the same runtime on this machine) of the others that the
        bundle has a file for.
    embeddings : int8 array, shape (n_valid, D)

    Raises
    ------
    UserError
        If the emulator is not set up, the bundle cannot be used, or a program fails.
    """
    cpu = CPUS[device.core]
    if not is_set_up(cpu.root):
        raise UserError(
            f"{device.name} needs apt-get install qemu-user, then xmae simulate --setup"
        )
    built = write_firmware(
        bundle, folder / "firmware", PLENTY, PLENTY, rate, hop_s, adc_bits, trace=True,
        student=student, check_heads=False,
    )  # fmt: skip
    timeout_s = max(600, PATIENCE_S * len(codes) / rate / hop_s)
    frames, steps = run_front_end(built, device.core, fifo_words(codes, rate), timeout_s)
    results, inputs = results_and_inputs(frames)
    ends, heads = bundle.entry(student, "litert", "int8"), bundle.trusted_heads(student)
    network, embeddings = run_models(bundle, student, inputs, ends, device.core, timeout_s)
    macs = sum(layer["macs"] for layer in built["layers"])
    outer = split(steps, results)
    costs = {format: cost(outer, counts, macs, device) for format, (counts, _) in network.items()}
    main = costs.pop("litert", None) or cost(outer, None, macs, device)
    results, said, plausible = apply_heads(results, embeddings.astype(np.float64), heads)
    rows = []
    for one, values in zip(results, said, strict=True):
        when = one.start_ms / 1000
        rows.append(timeline_row(when, main, one.status, one.lost, one.saturated, values, heads))
    runtimes = {}
    for format, of_format in costs.items():
        found = {key: of_format[key] for key in ("counts", "estimated")}
        runtimes[TITLES[format]] = found | {"bit_exact": network[format][1]}
    return {
        "boot": [frame.status.name or "OK" for frame in frames if isinstance(frame, Boot)],
        "results": rows,
        **heads_of(bundle, student),
        "windows": len(results),
        "valid": int(plausible.sum()),
        "bit_exact": network["litert"][1] if network else not_compared("no valid window"),
        **main,
        "runtimes": runtimes,
    }, to_int8(embeddings[plausible], ends.output.scale, ends.output.zero_point)


def run_models(bundle, student, inputs, ends, core, timeout_s):
    """Run a student in every runtime of a core.

    Returns
    -------
    network : dict
        By format: its counts, and how its embeddings compare with the same runtime's here.
    embeddings : float32 array, shape (n_valid, D)
        Embeddings by LiteRT.
    """
    cpu, network = CPUS[core], {}
    embeddings = np.zeros((0, ends.output.shape[-1]), np.float32)
    if not len(inputs):
        return network, embeddings
    for entry in entries(bundle, student, cpu.formats):
        path, format = bundle.path / entry.file, entry.format
        output, counts = run_model(path, format, inputs, ends, core, timeout_s)
        network[format] = counts, compared(bundle, entry, inputs, ends, output, cpu)
        if format == "litert":
            embeddings = output
    return network, embeddings


def apply_heads(results, embeddings, heads):
    """Apply the heads to the embedding of each valid window, (n_valid, D), as the firmware does
    when the network runs in a process of its own.

    Returns
    -------
    results : list of Result
        Marked where a head says what is not plausible.
    values : list of array
        Answers of each result: a number for each head, none where it is invalid.
    plausible : bool array, shape (n_valid,)
    """
    low, high = plausible_range(heads)
    weights = np.array([head.weight for head in heads.values()]).reshape(
        len(heads), embeddings.shape[1]
    )
    said = embeddings @ weights.T + [head.bias for head in heads.values()]
    plausible = ((said >= low) & (said <= high)).all(axis=1)
    rows, marked, values = iter(zip(said, plausible, strict=True)), [], []
    for result in results:
        row, fine = next(rows) if result.valid else ((), True)
        marked.append(
            result
            if fine
            else replace(result, status=result.status | Status.IMPLAUSIBLE | Status.INVALID)
        )
        values.append(row if fine else ())
    return marked, values, plausible


def entries(bundle, student, formats):
    """Return a student's int8 files in a bundle, in the formats and order of the core's
    runtimes.
    """
    found = {entry.format: entry for entry in bundle.all_models
             if (entry.model, entry.precision) == (student, "int8")}  # fmt: skip
    return [found[format] for format in formats if format in found]


def run_front_end(built, core, words, timeout_s):
    """Run the watch without its network on FIFO words: frames, and instructions between marks."""
    sources = [source for source in built["sources"] if source.name != "student_int8.c"]
    sources += [SOURCES / "host" / "host.c", SOURCES / "host" / "apart.c"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        compile_linux(sources, core, folder / "watch", include=[*built["include"], BOARDS])
        (folder / "in.bin").write_bytes(words.astype("<u4").tobytes())
        counts = run_user(core, [folder / "watch"], folder, timeout_s)
        return parse_frames((folder / "out.bin").read_bytes()), counts


def run_model(model, format, codes, ends, core, timeout_s):
    """Embed int8 windows (n, 1000) in a runtime: real embeddings (n, D), and instructions of each
    inference.

    Parameters
    ----------
    model : Path
        Int8 file.
    format : str
        "litert", "executorch" or "onnx".
    codes : int8 array, shape (n, 1000)
        Inputs.
    ends : Entry
        LiteRT's: scales and zero points of input and output.
    core : str
        Name in `CPUS`.
    timeout_s : float
        Wall time that it may take.

    Raises
    ------
    UserError
        If the program fails or does not end.
    """
    root = root_path(CPUS[core].root)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (codes if format == "litert" else real(codes, ends)).tofile(folder / "in")
        words = [model.resolve(), folder / "in", folder / "out"]
        if format == "executorch":
            counts = run_user(core, [root / "run_pte", *words], folder, timeout_s, words[:1])
        else:
            program = [root / "usr/bin/python3.11", BOARDS / "run_windows.py", format, *words]
            counts = run_user(core, program, folder, timeout_s, [BOARDS, *words[:1]])
        output = np.fromfile(folder / "out", np.int8 if format == "litert" else np.float32).reshape(
            len(codes), -1
        )
    if format == "litert":
        output = from_int8(output, ends.output.scale, ends.output.zero_point)
    return output, counts


def run_user(core, program, folder, timeout_s, readable=()):
    """Run a program of the Arm system under qemu-user, in `folder`: instructions between marks 1
    and 2, in order.

    Its system calls are made on this machine, so it is confined: it sees `folder`, which it can
    write to, the small system and what is `readable` beside them; see
    `xmae.firmware_sim.emulators.confine`.

    The system is seen through links beside a `/proc/cpuinfo` of this run's own: without an Arm one,
    LiteRT and ONNX Runtime crash.
    """
    cpu = CPUS[core]
    root, triplet = root_path(cpu.root), ROOTS[cpu.root].triplet
    seen = folder / "root"
    (seen / "proc").mkdir(parents=True)
    for path in root.iterdir():
        (seen / path.name).symlink_to(path)
    (seen / "proc" / "cpuinfo").write_text(cpuinfo(cpu))
    plugin = compile_host([BOARDS / "count_user.c"], folder / "count.so", kernels=False)
    libraries = ":".join(
        str(root / path) for path in ("et", f"usr/lib/{triplet}/blas", f"usr/lib/{triplet}/lapack")
    )
    settings = {
        "PYTHONPATH": f"{root / 'site'}:{root / 'usr/lib/python3/dist-packages'}",
        "PYTHONHOME": root / "usr", "LD_LIBRARY_PATH": libraries, "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = [
        ROOTS[cpu.root].qemu, "-L", seen, "-cpu", cpu.qemu, "-plugin",
        f"{plugin},out={folder / 'counts'}",
        *chain.from_iterable(("-E", f"{key}={value}") for key, value in settings.items()), *program,
    ]  # fmt: skip
    command(
        confinement().command(words, folder, [root, *readable]),
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        timeout=timeout_s,
    )
    begun, counts = 0, []
    for line in (folder / "counts").read_text().splitlines():
        mark, executed = map(int, line.split())
        if mark == 1:
            begun = executed
        else:
            counts.append(executed - begun)
    return counts


def cpuinfo(cpu):
    """Return the `/proc/cpuinfo` of an Arm machine with one core."""
    lines = [
        "processor\t: 0", "BogoMIPS\t: 48.00", f"Features\t: {cpu.features}",
        "CPU implementer\t: 0x41", f"CPU architecture: {cpu.architecture}", "CPU variant\t: 0x0",
        f"CPU part\t: {cpu.part}", "CPU revision\t: 4",
    ]  # fmt: skip
    return "\n".join(lines) + "\n\n"


def real(codes, ends):
    """Convert int8 codes to scaled windows, float32 in [-1, 1]."""
    return np.clip(from_int8(codes, ends.input.scale, ends.input.zero_point), -1, 1)


def compared(bundle, entry, codes, ends, output, cpu):
    """Compare the embeddings of an emulated runtime with LiteRT's reference kernels, or those of
    another runtime with its own on this machine.
    """
    title = TITLES[entry.format]
    if entry.format == "litert":
        session, steps = litert.open_model(bundle.path / entry.file, reference=True), cpu.steps
        reference = "LiteRT's reference kernels"
    else:
        session, steps = bundle.session(entry), XNNPACK_STEPS
        reference = f"{title} on this machine"
    here = session(real(codes, ends))
    return {
        "windows": len(here),
        "equal": int((here == output).all(axis=1).sum()),
        "with": reference,
        "largest_step": round(float(np.abs(here - output).max()) / ends.output.scale, 3),
        "allowed_step": steps,
    }


def split(counts, results):
    """Return the instructions (front end; heads and frame) of each valid window; if none is valid,
    of each window.
    """
    counts = iter(counts)
    rows = [(result.valid, next(counts), next(counts) if result.valid else 0) for result in results]
    valid = any(row[0] for row in rows)
    return np.array([row[1:] for row in rows if row[0] == valid], np.int64).reshape(-1, 2)


def cost(outer, network, macs, device):
    """Return the cost as `counts`, `estimated` and `layers`; see `window_cost`.

    Parameters
    ----------
    outer : int array, shape (n, 2)
        Instructions of front end, and of heads and frame.
    network : list of int or None
        Instructions of each inference, if there was any.
    macs : int
        Multiply-accumulates of the network.
    device : Device
        With the cost of an instruction.
    """
    parts = {
        "front_end": outer[:, 0],
        "network": np.array(network or [0] * len(outer)),
        "heads_and_frame": outer[:, 1],
    }
    total = [int(count) for count in sum(parts.values())]
    rows = []
    for name, counts in parts.items():
        count, products = (
            float(np.median(counts)) if total else 0.0,
            macs if name == "network" else 0,
        )
        rows.append(
            layer_row(
                name, products, count, compute_cycles(Counter(alu=count), device), name == "network"
            )
        )
    typical = Counter(alu=float(np.median(total)) if total else 0.0)
    latency = milliseconds(compute_cycles(typical, device), device)
    return {
        "counts": {
            "instructions_a_window": round(typical["alu"]),
            "network_instructions": rows[1]["instructions"],
            "network_macs": macs,
            "instructions_per_mac": rows[1]["instructions_per_mac"] if network else None,
            **spread(total),
        },
        "estimated": estimates(latency, millijoules(latency, device.active_mw), NONE, 0, device),
        "layers": rows,
    }
