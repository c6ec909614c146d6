"""Names on the line: choices in the help, comma-separated lists, and old names that still work."""

import subprocess
import sys
from importlib import import_module
from inspect import signature
from itertools import chain

import pytest

from xmae.cli import VERBS, described, function_of, main
from xmae.cli.names import CHOICES, RENAMED, choices_of, present_name, written
from xmae.cli.options import from_words, read_settings
from xmae.cli.sources import NotWritten


@pytest.mark.parametrize("place", CHOICES)
def test_choices_are_there(place):
    verb, _, setting = place.rpartition(" ")
    found = choices_of(verb, setting)
    assert len(found) > 1 and all(isinstance(name, str) for name in found)


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("pretrain", ["papagei-p", "criss-cross", "small-data", "scatter"]),
        ("export", ["vela-u85", "cortex-m", "executorch", "int16x8"]),
        ("simulate", ["ensemble-m55", "snapdragon-a7", "unicorn"]),
        ("bench", ["stm32l4r5"]),
        ("embed", ["student-mcu-s", "litert"]),
        ("quantize", ["percentile", "onnx"]),
    ],
)
def test_help_names_the_choices(verb, names, capsys):
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert [name for name in names if name not in said] == []


def test_every_setting_with_choices_is_one_of_a_verb():
    settings = {verb: set(signature(function_of(verb)).parameters) for verb in VERBS}
    everywhere = set().union(*settings.values())
    for place in CHOICES:
        verb, _, setting = place.rpartition(" ")
        assert setting in (settings[verb] if verb else everywhere), place


@pytest.mark.parametrize("verb", RENAMED)
def test_old_names_are_read_and_not_shown(verb, capsys, tmp_path):
    main([verb, "--help"])
    said, parameters = capsys.readouterr().out, signature(function_of(verb)).parameters
    for old, new in RENAMED[verb].items():
        assert present_name(verb, old) == new and new in parameters
        assert f"--{old.replace('_', '-')} " not in said
    needed = [name for name, p in parameters.items() if p.default is p.empty][1:]
    line = ["x", *chain.from_iterable((f"--{name}", "x") for name in needed)]
    old, new = next(iter(RENAMED[verb].items()))
    value = ["true"] if parameters[new].annotation is bool else ["x"]
    settings, _ = read_settings(verb, function_of(verb), [*line, f"--{old}", *value])
    assert settings[new] in (True, "x")
    config = tmp_path / "c.yaml"
    config.write_text(f"{old}: {value[0]}\n")
    settings, _ = read_settings(verb, function_of(verb), [*line, "--config", str(config)])
    assert settings[new] in (True, "x")


def test_lists_are_cut_at_commas_and_paths_are_not():
    assert from_words(["a,b", "c"], list[str], "--student", commas=True) == ["a", "b", "c"]
    assert from_words(["a,b.npz"], list[str], "--inputs") == ["a,b.npz"]


@pytest.mark.parametrize("verb", VERBS)
def test_source_says_what_the_function_is(verb):
    said, function = described(verb), function_of(verb)
    assert said.__doc__ == function.__doc__
    assert signature(said) == signature(function)


@pytest.mark.parametrize("place", CHOICES.values())
def test_source_says_what_the_choices_are(place):
    module, _, name = place.partition(":")
    try:
        said = written(place)
    except NotWritten:
        return  # they are imported
    found = getattr(import_module(module), name)
    assert sorted(said) == sorted(found() if callable(found) else found)


def test_help_waits_for_no_library():
    script = (
        "import sys\nfrom xmae.cli import VERBS, main\n"
        "assert all(main([*verb.split(), '--help']) == 0 for verb in VERBS)\n"
        "print([m for m in ('torch', 'scipy', 'pandas', 'sklearn', 'lightning', 'filelock') if "
        "m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
