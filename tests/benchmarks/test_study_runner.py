"""The one runner of the studies: its line, its page, and what it says of how the page was made."""

import re

import pytest

from xmae.benchmarks.studies import runner
from xmae.benchmarks.studies.runner import page_path, parser_of, run_study, with_out
from xmae.errors import UserError


def toy(store: str, models: list = (), /, *, every: int = 1, loud: bool = False) -> str:
    """Say what was asked for.

    Parameters
    ----------
    store : str
        A store.
    models : list of str
        Any models.
    every : int
        Every so many, 50 % by default.
    loud : bool
        Whether to shout.
    """
    return f"# Toy\n\n{store} {list(models)} {every} {loud}\n"


def drawn(*, out: str) -> str:
    """Write a picture beside the page."""
    with open(f"{out}/toy.png", "w") as file:
        file.write("picture")
    return "# Drawn\n"


def refused(store: str, /) -> str:
    """Refuse whatever is given."""
    raise UserError(f"{store}: no store")


def test_the_line_follows_the_signature(tmp_path, capsys):
    run_study(toy, "toy.md", ["s", "a", "b", "--every", "3", "--loud", "--out", str(tmp_path)])
    page = tmp_path / "toy.md"
    assert capsys.readouterr().out.strip() == str(page)
    assert "s ['a', 'b'] 3 True" in page.read_text()


def test_the_page_says_how_it_was_made(tmp_path):
    run_study(toy, "toy.md", ["a store", "--out", str(tmp_path)])
    title, _, command, _, facts, *_ = (tmp_path / "toy.md").read_text().split("\n")
    assert title == "# Toy"
    assert command == f"    python -m {__name__} 'a store' --out {tmp_path}"
    assert re.search(r"on \d{4}-\d\d-\d\d at (commit \w+|an unknown commit)", facts)
    assert "cores, load" in facts and "min" in facts


@pytest.mark.parametrize("words", [["s", "kept.md"], ["s", "--out", "kept.md"]])
def test_a_page_may_be_named(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_study(toy, "toy.md", words)
    assert (tmp_path / "kept.md").is_file() and not (tmp_path / "toy.md").exists()


def test_pictures_go_beside_the_page(tmp_path):
    run_study(drawn, "drawn.md", ["--out", str(tmp_path)])
    assert (tmp_path / "toy.png").read_text() == "picture"


def test_a_mistake_is_one_line_and_leaves_the_page(tmp_path, capsys):
    (tmp_path / "toy.md").write_text("before")
    with pytest.raises(SystemExit) as ended:
        run_study(refused, "toy.md", ["x", "--out", str(tmp_path)])
    assert ended.value.code == 2 and capsys.readouterr().err == "xmae: x: no store\n"
    assert (tmp_path / "toy.md").read_text() == "before"


def test_words_and_paths():
    assert with_out([]) == [] and with_out(["--work", "a.md"]) == ["--work", "a.md"]
    assert str(page_path("a", "b.md")) == "a/b.md" and str(page_path("a.md", "b.md")) == "a.md"
    assert "Every so many, 50 % by default." in " ".join(
        parser_of(toy, "t.md").format_help().split()
    )


def test_outside_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runner.commit() == "an unknown commit"
