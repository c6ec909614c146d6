"""Every command that a committed page names is one that today's code takes: the verb or module is
there, and so are its options, and no word is missing or too many.
"""

import re
import shlex
import sys
from pathlib import Path
from runpy import run_module

import pytest

from xmae.benchmarks.studies import runner
from xmae.cli import VERBS, described
from xmae.cli.names import choices_of
from xmae.cli.options import read_settings
from xmae.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/results/*.md")
    for path in ROOT.glob(pattern)
)
MODULES = [
    f"xmae.benchmarks.{path.parent.name}.{path.stem}"
    for folder in ("studies", "release")
    for path in sorted((ROOT / "benchmarks" / folder).glob("*.py"))
    if "\nif __name__ ==" in path.read_text()
]
COMMAND = r"(?:xmae|python -m xmae[.\w]*) "
# settings that take nothing but their choices: a model may be a file, a task a user's own
CLOSED = {"method", "methods", "recipe", "tier", "fusion", "targets", "precisions", "emulator"}
# what a sentence about an option or a verb leaves out
UNSAID = re.compile(r"must be given; see|expected, got none$")


def commands_of(text):
    """Return the command lines in a page, and the commands named inside its sentences.

    >>> commands_of("    xmae demo \\\\\n        --out x  # a try\n\nThen `xmae twin --people 3`.")
    ([['xmae', 'demo', '--out', 'x']], [['xmae', 'twin', '--people', '3']])
    """
    lines = re.findall(rf"^ *((?:{COMMAND}).*)$", text.replace("\\\n", " "), re.MULTILINE)
    inside = re.findall(rf"`({COMMAND}[^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [[shlex.split(command, comments=True) for command in found] for found in (lines, inside)]


def all_commands():
    """Return (page, words, whether they are a whole line) of every command on a committed page."""
    found = []
    for page in PAGES:
        lines, inside = commands_of(page.read_text())
        found += [(page.name, words, True) for words in lines if "--help" not in words]
        found += [(page.name, words, False) for words in inside if "--help" not in words]
    return found


def read(words):
    """Read a command line of `xmae` as far as running it; return verb and settings."""
    verb = " ".join(words[1:3]) if " ".join(words[1:3]) in VERBS else words[1]
    assert verb in VERBS
    return verb, read_settings(verb, described(verb), words[1 + len(verb.split()) :])[0]


def run_line(words, monkeypatch):
    """Run a module as `python -m` does, with the words after its name."""
    monkeypatch.setattr(sys, "argv", list(words))
    monkeypatch.delitem(sys.modules, words[0], raising=False)
    run_module(words[0], run_name="__main__")


ALL = all_commands()
VERB_LINES = [(page, words) for page, words, whole in ALL if words[0] == "xmae" and whole]
MENTIONS = [(page, words) for page, words, whole in ALL if words[0] == "xmae" and not whole]
STUDIES = sorted({tuple(words[2:]) for _, words, _ in ALL if words[0] == "python"})


def test_pages_are_found():
    assert len(VERB_LINES) > 100 and len(MENTIONS) > 50 and len(STUDIES) > 25


@pytest.mark.parametrize(("page", "words"), VERB_LINES, ids=lambda x: " ".join(x)[:60])
def test_a_command_line_is_read_by_its_verb(page, words):
    verb, settings = read(words)
    for name in set(settings) & CLOSED:
        said = [word.split("=")[0] for word in words]
        known, value = {*choices_of(verb, name), "all"}, settings[name]
        assert value is None or set(value.split(",")) <= known or f"--{name}" not in said, name


def test_a_command_in_a_sentence_names_what_is_there():
    wrong, groups = [], {verb.split()[0] for verb in VERBS if " " in verb}
    for page, words in MENTIONS:
        if words[1] in groups and len(words) == 2:
            continue
        try:
            read(words)
        except UserError as error:
            wrong += [] if UNSAID.search(str(error)) else [f"{page}: {shlex.join(words)}: {error}"]
    assert wrong == []


@pytest.mark.parametrize("words", STUDIES, ids=lambda words: " ".join(words)[:60])
def test_a_study_or_tool_takes_its_words(words, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_script", lambda main, *given, **settings: "not run")
    run_line(words, monkeypatch)
    assert capsys.readouterr().out == "not run\n"


@pytest.mark.parametrize("module", MODULES)
def test_every_study_and_tool_says_what_it_takes(module, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run_line([module, "--help"], monkeypatch)
    usage, what, *_ = capsys.readouterr().out.split("\n\n")
    assert ended.value.code == 0 and usage.startswith("usage:")
    assert not what.startswith(("positional arguments", "options"))  # a sentence comes first
