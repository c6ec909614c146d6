"""`python -m tests.faults`: every kind, 75 cases each, one table.

python -m tests.faults --cases 20 --kinds npz,csv
"""

import argparse
import sys
import time

from . import corpus, run


def main():
    """Print a table of what was tried and what failed; exit code 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=75, help="damaged files of each kind")
    parser.add_argument("--kinds", default=",".join(corpus.KINDS), help="comma-separated")
    parser.add_argument("--show", type=int, default=3, help="failures to print of each kind")
    given = parser.parse_args()
    rows, start = [], time.monotonic()
    print("| kind | tried | read | refused | failed |\n|---|---|---|---|---|")
    for name in given.kinds.split(","):
        outcomes = run.run_kind(corpus.KINDS[name], range(given.cases))
        counts = run.count(outcomes)
        failed = {k: said for k, said in outcomes.items() if said not in ("read", "refused")}
        rows.append((name, len(outcomes), counts["read"], counts["refused"], len(failed)))
        print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
        for number, said in list(failed.items())[: given.show]:
            print(f"{name} {number}: {said}", file=sys.stderr)
    total = ("all", *(sum(row[k] for row in rows) for k in range(1, 5)))
    print("| " + " | ".join(map(str, total)) + " |")
    print(f"\nSeed {run.SEED}; {time.monotonic() - start:.0f} s.")
    return 1 if total[-1] else 0


if __name__ == "__main__":
    sys.exit(main())
