"""Pins with hashes: what pip would install, without PyTorch's local build."""

import re
from pathlib import Path

import pytest

from xmae.benchmarks.release import hash_constraints as module

ROOT = Path(__file__).parents[2]


def test_lines_are_of_pips_report(tmp_path, monkeypatch):
    asked = []

    def report(pins):
        asked.extend(pins)
        return {
            "install": [
                {
                    "metadata": {"name": pin.split("==")[0], "version": pin.split("==")[1]},
                    "download_info": {"archive_info": {"hashes": {"sha256": "ab" * 32}}},
                }
                for pin in pins
            ]
        }

    monkeypatch.setattr(module, "report_of", report)
    (tmp_path / "in.txt").write_text("# pins\nzlib==1\ntorch==2\n\nnumpy==2.4\n")
    assert module.hash_constraints(tmp_path / "in.txt", tmp_path / "out.txt") == 2
    assert asked == ["zlib==1", "numpy==2.4"]
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        f"numpy==2.4 --hash=sha256:{'ab' * 32}",
        f"zlib==1 --hash=sha256:{'ab' * 32}",
    ]


@pytest.mark.skipif(not (ROOT / module.TARGET).is_file(), reason="no hashed pins are committed")
def test_committed_hashes_are_of_the_pins():
    """Every pin but the exempt ones, in the same version, with a SHA-256."""
    pins = dict(
        line.split("==") for line in (ROOT / module.SOURCE).read_text().split() if "==" in line
    )
    lines = [x for x in (ROOT / module.TARGET).read_text().splitlines() if x[:1] != "#"]
    found = dict(
        re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", x).groups() for x in lines
    )

    def plain(names):
        return {re.sub(r"[-_.]+", "-", name).lower(): names[name] for name in names}

    expected = {name: v for name, v in plain(pins).items() if name not in module.EXEMPT}
    assert plain(found) == expected
