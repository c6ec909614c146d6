"""The command line: one verb, one function, the same arguments; help and types come from signature
and docstring.
"""

import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path

import yaml

from xmae.cli.options import help_of, read_settings
from xmae.cli.sources import NotWritten, function_in
from xmae.cli.verdict import verdict
from xmae.errors import UserError, did_you_mean
from xmae.extras import needs
from xmae.files import atomic_file, write_json
from xmae.launch import rank
from xmae.ownership import check_output, owned
from xmae.text import printable
from xmae.version import __version__

# on a busy machine, threads that spin starve the rest
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

VERBS = {  # verb, of one or two words: (module that is imported when it is called, what it does)
    "prepare": ("xmae.data.prepare.prepare", "recordings -> store of windows"),
    "data report": (
        "xmae.data.store.overview",
        "store -> what was kept, dropped and mended, with pictures",
    ),
    "data verify": ("xmae.data.store.integrity", "store -> is it whole? exit code 1 if not"),
    "data relabel": (
        "xmae.data.store.relabel",
        "store + table -> labels added, signals left as they are",
    ),
    "data clocks": (
        "xmae.data.clocks",
        "recordings -> are ECG and PPG in step? offset and drift of their clocks, with pictures",
    ),
    "twin": (
        "xmae.twin.people",
        "generated people -> recordings with exact beats, for training and tests",
    ),
    "data example": (
        "xmae.data.example",
        "one minute of a shipped recording as CSV, to try things on",
    ),
    "pretrain": ("xmae.training.pretrain", "store -> PPG encoder"),
    "probe": (
        "xmae.evaluation.probe",
        "encoder + store -> what a linear probe reads off the frozen embedding",
    ),
    "fuse": (
        "xmae.evaluation.fusion.fuse",
        "encoders of PPG, ECG, respiration + store -> what they know together",
    ),
    "tasks": (
        "xmae.evaluation.protocol.template",
        "store -> empty label table for tasks, to be filled in",
    ),
    "evaluate": (
        "xmae.evaluation.evaluate",
        "encoders + data -> many tasks, folds by subject, tests, one table",
    ),
    "compare": (
        "xmae.evaluation.compare",
        "store -> all methods pretrained on the same windows, and one table",
    ),
    "compare teachers": (
        "xmae.cli.teachers",
        "encoders + store -> a student of each, same budget and gates: which is better on a watch?",
    ),
    "curve": (
        "xmae.evaluation.findings.curve",
        "encoders + store -> probes against labels and pretraining subjects",
    ),
    "hrv": (
        "xmae.evaluation.findings.hrv",
        "encoders + store -> heart-rate variability from the PPG, against the ECG",
    ),
    "timing": (
        "xmae.evaluation.findings.pulse_delay",
        "encoders + store -> delay from ECG to PPG, from the PPG alone",
    ),
    "transfer": (
        "xmae.evaluation.findings.transfer",
        "encoders + data -> probes fitted on one dataset, tested on another",
    ),
    "dreamer": (
        "xmae.evaluation.fusion.dreamer",
        "DREAMER.mat + EEG and ECG encoders -> emotion recognition",
    ),
    "finetune": (
        "xmae.cli.finetune",
        "encoder + store -> the same encoder, trained further on labels or on more windows",
    ),
    "distill": ("xmae.distill.distill", "encoder + store -> student for a watch or a phone"),
    "adopt": (
        "xmae.cli.adopt",
        "encoder of others (+ store) -> teacher for every verb, its student as a gated bundle",
    ),
    "quantize": (
        "xmae.export.int8",
        "encoder + store -> int8 files, each layer against fp32, mixed precision",
    ),
    "qat": (
        "xmae.quantize.qat",
        "conv-only student + store -> the same student, trained to bear int8",
    ),
    "export": (
        "xmae.export.export",
        "teacher + students + store -> bundle of .pte, .tflite and .onnx files",
    ),
    "publish": (
        "xmae.cli.publish",
        "encoder -> folder in the layout of model hubs; online if asked",
    ),
    "bundle inspect": (
        "xmae.export.bundle.inspect",
        "bundle -> what is in it, who signed it, what it was made with",
    ),
    "bundle verify": (
        "xmae.export.bundle.verify",
        "bundle -> is it what was written, and does it run? exit code 1 if not",
    ),
    "bench": (
        "xmae.benchmarks.bench",
        "bundle -> cost and accuracy in each runtime and on emulated devices",
    ),
    "validate": (
        "xmae.benchmarks.validate",
        "bundle + store -> drift gate; exit code 1 beyond the limits",
    ),
    "simulate": (
        "xmae.benchmarks.simulate",
        "bundle + recording -> results, counts and cost on an emulated watch",
    ),
    "torture": (
        "xmae.benchmarks.torture",
        "any program that reads heart rate -> traps with exact truth, scoreboard",
    ),
    "embed": ("xmae.cli.embed", "recording -> embeddings and what the heads say"),
    "demo": ("xmae.cli.demo", "all of it on the shipped recordings, with a report"),
}
INTO_A_FILE = ("data example", "data verify")  # whose --out is one file; of all others, a folder
NO_OUT = "data verify"  # whose --out may be empty


