"""How fast windows reach training: random batches of ECG and PPG from a store, on one thread.

    python -m xmae.benchmarks.studies.loading_speed [--out FOLDER]

The store holds the windows of the shipped recordings, repeated until the flat files are larger than
a processor cache; they are read once before (the page cache is warm). A batch is ready as float32
tensors: windows in physical units; or, as `xmae pretrain` has them, random crops that are augmented
and scaled, by either recipe at full strength.
"""

import tempfile
import time
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import torch
from tqdm import tqdm

from xmae.benchmarks.studies.runner import run_study
from xmae.data.batches.batches import RECIPES, TrainingBatches
from xmae.data.batches.loader import WindowLoader
from xmae.data.prepare.prepare import prepare
from xmae.data.store.flat import FlatWindows
from xmae.data.store.store import WindowStore
from xmae.files import read_json, write_json
from xmae.tables import markdown_table

COPIES = 30  # of 1,776 windows: 213 MB of codes
BATCHES = (64, 512)
SECONDS = 5.0  # for each measurement


def enlarge(store, copies):
    """List every shard of `store.json` several times, so that the store looks larger."""
    meta = read_json(store / "store.json")
    meta["shards"] = meta["shards"] * copies
    meta["windows"] *= copies
    write_json(store / "store.json", meta)
    return meta["windows"]


def rate(batches, seconds):
    """Return windows per second, and per second of CPU time, over at least this time, of an endless
    loader.
    """
    n_windows, begun, cpu = 0, time.perf_counter(), time.process_time()
    for ppg, *_ in batches:
        n_windows += len(ppg)
        if time.perf_counter() - begun > seconds:
            break
    return round(n_windows / (time.perf_counter() - begun)), round(
        n_windows / (time.process_time() - cpu)
    )


def epochs(loader):
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def steps(flat, recipe, batch_size):
    """Yield the training batches of flat windows, step after step."""
    train = TrainingBatches(flat, batch_size, 1, 77, replace(RECIPES[recipe], ramp=0.0))
    return (train.batch(step, step) for step in count(1))


def measure(copies=COPIES, seconds=SECONDS):
    """Measure how fast windows are loaded; dict of windows, and rates by way (see `rate`)."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        prepare(["bidmc"], str(store), min_quality=-1, jobs=1)
        n_windows = enlarge(store, copies)
        flat = FlatWindows(WindowStore(store), None)
        sum(records["codes"].sum() for records in flat.records)  # every page is read once
        ways = {
            f"windows, memory-mapped, batches of {n}": epochs(WindowLoader(store, None, n))
            for n in BATCHES
        }
        for recipe, n in product(RECIPES, BATCHES):
            way = f"training crops, recipe {recipe}, memory-mapped, batches of {n}"
            ways[way] = steps(flat, recipe, n)
        n = BATCHES[-1]
        ways[f"windows, streamed from shards, 16 at a time, batches of {n}"] = epochs(
            WindowLoader(store, None, n, stream=16)
        )
        rates = {
            way: rate(batches, seconds) for way, batches in tqdm(ways.items(), "loading_speed")
        }
    return {
        "windows": n_windows,
        "rates": rates,
    }


def page(result):
    """Return the result as Markdown."""
    rows = [(way, f"{wall:,}", f"{cpu:,}") for way, (wall, cpu) in result["rates"].items()]
    return f"""# Speed of loading

One thread; {result["windows"]:,} windows of ECG and PPG in random order, page cache warm, float32
tensors.

{markdown_table(("way", "windows per s", "per s of CPU"), rows, right=False)}
"""


def loading_speed() -> str:
    """Time how fast windows reach the training loop."""
    return page(measure())


if __name__ == "__main__":
    run_study(loading_speed, "loading_speed.md")
