"""`python -m tests.faults`: damaged and crafted files of every kind, and faults of every writer.

python -m tests.faults --cases 20 --parts files --kinds npz,csv
python -m tests.faults --notes runs/faults.json --seconds 60   # the same call goes on
"""

import argparse
import json
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path

from . import corpus, crafted, run, writers

PARTS = ("sizes", "writers", "files")
TITLES = {
    "files": ("Damaged files", "kind", "tried", "read", "refused", "failed", "most memory, MiB"),
    "sizes": ("Sizes that a file says", "file", "outcome", "memory, MiB"),
    "writers": ("Writers", "writer and fault", "tried", "failed"),
}
NOT_DONE = 3  # exit code
PAGE = """# Faults on purpose: what was tried, what failed

`{command}`, seed {seed}, {date}, commit {commit}, {seconds:.0f} s of one core.
{cases} damaged files a kind. A case is read or refused in one line. Anything else is a failure:
another exception, a killed process, over {limit} s of processor time, or over 1 GiB.
Tried: {files} damaged files, {sizes} crafted ones, {faults} faults of writers. Failed: {failed}.

{tables}
"""


class Notes:
    """Rows that are done, in a file, for a run that is broken off and goes on by the same call.

    Parameters
    ----------
    path : str or None
        JSON; None keeps them in memory alone.
    settings : dict
        What they hold for; rows of other settings, or of another commit, are forgotten.
    """

    def __init__(self, path, settings):
        self.path, self.rows = path and Path(path), {part: {} for part in PARTS}
        self.of, self.before = settings | {"commit": commit()}, 0
        if self.path and self.path.is_file():
            kept = json.loads(self.path.read_text())
            if kept["of"] == self.of:
                self.rows, self.before = kept["rows"], kept["seconds"]

    def seconds(self):
        """Return the processor time of all calls, s."""
        return self.before + spent()

    def add(self, part, row):
        """Keep a row: a list of cells, the first of which is its name."""
        self.rows[part][row[0]] = row
        print(line_of(row), flush=True)
        if self.path:
            content = {"of": self.of, "rows": self.rows, "seconds": self.seconds()}
            self.path.write_text(json.dumps(content))


def main():
    """Print tables of what was tried and what failed; exit code 1 if anything did, 3 if not all was
    tried.
    """
    given = arguments()
    notes = Notes(given.notes, {"cases": given.cases, "kills": given.kills, "kinds": given.kinds})
    makers = {"files": damaged_files, "sizes": crafted_files, "writers": faulty_writers}
    for part in given.parts.split(","):
        print(head_of(part), flush=True)
        for name, make in makers[part](given):
            if name in notes.rows[part]:
                continue
            if given.seconds and spent() > given.seconds:
                return NOT_DONE
            for row in make():
                notes.add(part, row)
    if given.out:
        write_page(given, notes)
    return 1 if sum(failures(notes.rows).values()) else 0


def arguments():
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=75, help="damaged files of each kind")
    parser.add_argument(
        "--kills", type=int, default=40, help="at random moments, a writer and disk"
    )
    parser.add_argument("--kinds", default=",".join(corpus.KINDS), help="comma-separated")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--show", type=int, default=3, help="failures to print of each kind")
    parser.add_argument("--out", help="Markdown file for the tables")
    parser.add_argument("--notes", help="JSON file of what is done; the same call goes on")
    parser.add_argument("--seconds", type=float, help="of processor time, then stop with code 3")
    return parser.parse_args()


def spent():
    """Return the processor time of this process and those it began, s."""
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(sum(resource.getrusage(who)[:2]) for who in whose)


def commit():
    """Return the commit that is checked out."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"


def line_of(cells):
    """Return a line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head_of(part):
    """Return the first lines of a part's table."""
    title, *columns = TITLES[part]
    return "\n".join([f"## {title}", "", line_of(columns), "|" + "---|" * len(columns)])


def show(name, failed, most):
    """Print some failures: what was tried, and how it failed."""
    for failure in list(failed)[:most]:
        print(f"{name}: {failure}", file=sys.stderr, flush=True)


def damaged_files(given):
    """Yield each kind's name, and what makes its row."""
    for name in given.kinds.split(","):
        yield name, lambda name=name: [files_of_kind(name, given)]


def files_of_kind(name, given):
    """Return the row of one kind."""
    outcomes, most = run.run_kind(corpus.KINDS[name], range(given.cases))
    counts = run.count(outcomes)
    failed = {k: said for k, said in outcomes.items() if said not in ("read", "refused")}
    show(name, (f"{number}: {said}" for number, said in failed.items()), given.show)
    return [name, len(outcomes), counts["read"], counts["refused"], len(failed), most]


def crafted_files(given):
    """Yield the name of each small file that says much, and what makes its row."""
    for name, (write, kind) in crafted.CRAFTED.items():
        yield (
            name,
            lambda name=name, write=write, kind=kind: [
                [name, *run.run_crafted(write, corpus.KINDS[kind].open)]
            ],
        )


def faulty_writers(given):
    """Yield the name of the first row of kills, disks and crowds, and what makes all of them."""

    def rows():
        made = list(writers.run_writers(given.kills, run.SEED))
        for row in made:
            show(row.name, row.failures, given.show)
        return [[row.name, row.tried, len(row.failures)] for row in made]

    yield writers.FIRST_ROW, rows


def failures(rows):
    """Count how many of each part failed."""
    return {
        "files": sum(row[4] for row in rows["files"].values()),
        "sizes": sum(row[1] not in ("read", "refused") for row in rows["sizes"].values()),
        "writers": sum(row[2] for row in rows["writers"].values()),
    }


def table(part, rows):
    """Return the table of a part, with a line of sums where its cells are numbers."""
    lines = [head_of(part), *map(line_of, rows)]
    if part != "sizes" and rows:
        columns = list(zip(*rows, strict=True))[1:]
        sums = [sum(column) for column in columns]
        if part == "files":
            sums[-1] = max(columns[-1])  # of memory
        lines.append(line_of(["all", *sums]))
    return "\n".join(lines)


def write_page(given, notes):
    """Write the tables as a page."""
    rows = notes.rows
    tables = [table(part, list(rows[part].values())) for part in given.parts.split(",")]
    Path(given.out).write_text(PAGE.format(
        command=" ".join(["python -m tests.faults", *sys.argv[1:]]), seed=run.SEED,
        date=date.today(),
        commit=notes.of["commit"], cases=given.cases, seconds=notes.seconds(),
        limit=run.SECONDS_A_CASE, files=sum(row[1] for row in rows["files"].values()),
        sizes=len(rows["sizes"]), faults=sum(row[1] for row in rows["writers"].values()),
        failed=sum(failures(rows).values()), tables="\n\n".join(tables),
    ))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