def main(arguments=None):
    """Run one verb; return the exit code: 0 = done, 1 = a gate was not passed, 2 = a mistake in the
    request.
    """
    text, code = run(sys.argv[1:] if arguments is None else list(arguments))
    try:
        if text:
            print(printable(text), flush=True)
    # `xmae --help | head`: nobody reads on, and the interpreter will flush again
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def run(arguments):
    """Run a command line; return the text for standard output, and the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return overview(), 0
    if arguments[0] == "--version":
        return __version__, 0
    n_words = 2 if " ".join(arguments[:2]) in VERBS else 1
    verb, rest = " ".join(arguments[:n_words]), arguments[n_words:]
    if verb not in VERBS:
        return fail(unknown_verb(verb))
    try:
        return carry_out(verb, rest)
    except UserError as error:
        return fail(str(error))
    except ImportError as error:
        if (error.name or "xmae").partition(".")[0] == "xmae":  # a fault of ours
            raise
        return fail(needs(verb, error))
    except KeyboardInterrupt:
        return fail("interrupted")
    except OSError as error:
        return fail(f"{error.filename or verb}: {error.strerror or error}")


def carry_out(verb, words):
    """Run a verb with the words after it; return the text for standard output, and the exit
    code.
    """
    with redirect_stdout(sys.stderr):  # libraries chatter; standard output is for results
        if {"-h", "--help"} & set(words):
            return help_of(verb, described(verb)), 0
        function = function_of(verb)
    settings, as_json = read_settings(verb, function, words)
    with redirect_stdout(sys.stderr), taken_output(verb, settings):
        result = function(**settings)
        if rank() != 0:
            return "", 0
        keep_record(settings, result)
    for line in verdict(verb, result):
        print(printable(line), file=sys.stderr)
    text = json.dumps(result, indent=2) if as_json else result["out"]
    return text, int(not result.get("passed", True))


def unknown_verb(verb):
    """Return the message that there is no such verb, with the one that may be meant."""
    known = [name for name in VERBS if name.startswith(f"{verb} ")] or VERBS
    hint = did_you_mean(verb, VERBS) or f"; expected one of {', '.join(known)}"
    return f"unknown verb '{verb}'{hint}"


def function_of(verb):
    """Return the function of a verb, named like its last word: "data verify" ->
    `xmae.data.store.integrity.verify`.
    """
    return getattr(import_module(VERBS[verb][0]), verb.split()[-1])


def described(verb):
    """Return the docstring and signature of a verb's function for help: a stand-in for it."""
    try:
        return function_in(VERBS[verb][0], verb.split()[-1])
    except NotWritten:
        return function_of(verb)


def taken_output(verb, settings):
    """Check the output path and lock it until the verb is done; nothing is locked where the result
    is not on this machine.
    """
    out, a_file = settings.get("out"), verb in INTO_A_FILE
    lists = settings.get("list_devices")
    nothing = out is None or "://" in out or lists or (verb == NO_OUT and not out)
    if nothing or rank() != 0:
        return nullcontext()
    check_output(out, a_file)
    return owned(out, out)


def keep_record(settings, result):
    """Write config.yaml (the resolved settings, for --config) and metrics.json (the result) into
    the run folder.
    """
    out = settings.get("out")
    if not out or not Path(out).is_dir():
        return  # a verb that wrote a single file, to a remote place, or nothing
    folder = Path(out)
    with atomic_file(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    write_json(folder / "metrics.json", result)


def overview():
    """Return the text of `xmae --help`."""
    lines = [
        f"xmae {__version__}: from ECG + PPG recordings to a PPG encoder on a watch",
        "",
        "usage: xmae VERB --help",
        "",
    ]
    width = max(map(len, VERBS)) + 2
    return "\n".join([*lines, *(f"  {verb:{width}}{text}" for verb, (_, text) in VERBS.items())])


def fail(message):
    """Print a message as one line on standard error, after closing progress bars; return no text
    and code 2.
    """
    if "tqdm" in sys.modules:  # else there was no bar, and help need not wait for it
        for bar in list(sys.modules["tqdm"].tqdm._instances):
            bar.close()
    print(f"xmae: {printable(' '.join(message.split()))}", file=sys.stderr)
    return "", 2
