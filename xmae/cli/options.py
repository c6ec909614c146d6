"""The settings of a verb, made from the signature and docstring of its function: reading, refusing,
explaining them.

``a.npz b.npz --record-baseline --epochs 3 --config c.yaml`` -> ``{"inputs": ["a.npz", "b.npz"],
"record_baseline": True, "epochs": 3, ...}``: leading words are the first setting, a flag alone
means true, a list takes all words up to the next option, and the line overrides the settings file,
which overrides the defaults.
"""

import re
import shutil
import textwrap
from inspect import Parameter, signature
from itertools import chain
from types import NoneType, UnionType
from typing import get_args, get_origin

import docstring_parser

from xmae.cli.names import choices_of, present_name
from xmae.errors import UserError, did_you_mean
from xmae.files import read_yaml

KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "words",
    dict: "settings",
}
OWN = {  # options of every verb: (type, meaning)
    "config": (str | None, "YAML file with settings; the line overrides it."),
    "json": (bool, "Print the whole result as JSON on standard output."),
}


def read_settings(verb, function, arguments):
    """Read the arguments of `function` from a command line, and whether the result is printed as
    JSON.

    Raises
    ------
    UserError
        If an option is unknown (none may be shortened), has a value of another type, or is missing;
        or if the settings file cannot be read.
    """
    parameters = signature(function).parameters
    kinds = {name: p.annotation for name, p in parameters.items()} | {
        name: kind for name, (kind, _) in OWN.items()
    }
    first = next(iter(parameters))  # paths may have commas
    words = with_first(verb, parameters, *words_of(verb, arguments, kinds))
    line = {
        name: from_words(found, kinds[name], option(name), commas=name != first)
        for name, found in words.items()
    }
    path, as_json = line.pop("config", None), line.pop("json", False)
    settings = {name: p.default for name, p in parameters.items()}
    settings |= (read_config(path, verb, parameters) if path else {}) | line
    missing = [option(name) for name, value in settings.items() if value is Parameter.empty]
    if missing:
        raise UserError(f"{verb}: {' and '.join(missing)} must be given; see xmae {verb} --help")
    if not 0 <= settings.get("seed", 0) < 2**32:  # what all generators take
        raise UserError(f"--seed: {settings['seed']} is not from 0 to {2**32 - 1}")
    return settings, as_json


def with_first(verb, parameters, leading, words):
    """Add the words without an option to {setting: its words}, as the words of the first setting.

    Raises
    ------
    UserError
        If there are too many of them, with the options that are missing; or if the first setting
        is given by its option too.
    """
    first = next(iter(parameters))
    if not leading:
        return words
    if first in words:
        twice = " ".join([*leading, option(first), *words[first]])
        raise UserError(f"{verb}: {option(first)} is given twice: {twice}")
    line = {first: leading} | words
    needed = [name for name, p in parameters.items() if p.default is Parameter.empty]
    missing = [name for name in needed if name not in line]
    several = len(leading) > 1 and list not in kinds_of(parameters[first].annotation)
    if not several or not missing or "config" in words:
        return line
    given = [option(name) for name in missing]
    example = [leading[0], *(f"{option(name)} {name.upper()}" for name in missing)]
    raise UserError(
        f"{option(first)}: one value expected, got {len(leading)}: {' '.join(leading)};"
        f" {' and '.join(given)} must be given too, as in xmae {verb} {' '.join(example)}"
    )


def words_of(verb, arguments, kinds):
    """Split a command line into words without an option and {setting: its words}; a dict, as in
    ``--options.rate=3``, is {setting: {key: ...}}.
    """
    words = {}
    into = leading = []
    first, single = next(iter(kinds), None), False
    several = list in kinds_of(kinds[first])
    for word in arguments:
        if word[:1] != "-" or re.match(r"-[\d.]*$", word):  # a value; it may be below zero
            # an option of one value has had it: the word is one of the first setting again
            into = leading if into and single and (several or not leading) else into
            into.append(word)
            continue
        said, equals, value = word.partition("=")
        name, _, key = said[2:].replace("-", "_").partition(".")
        name = present_name(verb, name)
        if name not in kinds or bool(key) != (dict in kinds_of(kinds[name])):
            known = [
                f"{option(name)}.NAME" if dict in kinds_of(kind) else option(name)
                for name, kind in kinds.items()
            ]
            raise UserError(
                f"{verb} has no option "
                f"{said}{did_you_mean(said, known) or f'; see xmae {verb} --help'}"
            )
        into = [value] if equals else []
        takes = set(kinds_of(kinds[name]))
        single = not takes & {list, dict}
        words[name] = words.get(name, {}) | {key: into} if key else into
    return leading, words


