"""One page of several programs on the traps.

xmae torture --program PROGRAM --out runs/torture/PROGRAM       # for each
python -m xmae.benchmarks.studies.trap_table runs/torture/*/torture.json --out benchmarks/results
"""

import argparse
from pathlib import Path

from xmae.benchmarks.studies.runner import run_script
from xmae.errors import UserError, refusing
from xmae.files import atomic_file, read_json
from xmae.tables import markdown_table


def shown(row):
    """Say a trap's score: wrong but sure, and in brackets what was answered, %."""
    answered = row["answered"]
    given = "-" if answered is None else f"{100 * answered:.0f}"
    return f"{100 * row['wrong_but_sure']:.1f} ({given})"


def study(paths: list, out: str = "benchmarks/results") -> str:
    """Write torture.md; its path.

    Raises
    ------
    UserError
        If a file is no result of `xmae torture`, or they are of different traps.
    """
    scores = {}
    for path in paths:
        result = read_json(path)
        with refusing(path, "a result of xmae torture"):
            scores[result["program"]] = {row["trap"]: shown(row) for row in result["rows"]}
    traps = list(next(iter(scores.values())))
    if any(list(found) != traps for found in scores.values()):
        raise UserError("these results are of different traps; run xmae torture again for all")
    rows = [(trap, *(found[trap] for found in scores.values())) for trap in traps]
    commands = "\n".join(f"    xmae torture --program {name}" for name in scores)
    page = f"""# Traps

{commands}
    python -m xmae.benchmarks.studies.trap_table runs/torture/*/torture.json

Generated recordings of 80 s with exact truth, a heart rate each second. It is no result on people.
Each cell is the share of all seconds in which an answer is wrong but sure, %: off by more than 10
bpm, or any answer where there is no pulse. In brackets is the share of the seconds with a readable
pulse that is answered, %. Our students and the tier without a network (dsp) read a stream and
refuse where they are unsure. The classical detectors read windows of 10 s as the table of the
readings does, and always answer.

{markdown_table(("trap", *scores), rows)}
"""
    with atomic_file(Path(out) / "torture.md") as temporary:
        temporary.write_text(page)
    return str(Path(out) / "torture.md")


def main(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="torture.json of each program")
    parser.add_argument("--out", default="benchmarks/results", help="folder for the page")
    given = parser.parse_args(arguments)
    print(run_script(study, given.results, given.out))


if __name__ == "__main__":
    main()
