"""The one runner of the studies: it reads the command line, runs a study, times it, says below the
page's title how it was made, and writes the page.

A study is a function that returns the text of its page. Its signature and docstring are its command
line: what stands before `/` are words, what stands after `*` are options. One that draws pictures
takes `out`, the folder of the page.

    def latency(store: str, /, *, model: str = "beats-mcu") -> str: ...
    if __name__ == "__main__":
        run_study(latency, "latency.md")

A tool of the release has the same command line, by `run_tool`, and writes no page.
"""

import argparse
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from inspect import Parameter, signature
from pathlib import Path

import docstring_parser

from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.stopwatch import load
from xmae.cli import fail
from xmae.cli.options import kinds_of, option
from xmae.errors import UserError
from xmae.files import atomic_file

RESULTS = "benchmarks/results"
ROOT = Path(__file__).parents[2]


def run_script(main, *arguments, **settings):
    """Return the result of `main`; a `UserError` ends the process with its message as one line, and
    code 2.
    """
    try:
        return main(*arguments, **settings)
    except UserError as error:
        sys.exit(fail(str(error))[1])


def run_study(study, page, arguments=None):
    """Run a study as the command line asks, write its page, and print the path.

    Parameters
    ----------
    study : callable
        Gives the page as Markdown, its title first.
    page : str
        Name of the file.
    arguments : list of str, optional
        Words of the line; default: those of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    settings = vars(parser_of(study, page).parse_args(with_out(words)))
    target = page_path(settings.pop("out"), page)
    print(run_script(write_page, study, settings, target, words))


def run_tool(tool, arguments=None):
    """Run a tool as the command line asks, and print its result.

    Parameters
    ----------
    tool : callable
        Its signature and docstring are its command line, as of a study.
    arguments : list of str, optional
        Words of the line; default: those of this process.
    """
    settings = vars(parser_of(tool).parse_args(arguments))
    found = run_script(tool, *words_of(tool, settings), **settings)
    if found is not None:
        print(found)


def with_out(words):
    """Put `--out` before the last word of a command line if that names a page and belongs to no
    option.
    """
    of_option = len(words) > 1 and words[-2].startswith("--")
    if words and words[-1].endswith(".md") and not of_option:
        return [*words[:-1], "--out", words[-1]]
    return words


def page_path(out, page):
    """Return the file to write: `out` itself if it names a page, else the page in that folder."""
    return Path(out) if str(out).endswith(".md") else Path(out) / page


def parser_of(study, page=None):
    """Make the command-line parser of a study (which writes a page) or of a tool, from its
    signature and docstring.
    """
    parsed = docstring_parser.parse(study.__doc__)
    meanings = {found.arg_name: found.description for found in parsed.params}
    parser = argparse.ArgumentParser(description=(parsed.description or "").split("\n\n")[0])
    for name, parameter in signature(study).parameters.items():
        if name != "out" or page is None:
            add_setting(parser, parameter, meanings.get(name, ""))
    if page is not None:
        parser.add_argument("--out", default=RESULTS, help=f"folder for {page}, or another file")
    return parser


def add_setting(parser, parameter, meaning):
    """Add an option or a positional argument to a parser."""
    kinds, needed = kinds_of(parameter.annotation), parameter.default is Parameter.empty
    how = {"help": " ".join(meaning.split()).replace("%", "%%")}
    if not needed:
        how["default"] = parameter.default
    if bool in kinds:
        how["action"] = "store_true"
    else:
        how["type"] = next((kind for kind in (int, float) if kind in kinds), str)
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        how["nargs"] = nargs_of(list in kinds, needed)
        parser.add_argument(parameter.name, **how)
    else:
        how |= {"nargs": "+"} if list in kinds else {}
        parser.add_argument(option(parameter.name), required=needed, **how)


def nargs_of(several, needed):
    """Return argparse's `nargs` for a setting."""
    if several:
        return "+" if needed else "*"
    return None if needed else "?"


def words_of(study, settings):
    """Remove the positional arguments from the settings, and return them in order."""
    return [
        settings.pop(name)
        for name, parameter in signature(study).parameters.items()
        if parameter.kind is Parameter.POSITIONAL_ONLY
    ]


def write_page(study, settings, target, words):
    """Run a study and write its page into the file `target`; return the path."""
    given = words_of(study, settings)
    if "out" in signature(study).parameters:
        settings["out"] = str(target.parent)
    begun = Begun(time.monotonic(), time.process_time(), load())
    text = study(*given, **settings)
    module = sys.modules[study.__module__]
    name = module.__spec__.name if module.__spec__ else study.__module__
    command = shlex.join(["python", "-m", name, *words])
    with atomic_file(target) as temporary:
        temporary.write_text(stamped(text, command, begun))
    return str(target)


@dataclass(frozen=True)
class Begun:
    """The start of a study: wall-clock and processor time, s, and the load average of the
    machine.
    """

    clock: float
    processor: float
    load: float | None


def stamped(text, command, begun):
    """Add to a page, below its title, how it was made: command, date, commit, machine and time."""
    title, _, rest = text.partition("\n")
    machine, after = hardware(), load()
    minutes = (time.monotonic() - begun.clock) / 60
    processor = (time.process_time() - begun.processor) / 60
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    facts = (
        f"Made on {date.today()} at {commit()} in {minutes:.1f} min ({processor:.1f} of this "
        f"process's processor time) on {machine['cpu']}, {machine['cores']} cores, load "
        f"{begun.load} before and {after} after. Python {machine['python']}, {versions}."
    )
    return f"{title}\n\n    {command}\n\n{facts}\n{rest.rstrip()}\n"


def commit():
    """Return the commit of the source, and whether files differ from it."""
    say = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(say, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    name = done.stdout.strip()
    clean = name.removesuffix("-dirty")
    return f"commit {clean}" if clean == name else f"commit {clean} with changes"
