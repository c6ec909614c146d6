"""The command line: one verb, one function, the same arguments; help and types come from signature and docstring."""

import json
import os
import sys
from argparse import ArgumentError
from contextlib import redirect_stdout
from importlib import import_module
from inspect import signature
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import get_args, get_origin

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from tqdm import tqdm

from xmae import __version__
from xmae.errors import UserError
from xmae.files import atomic_file, write_json

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine, threads that spin starve the rest

VERBS = {  # verb, of one or two words: (module that is imported when it is called, what it does)
    "prepare": ("xmae.data.prepare", "recordings -> store of windows"),
    "data report": ("xmae.data.report", "store -> what was kept, dropped and mended, with pictures"),
    "data verify": ("xmae.data.verify", "store -> is it whole? exit code 1 if not"),
    "data relabel": ("xmae.data.relabel", "store + table -> labels added, signals left as they are"),
    "pretrain": ("xmae.training.pretrain", "store -> PPG encoder"),
    "probe": ("xmae.evaluation.probe", "encoder + store -> what a linear probe reads off the frozen embedding"),
    "fuse": ("xmae.evaluation.fusion", "encoders of PPG, ECG, respiration + store -> what they know together"),
    "tasks": ("xmae.evaluation.template", "store -> empty label table for tasks, to be filled in"),
    "evaluate": ("xmae.evaluation.evaluate", "encoders + data -> many tasks, folds by subject, tests, one table"),
    "compare": ("xmae.training.compare", "store -> all methods pretrained on the same windows, and one table"),
    "curve": ("xmae.evaluation.curve", "encoders + store -> probes against labels and pretraining subjects"),
    "hrv": ("xmae.evaluation.hrv", "encoders + store -> heart-rate variability from the PPG, against the ECG"),
    "timing": ("xmae.evaluation.timing", "encoders + store -> delay from ECG to PPG, from the PPG alone"),
    "transfer": ("xmae.evaluation.transfer", "encoders + data -> probes fitted on one dataset, tested on another"),
    "dreamer": ("xmae.evaluation.dreamer", "DREAMER.mat + EEG and ECG encoders -> emotion recognition"),
    "distill": ("xmae.distill.distill", "encoder + store -> student for a watch or a phone"),
    "quantize": ("xmae.export.quantize", "encoder + store -> int8 files, each layer against fp32, mixed precision"),
    "qat": ("xmae.quantize.qat", "conv-only student + store -> the same student, trained to bear int8"),
    "export": ("xmae.export.build", "teacher + students + store -> bundle of .pte, .tflite and .onnx files"),
    "bundle inspect": ("xmae.export.inspect", "bundle -> what is in it, who signed it, what it was made with"),
    "bundle verify": ("xmae.export.verify", "bundle -> is it what was written, and does it run? exit code 1 if not"),
    "bench": ("xmae.benchmarks.bench", "bundle -> cost and accuracy in each runtime and on emulated devices"),
    "validate": ("xmae.benchmarks.drift", "bundle + store -> drift gate; exit code 1 beyond the limits"),
    "simulate": ("xmae.benchmarks.simulate", "bundle + recording -> results, counts and cost on an emulated watch"),
    "embed": ("xmae.cli.embed", "recording -> embeddings and what the heads say"),
    "demo": ("xmae.cli.demo", "all of it on the shipped recordings, with a report"),
}


