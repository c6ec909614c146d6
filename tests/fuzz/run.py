"""Run the harnesses under libFuzzer for a given processor time, and measure what they reach."""

import json
import os
import re
import resource
import subprocess
from dataclasses import dataclass

from .build import CORPUS, SANITIZERS, build

SLICE_S = 60  # of a run, so that processor time can be looked at in between
TIMEOUT_S = 600  # of an input, by the clock: a run may be stopped and continued
FUZZER = ("-O2", f"{SANITIZERS},fuzzer", "-fno-sanitize-recover=all")
COVERAGE = ("-fprofile-instr-generate", "-fcoverage-mapping")


@dataclass(frozen=True)
class Outcome:
    """What came of fuzzing a harness.

    Parameters
    ----------
    name : str
        Of the harness.
    cpu_s : float
        Processor time, s.
    executions : int
    inputs : int
        That the fuzzer kept, each for something new.
    lines, branches : float
        Share of the covered files that these inputs reach, %.
    findings : int
        Inputs that ended the program: a sanitizer's report, a check of the harness, a hang.
    """

    name: str
    cpu_s: float
    executions: int
    inputs: int
    lines: float
    branches: float
    findings: int


def fuzz(harness, folder, cpu_s):
    """Fuzz a harness from its committed inputs, and from what earlier runs left in the folder.

    Parameters
    ----------
    harness : Harness
    folder : Path
        For the program, `inputs` that were kept, `findings`, and `tally.json` of all its runs.
    cpu_s : float
        Processor time of this run, s.

    Returns
    -------
    Outcome
        Of all runs in the folder.
    """
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    (folder / "findings").mkdir(exist_ok=True)
    program = build(harness, folder, "clang", FUZZER, replay=False)
    used, executions = 0.0, 0
    while used < cpu_s:
        seconds = min(SLICE_S, int(cpu_s - used) + 1)
        words = [program, f"-max_total_time={seconds}", f"-max_len={harness.longest}"]
        words += [f"-timeout={TIMEOUT_S}", f"-report_slow_units={TIMEOUT_S}"]
        words += ["-print_final_stats=1"]
        words += [f"-artifact_prefix={folder / 'findings'}{os.sep}"]
        words += [folder / "inputs", *committed(harness)]
        before = children_s()
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        used += children_s() - before
        executions += int(re.search(r"executed_units: (\d+)", done.stderr).group(1))
        if done.returncode:
            break
    used, executions = add_to_tally(folder / "tally.json", used, executions)
    found = len(list((folder / "findings").iterdir()))
    lines, branches = coverage(harness, folder)
    kept = len(list((folder / "inputs").iterdir()))
    return Outcome(harness.name, used, executions, kept, lines, branches, found)


def add_to_tally(path, cpu_s, executions):
    """Add a run's processor time (s) and executions to a folder's; return both sums."""
    before = json.loads(path.read_text()) if path.exists() else {"cpu_s": 0, "executions": 0}
    sums = {"cpu_s": before["cpu_s"] + cpu_s, "executions": before["executions"] + executions}
    path.write_text(json.dumps(sums))
    return sums["cpu_s"], sums["executions"]


def children_s():
    """Return the processor time of programs that have ended, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def committed(harness):
    """Return the folder of committed inputs, if there is one, in a list."""
    folder = CORPUS / harness.name
    return [folder] if folder.is_dir() else []


def coverage(harness, folder):
    """Return the shares of lines and branches that a harness's inputs reach, %."""
    place = folder / "coverage"
    place.mkdir(exist_ok=True)
    program = build(harness, place, "clang", COVERAGE)
    seen = sorted(path for path in (folder / "inputs").iterdir())
    raw, merged = place / "raw", place / "merged"
    environment = os.environ | {"LLVM_PROFILE_FILE": str(raw)}
    subprocess.run([program, *seen], check=True, capture_output=True, env=environment)
    subprocess.run(["llvm-profdata", "merge", "-sparse", raw, "-o", merged], check=True)
    files = [str(path) for path in (*harness.covered, *harness.included)]
    # the kernels of other layers are not this harness's
    files = [path for path in files if "xmae_kernels" not in path]
    words = ["llvm-cov", "export", "-summary-only", program, f"-instr-profile={merged}", *files]
    told = subprocess.run([str(word) for word in words], check=True, capture_output=True)
    totals = json.loads(told.stdout)["data"][0]["totals"]
    return totals["lines"]["percent"], totals["branches"]["percent"]


def keep_small(harness, folder):
    """Replace the committed inputs by the fewest that reach as much as all that were found."""
    target = CORPUS / harness.name
    small = folder / "small"
    small.mkdir(exist_ok=True)
    words = [folder / harness.name, "-set_cover_merge=1", f"-max_len={harness.longest}", small]
    words += [folder / "inputs", *committed(harness)]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    target.mkdir(parents=True, exist_ok=True)
    kept = {path.name[:12]: path.read_bytes() for path in small.iterdir()}
    for path in target.iterdir():
        if not path.name.startswith("finding-"):
            path.unlink()
    for name, data in kept.items():
        (target / name).write_bytes(data)
