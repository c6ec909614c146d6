"""What a file says of itself reaches neither the terminal as a command nor a sheet as a formula."""

import csv
import struct
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from xmae import cli
from xmae.benchmarks.bench import write_csv
from xmae.cli.embed import write_table
from xmae.data.recording import readers
from xmae.errors import UserError, refusing
from xmae.evaluation.protocol.labels import read_labels
from xmae.tables import csv_text
from xmae.text import cell, out_of_cell, printable

ESCAPES = ("\x1b[2J", "\x9b31m", "\x1b]0;title\x07", "\u202egnp.exe", "\x7f", "\r", "\ud800")
FORMULAS = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", '=HYPERLINK("http://x")')


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_are_shown_not_obeyed(escape, capsys):
    shown = printable(f"name {escape}\tä µ ° ±\n")
    assert shown.isprintable() or set(shown) - {"\t", "\n"} == set(filter(str.isprintable, shown))
    assert shown.endswith("\tä µ ° ±\n")
    cli.fail(f"{escape}.csv: no such file")
    assert escape not in capsys.readouterr().err


def test_the_command_line_prints_no_escapes(tmp_path, capsys):
    assert cli.main(["data", "verify", f"{tmp_path}/\x1b[31mstore"]) == 2
    assert cli.main(["prepare", f"{tmp_path}/\x1b[31mred.csv"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out and "\\x1b[31m" in said.err


def test_summary_and_result_print_no_escapes(monkeypatch, capsys):
    result = {"summary": ["\x1b[2J kept"], "out": "\x1b]0;x\x07 out"}

    def example(seed: int = 1) -> dict:
        """Give the result.

        Parameters
        ----------
        seed : int
            Nothing.
        """
        return result

    monkeypatch.setattr(cli, "function_of", lambda verb: example)
    assert cli.main(["data", "example"]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out and "kept" in said.err and "out" in said.out


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_are_text_in_every_table_and_numbers_stay(formula, tmp_path):
    assert cell(formula) == f"'{formula}" and out_of_cell(cell(formula)) == formula
    assert [cell(x) for x in (-1.5, None, "hr", "a=b")] == [-1.5, None, "hr", "a=b"]
    columns = {"record": [formula], "start_s": [-1.0], formula: [2.0]}
    write_table(tmp_path / "embeddings.csv", columns, np.zeros((1, 2)))
    write_csv(tmp_path / "bench.csv", [{"model": formula, "hr_mae": -1.0, "heads": {}}])
    trial = {"dataset": formula, "task": "hr", "metric": "mae"}
    trial["methods"] = {formula: {"mae": {"value": -1, "interval": None}}}
    (tmp_path / "table.csv").write_text(csv_text({"trials": [trial]}))
    for name in ("embeddings.csv", "bench.csv", "table.csv"):
        with open(tmp_path / name, newline="") as file:
            cells = list(chain.from_iterable(csv.reader(file)))
        assert formula not in cells and f"'{formula}" in cells
        assert any(text.startswith("-1") for text in cells)  # a number is no formula


def test_a_label_table_comes_back_with_the_names_it_was_written_for(tmp_path):
    table = pd.DataFrame({"subject": ["=1+1", "s2"], "age": [40.0, 50.0]})
    table.map(cell).to_csv(tmp_path / "labels.csv", index=False)
    assert list(read_labels(tmp_path / "labels.csv", ["age"])["subject"]) == ["=1+1", "s2"]


ODD = (KeyError("x"), IndexError(), struct.error("short"), AssertionError(), RecursionError(),
       MemoryError(), ZeroDivisionError(), OverflowError(), AttributeError("x\ny"),
       UnicodeDecodeError("utf-8", b"a", 0, 1, "bad"), NotImplementedError(),
       OSError(5, "I/O"))  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["at once", "later", "as it is chosen"])
def test_whatever_a_parser_raises_is_one_line(tmp_path, monkeypatch, error, when):
    path = tmp_path / "one.edf"
    path.write_bytes(b"0")

    def chosen(path):
        if when == "as it is chosen":
            raise error
        return SimpleNamespace(read=at_once if when == "at once" else later)

    def at_once(path, channel_map):
        raise error

    def later(path, channel_map):
        yield UserError("one.edf: its first part is unusable")
        raise error

    monkeypatch.setattr(readers, "reader_of", chosen)
    with pytest.raises(UserError, match="one.edf: not readable as a recording") as refused:
        for found in readers.read_each(path):
            assert isinstance(found, UserError)
    assert "\n" not in str(refused.value)


def test_an_interrupt_is_no_mistake_of_a_file():
    with pytest.raises(KeyboardInterrupt), refusing("x", "y"):
        raise KeyboardInterrupt
