"""How fast generated windows are made, by processor time of one thread.

    python -m xmae.benchmarks.studies.twin_speed --out benchmarks/results

The limits are those of a training on one core: 2,000 windows/s with ECG and PPG, 800 with the
accelerometer beside them.
"""

import time

import torch

from xmae.benchmarks.studies.runner import run_study
from xmae.tables import markdown_table
from xmae.twin.windows import Twin

KINDS = {  # name: (settings of the twin, least windows/s)
    "ECG + PPG": ({"ecg": True, "stream": 0.5}, 2000),
    "ECG + PPG + accelerometer": (
        {"ecg": True, "stream": 0.5, "acc": True, "motion": 0.75, "family": "wrist"},
        800,
    ),
}
BATCHES = (32, 64, 256)
DRAWS, SEED = 30, 77


def speeds(settings, n, draws=DRAWS):
    """Return the windows per second of processor time of several draws of `n` windows,
    ascending.
    """
    twin, generator = Twin(**settings), torch.Generator().manual_seed(SEED)
    twin.draw(n, generator)
    found = []
    for _ in range(draws):
        begun = time.process_time()
        twin.draw(n, generator)
        found.append(n / (time.process_time() - begun))
    return sorted(found)


def twin_speed(*, draws: int = DRAWS) -> str:
    """Time how fast the twin draws windows.

    Parameters
    ----------
    draws : int
        Draws of each kind and batch.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for kind, (settings, limit) in KINDS.items():
        for n in BATCHES:
            found = speeds(settings, n, draws)
            rows.append([kind, n, round(found[len(found) // 2]), round(found[-1]), limit])
    torch.set_num_threads(threads)
    return (
        "# Speed of the twin\n\n"
        f"Generated windows of 10 s a second of processor time, one thread, {draws} draws. "
        "Other work on the same cores takes caches and memory, so the best draw is nearest to an "
        "idle machine.\n\n"
        f"{markdown_table(('windows', 'batch', 'median', 'best', 'wanted'), rows)}\n"
    )


if __name__ == "__main__":
    run_study(twin_speed, "twin_speed.md")
