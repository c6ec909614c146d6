"""`python -m tests.fuzz`: every harness under libFuzzer, one table.

python -m tests.fuzz --minutes 32 --harnesses push,network

A run in the same folder goes on from the last one, and the table is of both.
"""

import argparse
import shutil
import sys
from pathlib import Path

from xmae.tables import markdown_table

from .build import ALL
from .run import fuzz, keep_small

COLUMNS = ("harness", "CPU min", "executions", "inputs kept", "lines, %", "branches, %", "findings")


def main():
    """Print a table of what was run, reached and found; exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=32, help="of one core, this run")
    parser.add_argument("--harnesses", default=",".join(ALL), help="comma-separated")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder")
    parser.add_argument("--keep", action="store_true", help="replace the committed inputs")
    given = parser.parse_args()
    if not shutil.which("clang"):
        parser.error("clang is not installed; apt-get install clang llvm libclang-rt-14-dev")
    chosen = [ALL[name] for name in given.harnesses.split(",")]
    parts = sum(harness.share for harness in chosen)
    outcomes = []
    for harness in chosen:
        folder = given.out / harness.name
        outcomes.append(fuzz(harness, folder, 60 * given.minutes * harness.share / parts))
        print(table(outcomes[-1:]), flush=True)
        if given.keep and not outcomes[-1].findings:
            keep_small(harness, folder)
    print(table(outcomes))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def table(outcomes):
    """Return outcomes as Markdown, with their sum where there are several."""
    rows = [
        (
            each.name,
            f"{each.cpu_s / 60:.1f}",
            f"{each.executions:,}",
            each.inputs,
            f"{each.lines:.1f}",
            f"{each.branches:.1f}",
            each.findings,
        )
        for each in outcomes
    ]
    if len(outcomes) > 1:
        minutes, executions = (
            sum(each.cpu_s for each in outcomes) / 60,
            sum(each.executions for each in outcomes),
        )
        findings = sum(each.findings for each in outcomes)
        rows.append(("all", f"{minutes:.1f}", f"{executions:,}", None, None, None, findings))
    return markdown_table(COLUMNS, rows)


if __name__ == "__main__":
    sys.exit(main())
