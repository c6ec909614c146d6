r"""Choose the thresholds of the rhythm hint on annotated rhythms, and score them on records left
out.

    python -m xmae.benchmarks.release.choose_rhythm_thresholds RHYTHMS_FOLDER \
        benchmarks/results/rhythm_hint.md

Stretches of 40 beats: fibrillation where it is annotated for nine tenths; ectopic-like with 3 early
beats or more; regular with none. Nine tenths of the records choose, a tenth (by hash of its name)
scores. The intervals are those of the annotations, so this is the rule alone, without the errors of
beats from PPG.
"""

from itertools import product
from pathlib import Path

import numpy as np

from xmae.beats import rhythm as rule
from xmae.benchmarks.release.make_rhythm_bank import SETS
from xmae.benchmarks.studies.runner import run_tool
from xmae.errors import UserError
from xmae.files import atomic_file
from xmae.tables import markdown_table
from xmae.twin.bank import held_out

BEATS = 40
PER_RECORD = 200  # stretches at most, evenly taken
CLASSES = (rule.REGULAR, rule.ECTOPIC, rule.IRREGULAR)


def stretches(path):
    """Yield the record name, intervals (n, 39) in ms and classes (n,) of each record."""
    archive = np.load(path)
    symbols, names = archive["symbols"][archive["symbol"]], archive["rhythms"][archive["rhythm"]]
    early = np.isin(symbols, list("VEFAaJS"))
    starts = archive["start"]
    for record, first, last in zip(archive["record"], starts[:-1], starts[1:], strict=True):
        n = (int(last) - int(first)) // BEATS
        part = slice(int(first), int(first) + n * BEATS)
        rr = archive["rr_ms"][part].reshape(n, BEATS)[:, 1:].astype(np.int64)
        af = (names[part].reshape(n, BEATS) == "AFIB").mean(1)
        many = early[part].reshape(n, BEATS).sum(1)
        kind = np.full(n, -1)
        kind[(af == 0) & (many == 0)] = rule.REGULAR
        kind[(af == 0) & (many >= 3)] = rule.ECTOPIC
        kind[af >= 0.9] = rule.IRREGULAR
        good = (rr.min(1) > 200) & (rr.max(1) < 3000) & (kind >= 0)
        chosen = np.flatnonzero(good)
        chosen = (
            chosen[np.linspace(0, len(chosen) - 1, min(PER_RECORD, len(chosen))).astype(int)]
            if len(chosen)
            else chosen
        )
        yield str(record), rr[chosen], kind[chosen]


def choose(folder: str, out: str, /) -> dict:
    """Choose thresholds and write the page.

    Parameters
    ----------
    folder : str
        Folder of the rhythm archives.
    out : str
        The page.

    Raises
    ------
    UserError
        If the folder lacks an archive.
    """
    fit, score = read_parts(Path(folder))
    best = max(
        product(range(30, 121, 10), range(600, 951, 50), range(200, 551, 50)),
        key=lambda settings: recalls(*fit, settings).mean(),
    )
    found = recalls(*score, best)
    with atomic_file(Path(out)) as temporary:
        temporary.write_text(page(best, found, *score))
    return {
        "small": best[0],
        "regular": best[1],
        "irregular": best[2],
        "recall": found.round(3).tolist(),
        "out": out,
    }


def read_parts(folder):
    """Read the stretches to choose by and those to score: intervals (n, 39) in ms and classes (n,)
    of each.
    """
    parts = {False: [], True: []}
    for name in SETS:
        path = folder / f"{name}.npz"
        if not path.is_file():
            raise UserError(f"{path}: no such file; needed are {', '.join(SETS)}")
        for record, rr, kind in stretches(path):
            parts[held_out(record)].append((rr, kind))
    return [
        [np.concatenate(column) for column in zip(*parts[which], strict=True)]
        for which in (False, True)
    ]


def page(best, recall, rr, kind):
    """Return the page: the thresholds, and the score of the rule on held-out records."""
    predicted, rows = with_settings(rr, best), []
    for one, share in zip(CLASSES, recall, strict=True):
        said = [int(((kind == one) & (predicted == b)).sum()) for b in (*CLASSES, rule.UNKNOWN)]
        rows.append((rule.HINTS[one], sum(said), *said, f"{share:.3f}"))
    head = ("annotated", "stretches", *(rule.HINTS[k] for k in (*CLASSES, 0)), "recall")
    return f"""# The rhythm hint

Written by `python -m xmae.benchmarks.release.choose_rhythm_thresholds`. Rows: what is annotated.
Columns: what the rule says of 40 beats, from the annotated intervals. Records left out of the
choice.

Thresholds: a change is small below {best[0]} / 1000; regular from {best[1]} / 1000 small changes
on; irregularly irregular up to {best[2]} / 1000.

{markdown_table(head, rows, right=False)}
"""


def with_settings(rr, settings):
    """Apply the rule with other thresholds: intervals (n, 39) -> classes (n,)."""
    before = rule.SMALL, rule.REGULAR_SHARE, rule.IRREGULAR_SHARE
    rule.SMALL, rule.REGULAR_SHARE, rule.IRREGULAR_SHARE = settings
    try:
        return rule.rhythm_hint(rr)
    finally:
        rule.SMALL, rule.REGULAR_SHARE, rule.IRREGULAR_SHARE = before


def recalls(rr, kind, settings):
    """Return the recall of each class: (3,)."""
    predicted = with_settings(rr, settings)
    return np.array([(predicted[kind == k] == k).mean() for k in CLASSES])


if __name__ == "__main__":
    run_tool(choose)
