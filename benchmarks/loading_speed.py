"""How fast windows reach training: random batches of ECG and PPG from a store, memory-mapped, on one thread.

python -m xmae.benchmarks.loading_speed

The store holds the windows of the shipped recordings, repeated until the flat file is larger than a processor cache; it
is read once before (the page cache is warm). A batch is ready as float32 tensors in physical units. The last line of
the output is the result as JSON.
"""

import json
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

from xmae.benchmarks.hardware import hardware
from xmae.data.loader import WindowLoader
from xmae.data.prepare import prepare
from xmae.files import read_json, write_json

COPIES = 30  # of 1,776 windows: 213 MB of codes
BATCHES = (64, 512)
SECONDS = 5.0  # for each measurement


def enlarge(store, copies):
    """Let `store.json` name every shard several times."""
    meta = read_json(store / "store.json")
    meta["shards"] = meta["shards"] * copies
    meta["windows"] *= copies
    write_json(store / "store.json", meta)
    return meta["windows"]


def rate(loader, seconds):
    """Windows per second over at least this time, batch after batch, epoch after epoch."""
    n_windows, begun = 0, time.perf_counter()
    while True:
        for ppg, _, _ in loader:
            n_windows += len(ppg)
            if (passed := time.perf_counter() - begun) > seconds:
                return n_windows / passed


def main(copies=COPIES, seconds=SECONDS):
    """Measure; dict of windows, windows per second memory-mapped by batch size and streamed, and the hardware."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        prepare(["bidmc"], str(store), min_quality=-1, jobs=1)
        n_windows = enlarge(store, copies)
        mapped = {}
        for batch_size in tqdm(BATCHES, "loading_speed"):
            loader = WindowLoader(str(store), None, batch_size)
            loader.flat[0].sum()  # every page is read once
            mapped[batch_size] = round(rate(loader, seconds))
        streamed = round(rate(WindowLoader(str(store), None, BATCHES[-1], stream=16), seconds))
    return {
        "windows": n_windows,
        "windows_per_s_mapped": mapped,
        "windows_per_s_streamed": streamed,
        "hardware": hardware(),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