def read_config(path, verb, parameters):
    """Read the settings of a YAML file; names may have dashes or underscores."""
    values = read_yaml(path, "settings")
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected settings, a line each, such as seed: 77")
    values = {
        present_name(verb, str(key).replace("-", "_")): value for key, value in values.items()
    }
    for key in values:
        if key not in parameters:
            raise UserError(f"{path}: {verb} has no setting '{key}'{did_you_mean(key, parameters)}")
    return {
        key: as_kind(value, parameters[key].annotation, f"{path}: {key}")
        for key, value in values.items()
    }


def from_words(words, annotation, name, commas=False):
    """Convert the words of a setting to its value; with `commas`, the words of a list are split at
    commas.
    """
    kinds = kinds_of(annotation)
    if isinstance(words, dict):
        return {
            key: number_or_text(from_words(found, str, f"{name}.{key}"))
            for key, found in words.items()
        }
    if list in kinds and words:
        return list(chain.from_iterable(word.split(",") if commas else [word] for word in words))
    if bool in kinds and not words:
        return True
    if len(words) != 1:
        raise UserError(
            f"{name}: one value expected, got "
            + (f"{len(words)}: {' '.join(words)}" if words else "none")
        )
    return None if words == ["null"] and NoneType in kinds else as_kind(words[0], annotation, name)


def as_kind(value, annotation, name):
    """Convert words, or a value of YAML, to the annotated type; raises a `UserError` that calls the
    value `name`.
    """
    kinds = kinds_of(annotation)
    if value is None and NoneType in kinds:
        return None
    if dict in kinds and isinstance(value, dict):
        return {str(key): number_or_text(x) for key, x in value.items()}
    if list in kinds and isinstance(value, list | str):
        return [str(x) for x in (value if isinstance(value, list) else [value])]
    for kind in (kind for kind in kinds if kind in (bool, int, float, str)):
        try:
            return as_scalar(value, kind)
        except ValueError:
            continue
    wanted = " or ".join(KINDS[kind] for kind in kinds if kind is not NoneType)
    raise UserError(f"{name}: {value!r} is not {wanted}")


def as_scalar(value, kind):
    """Convert a word, or a value of YAML, to bool, int, float or str; raises a `ValueError` if it
    cannot.
    """
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is bool or not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError
    if kind is int and isinstance(value, float):
        raise ValueError
    return kind(value)


def number_or_text(value):
    """Convert a word to a number, if it is one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def kinds_of(annotation):
    """Return the types that a value may have.

    ``float | None`` -> [float, NoneType], ``list[str]`` -> [list].
    """
    several = get_args(annotation) if isinstance(annotation, UnionType) else [annotation]
    return [get_origin(kind) or kind for kind in several]


def option(name):
    """Return a setting's name as an option: "min_quality" -> "--min-quality"."""
    return f"--{name.replace('_', '-')}"


def help_of(verb, function):
    """Return the text of `xmae VERB --help`: usage, description, and options."""
    parsed, parameters = docstring_parser.parse(function.__doc__), signature(function).parameters
    required = [name for name, p in parameters.items() if p.default is Parameter.empty]
    needed = [f"{option(name)} {name.upper()}" for name in required[1:]]
    usage = " ".join([verb, *map(str.upper, required[:1]), *needed])
    width = min(shutil.get_terminal_size().columns, 120)
    paragraphs = (parsed.description or "").split("\n\n")
    lines = [f"usage: xmae {usage} [--option VALUE ...]"]
    lines += ["\n" + textwrap.fill(" ".join(text.split()), width) for text in paragraphs if text]
    lines.append("")
    for name, (kind, meaning) in OWN.items():
        default = False if kind is bool else None
        lines.append(entry_of(name, meaning, kind, default, (), width))
    meanings = {found.arg_name: found.description for found in parsed.params}
    for name, parameter in parameters.items():
        choices = choices_of(verb, name)
        lines.append(
            entry_of(name, meanings[name], parameter.annotation, parameter.default, choices, width)
        )
    return "\n".join(lines)


def entry_of(name, meaning, annotation, default, choices, width):
    """Return the help on one option: its meaning, choices, type and default."""
    kind = " or ".join(KINDS[kind] for kind in kinds_of(annotation) if kind is not NoneType)
    fact = "required" if default is Parameter.empty else f"default: {shown(default)}"
    text = " ".join(meaning.split())
    if not all(re.search(rf"\b{re.escape(choice)}\b", text) for choice in choices):
        text += f" Known: {', '.join(choices)}."
    return textwrap.fill(
        f"{text} ({kind}; {fact})",
        width,
        initial_indent=f"  {option(name):20}",
        subsequent_indent=" " * 22,
        break_on_hyphens=False,
    )


def shown(default):
    """Format a default as a user would write it."""
    if default == "":
        return '""'
    return str(default).lower() if isinstance(default, bool | None) else default
