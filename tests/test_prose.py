"""The prose of the docs is plain: sentences of 15 words on average, none of more than 35."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
    ]
)
MEAN, MOST = 15, 35  # words a sentence
# pages written before this rule and not yet rewritten: {page: (mean, longest) that it keeps to}
UNFINISHED: dict[str, tuple[float, int]] = {}


def sentences(text):
    """Return the sentences of a page in Markdown, as lists of words; code, tables and headings are
    left out.

    >>> sentences("# Title\\n\\nOne *fact*. And `xmae prepare x` another:\\n\\n- a point\\n")
    [['One', 'fact'], ['And', 'code', 'another'], ['a', 'point']]
    """
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^---\n.*?^---\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"https?://\S+", "link", text)
    blocks, lines = [], []
    for line in [*text.splitlines(), ""]:
        starts_point = re.match(r"\s*([-*+]|\d+\.)\s", line)
        aside = not line.strip() or line.lstrip().startswith(
            ("|", "#", ":::", "--8<--", "!!!", "<")
        )
        if aside or starts_point:
            blocks.append(" ".join(lines))
            lines = []
        if not aside:
            lines.append(re.sub(r"^\s*([-*+>]|\d+\.)\s", "", line).strip())
    parts = list(
        chain.from_iterable(re.split(r"(?<=[.!?])[\"')\]*]*\s+", block) for block in blocks)
    )
    words = [re.findall(r"[^\W_][\w'./%+-]*", part) for part in parts]
    return [[word.rstrip(".") for word in found] for found in words if found]


def page_name(path):
    """Return a page as tests and reports call it."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_sentences_are_short(path):
    lengths = [len(words) for words in sentences(path.read_text())]
    if not lengths:
        return
    mean, most = UNFINISHED.get(page_name(path), (MEAN, MOST))
    long = [" ".join(w) for w in sentences(path.read_text()) if len(w) > most]
    assert not long, f"{len(long)} sentences of more than {most} words:\n" + "\n".join(long)
    assert sum(lengths) / len(lengths) <= mean, (
        f"{sum(lengths) / len(lengths):.1f} words a sentence"
    )


def test_unfinished_pages_are_there_and_not_finished():
    pages = {page_name(path): path for path in PAGES}
    for name in UNFINISHED:
        lengths = [len(words) for words in sentences(pages[name].read_text())]
        assert max(lengths) > MOST or sum(lengths) / len(lengths) > MEAN, f"{name} is finished"


def test_a_long_sentence_is_found():
    assert [len(words) for words in sentences("word " * 36 + ".\n\n| a | table |\n")] == [36]
