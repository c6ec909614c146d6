"""Pins with hashes: ``python -m xmae.benchmarks.release.hash_constraints``.

Asks pip, without installing anything, which file it would take for each line of constraints.txt on
this Python and platform, and writes these files' SHA-256 into constraints-hashed.txt.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from xmae.benchmarks.studies.runner import run_tool
from xmae.errors import UserError
from xmae.files import atomic_file, read_json

SOURCE, TARGET = "constraints.txt", "constraints-hashed.txt"
EXEMPT = ("torch",)  # its local build has the same version as PyPI's and other bytes
HEAD = (
    "# Written by `python -m xmae.benchmarks.release.hash_constraints` from constraints.txt; "
    "see SECURITY.md.\n"
    "# For CPython {python} on {system} {machine}. "
    "Without {exempt}: a local build has other bytes.\n"
)


def report_of(pins):
    """Return pip's report of what it would install for some pins (a JSON value).

    Raises
    ------
    UserError
        If pip cannot find one of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, report = Path(folder) / "pins.txt", Path(folder) / "report.json"
        given.write_text("\n".join(pins) + "\n")
        words = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words, "--report", str(report), "-r", str(given)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(f"pip failed: {done.stderr.strip()[-300:]}")
        return read_json(report)


def hashed_lines(report):
    """Return the lines of a requirements file from pip's report: ``name==version
    --hash=sha256:...``.
    """
    lines = []
    for package in report["install"]:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return sorted(lines, key=str.lower)


def hash_constraints(source=SOURCE, target=TARGET):
    """Write the hashed pins beside the plain ones; return how many there are."""
    pins = [line for line in Path(source).read_text().splitlines() if line and line[0] != "#"]
    pins = [pin for pin in pins if pin.partition("==")[0].lower() not in EXEMPT]
    lines = hashed_lines(report_of(pins))
    head = HEAD.format(
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        exempt=", ".join(EXEMPT),
    )
    with atomic_file(target) as temporary:
        temporary.write_text(head + "\n".join(lines) + "\n")
    return len(lines)


def main() -> str:
    """Write constraints-hashed.txt from constraints.txt; asks the package index for the hashes."""
    return json.dumps({"packages": hash_constraints(), "out": TARGET})


if __name__ == "__main__":
    run_tool(main)
