"""One page of several programs on the traps.

xmae torture --program PROGRAM --out runs/torture/PROGRAM       # for each
python -m xmae.benchmarks.studies.trap_table runs/torture/*/torture.json --out benchmarks/results
"""

from xmae.benchmarks.studies.runner import run_study
from xmae.errors import UserError, refusing
from xmae.files import read_json
from xmae.tables import markdown_table


def shown(row):
    """Format a trap's score: wrong but sure and, in brackets, answered, %."""
    answered = row["answered"]
    given = "-" if answered is None else f"{100 * answered:.0f}"
    return f"{100 * row['wrong_but_sure']:.1f} ({given})"


def trap_table(results: list, /) -> str:
    """Compare the scores of several programs on the traps.

    Parameters
    ----------
    results : list of str
        torture.json of each program.

    Raises
    ------
    UserError
        If a file is no result of `xmae torture`, or they are of different traps.
    """
    scores = {}
    for path in results:
        result = read_json(path)
        with refusing(path, "a result of xmae torture"):
            scores[result["program"]] = {row["trap"]: shown(row) for row in result["rows"]}
    traps = list(next(iter(scores.values())))
    if any(list(found) != traps for found in scores.values()):
        raise UserError("these results are of different traps; run xmae torture again for all")
    rows = [(trap, *(found[trap] for found in scores.values())) for trap in traps]
    commands = "\n".join(f"    xmae torture --program {name}" for name in scores)
    return f"""# Traps

{commands}

Generated recordings of 80 s with exact truth, a heart rate each second. It is no result on people.
Each cell is the share of all seconds in which an answer is wrong but sure, %: off by more than 10
bpm, or any answer where there is no pulse. In brackets is the share of the seconds with a readable
pulse that is answered, %. Our students and the tier without a network (dsp) read a stream and
refuse where they are unsure. `student-motion` also gets an accelerometer, which sees the cadence of
the four traps that have one. The classical detectors read windows of 10 s as the table of the
readings does, and always answer.

{markdown_table(("trap", *scores), rows)}
"""


if __name__ == "__main__":
    run_study(trap_table, "torture.md")