def main(arguments=None):
    """Run one verb; returns the exit code: 0 done, 1 a gate was not passed, 2 a mistake in what was asked for."""
    text, code = run(sys.argv[1:] if arguments is None else list(arguments))
    try:
        if text:
            print(text, flush=True)
    except BrokenPipeError:  # `xmae --help | head`: nobody reads on, and the interpreter will flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def run(arguments):
    """What is to be printed on standard output, and the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return overview(), 0
    if arguments[0] == "--version":
        return __version__, 0
    n_words = 2 if " ".join(arguments[:2]) in VERBS else 1
    verb, rest = " ".join(arguments[:n_words]), arguments[n_words:]
    if verb not in VERBS:
        known = [name for name in VERBS if name.startswith(f"{verb} ")] or VERBS
        return fail(f"unknown verb '{verb}'; expected one of {', '.join(known)}")
    try:
        with redirect_stdout(sys.stderr):  # libraries chatter; standard output is for results
            function = function_of(verb)
            parser = verb_parser(verb, function)
        if {"-h", "--help"} & set(rest):
            return parser.format_help(), 0
        settings = vars(parser.parse_args(plain_options(rest, function)))
        as_json, _ = settings.pop("json"), settings.pop("config")
        with redirect_stdout(sys.stderr):
            result = function(**settings)
        if not is_first_process():
            return "", 0
        keep_record(parser, settings, result)
    except (UserError, ArgumentError) as error:
        return fail(str(error))
    except ImportError as error:
        return fail(f"{verb} needs the package {error.name}, which is not installed; try pip install 'xmae[edge]'")
    except KeyboardInterrupt:
        return fail("interrupted")
    except OSError as error:
        return fail(f"{error.filename or verb}: {error.strerror or error}")
    return json.dumps(result, indent=2) if as_json else result["out"], 0 if result.get("passed", True) else 1


def function_of(verb):
    """The function of a verb, named like its last word: "data verify" -> `xmae.data.verify.verify`."""
    return getattr(import_module(VERBS[verb][0]), verb.split()[-1])


def verb_parser(verb, function):
    """Parser of one verb, made from the signature and docstring of its function."""
    first = next(iter(signature(function).parameters.values()), None)
    usage = f"xmae {verb} {first.name.upper() if first and first.default is first.empty else ''} [--option VALUE ...]"
    parser = ArgumentParser(prog=f"xmae {verb}", usage=usage, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with settings; the line overrides it")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON on standard output")
    parser.add_function_arguments(function)
    return parser


def plain_options(arguments, function):
    """The arguments as jsonargparse wants them.

    Leading words are the function's first parameter, dashes in names are underscores, a flag alone means true, a list
    takes all words up to the next option, and a settings file goes first, so that the line overrides it:
    ``a.npz b.npz --record-reference --config c.yaml`` -> ``--config c.yaml --inputs=["a.npz", "b.npz"]
    --record_reference=true``.
    """
    parameters = signature(function).parameters
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    options = arguments[len(words) :]
    if words:
        first = next(iter(parameters.values()))
        several = takes_list(first)
        if len(words) > 1 and not several:
            raise UserError(f"one {first.name} expected, got {len(words)}: {' '.join(words)}")
        options.insert(0, f"--{first.name}={json.dumps(words) if several else words[0]}")
    plain, options = [], with_lists(options, parameters)
    for option, following in zip_longest(options, options[1:], fillvalue=""):
        name, equals, value = option.partition("=")
        if option.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
            parameter = parameters.get(name[2:])
            if parameter and parameter.annotation is bool and not equals and following not in ("true", "false"):
                equals, value = "=", "true"
        plain.append(name + equals + value)

    def of_the_line(i):
        return not plain[i].startswith("--config=") and "--config" not in plain[max(0, i - 1) : i + 1]

    return [plain[i] for i in sorted(range(len(plain)), key=of_the_line)]


def with_lists(options, parameters):
    """``--student a b`` as ``--student=["a", "b"]``, where a parameter is a list."""
    joined, rest = [], list(options)
    while rest:
        option = rest.pop(0)
        if option.startswith("--") and takes_list(parameters.get(option[2:].replace("-", "_"))):
            words = list(takewhile(lambda word: not word.startswith(("-", "[")), rest))  # not where it is JSON already
            option, rest = f"{option}={json.dumps(words)}" if words else option, rest[len(words) :]
        joined.append(option)
    return joined


def takes_list(parameter):
    """Whether a parameter is a list, or may be one; not if it is None."""
    return parameter and list in map(get_origin, (parameter.annotation, *get_args(parameter.annotation)))


def is_first_process():
    """False in the other processes of a training that shares its batches."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def keep_record(parser, settings, result):
    """Write config.yaml (the settings as resolved, for --config) and metrics.json (the result) into the run folder."""
    out = settings.get("out")
    if not out or not Path(out).is_dir():
        return  # a verb that wrote a single file, to a remote place, or nothing
    folder = Path(out)
    with atomic_file(folder / "config.yaml") as temporary:
        temporary.write_text(parser.dump(Namespace(settings), skip_unset=False))
    write_json(folder / "metrics.json", result)


def overview():
    """What `xmae --help` prints."""
    lines = [
        f"xmae {__version__}: from ECG + PPG recordings to a PPG encoder on a watch",
        "",
        "usage: xmae VERB --help",
        "",
    ]
    width = max(map(len, VERBS)) + 2
    return "\n".join([*lines, *(f"  {verb:{width}}{text}" for verb, (_, text) in VERBS.items())])


def fail(message):
    """One line on standard error, below progress bars that were cut short; nothing for standard output, and code 2."""
    for bar in list(tqdm._instances):
        bar.close()
    print(f"xmae: {' '.join(message.split())}", file=sys.stderr)
    return "", 2
