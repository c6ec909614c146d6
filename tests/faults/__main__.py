"""`python -m tests.faults`: damaged and crafted files of every kind, and faults of every writer.

python -m tests.faults --cases 20 --parts files --kinds npz,csv
"""

import argparse
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from . import corpus, crafted, run, writers

PARTS = ("files", "sizes", "writers")
PAGE = """# Faults on purpose: what was tried, what failed

`{command}`, seed {seed}, {date}, commit {commit}, {seconds:.0f} s.
{cases} damaged files a kind. A case is read or refused in one line. Anything else is a failure:
another exception, a killed process, over {limit} s of processor time, or over 1 GiB.

{tables}
"""


def main():
    """Print tables of what was tried and what failed; exit code 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=75, help="damaged files of each kind")
    parser.add_argument(
        "--kills", type=int, default=40, help="at random moments, a writer and disk"
    )
    parser.add_argument("--kinds", default=",".join(corpus.KINDS), help="comma-separated")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--show", type=int, default=3, help="failures to print of each kind")
    parser.add_argument("--out", help="Markdown file for the tables")
    given = parser.parse_args()
    start, tables, failed = time.monotonic(), [], 0
    makers = {"files": damaged_files, "sizes": crafted_files, "writers": faulty_writers}
    for part in given.parts.split(","):
        lines, failures = makers[part](given)
        tables += ["\n".join(lines)]
        failed += failures
    if given.out:
        command = " ".join(["python -m tests.faults", *sys.argv[1:]])
        Path(given.out).write_text(PAGE.format(
            command=command, seed=run.SEED, date=date.today(), commit=commit(), cases=given.cases,
            seconds=time.monotonic() - start, limit=run.SECONDS_A_CASE,
            tables="\n\n".join(tables),
        ))  # fmt: skip
    return 1 if failed else 0


def commit():
    """The commit that is checked out."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"


def table(title, *columns):
    """The first lines of a table, printed."""
    lines = [f"## {title}", "", line_of(columns), "|" + "---|" * len(columns)]
    print("\n".join(lines), flush=True)
    return lines


def line_of(cells):
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def add(lines, *cells):
    """Put a line below a table, and print it."""
    lines.append(line_of(cells))
    print(lines[-1], flush=True)


def damaged_files(given):
    """Files of every kind: lines of a table, and how many failed."""
    lines = table("Damaged files", "kind", "tried", "read", "refused", "failed", "most memory, MiB")
    total = [0, 0, 0, 0, 0]
    for name in given.kinds.split(","):
        outcomes, most = run.run_kind(corpus.KINDS[name], range(given.cases))
        counts = run.count(outcomes)
        failed = {k: said for k, said in outcomes.items() if said not in ("read", "refused")}
        row = [len(outcomes), counts["read"], counts["refused"], len(failed), most]
        total = [*(a + b for a, b in zip(total[:4], row[:4], strict=True)), max(total[4], most)]
        add(lines, name, *row)
        for number, said in list(failed.items())[: given.show]:
            print(f"{name} {number}: {said}", file=sys.stderr, flush=True)
    add(lines, "all", *total)
    return lines, total[3]


def crafted_files(given):
    """Small files that say much: lines of a table, and how many failed."""
    lines = table("Sizes that a file says", "file", "outcome", "memory, MiB")
    failed = 0
    for name, (write, kind) in crafted.CRAFTED.items():
        said, grown = run.run_crafted(write, corpus.KINDS[kind].open)
        failed += said not in ("read", "refused")
        add(lines, name, said, grown)
    return lines, failed


def faulty_writers(given):
    """Kills, disks and crowds: lines of a table, and how many failed."""
    lines = table("Writers", "writer and fault", "tried", "failed")
    failed = 0
    for row in writers.run_writers(given.kills, run.SEED):
        failed += len(row.failures)
        add(lines, row.name, row.tried, len(row.failures))
        for failure in row.failures[: given.show]:
            print(f"{row.name}: {failure}", file=sys.stderr, flush=True)
    return lines, failed


if __name__ == "__main__":
    sys.exit(main())
