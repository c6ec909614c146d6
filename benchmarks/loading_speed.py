"""How fast windows reach training: random batches of ECG and PPG from a store, memory-mapped, on one thread.

python -m xmae.benchmarks.loading_speed [RESULT.md]

The store holds the windows of the shipped recordings, repeated until the flat file is larger than a processor cache; it
is read once before (the page cache is warm). A batch is ready as float32 tensors in physical units. The last line of
the output is the result as JSON; the same as a page goes into RESULT.md.
"""

import json
import os
import sys
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
    """Windows per second, and per second of CPU, over at least this time, batch after batch, epoch after epoch."""
    n_windows, begun, cpu = 0, time.perf_counter(), time.process_time()
    while True:
        for ppg, _, _ in loader:
            n_windows += len(ppg)
            if (passed := time.perf_counter() - begun) > seconds:
                return round(n_windows / passed), round(n_windows / (time.process_time() - cpu))


def main(copies=COPIES, seconds=SECONDS):
    """Measure; dict of windows, rates (see `rate`) memory-mapped by batch size and streamed, load before, hardware."""
    load = round(os.getloadavg()[0], 1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        prepare(["bidmc"], str(store), min_quality=-1, jobs=1)
        n_windows = enlarge(store, copies)
        mapped = {}
        for batch_size in tqdm(BATCHES, "loading_speed"):
            loader = WindowLoader(str(store), None, batch_size)
            loader.flat[0].sum()  # every page is read once
            mapped[batch_size] = rate(loader, seconds)
        streamed = rate(WindowLoader(str(store), None, BATCHES[-1], stream=16), seconds)
    return {
        "windows": n_windows,
        "mapped": mapped,
        "streamed": streamed,
        "load": load,
        "hardware": hardware(),
    }


def page(result):
    """The result as Markdown."""
    machine = result["hardware"]
    ways = {f"memory-mapped, batches of {n}": rates for n, rates in result["mapped"].items()}
    ways[f"streamed from shards, 16 at a time, batches of {BATCHES[-1]}"] = result["streamed"]
    rows = [f"| {way} | {wall:,} | {cpu:,} |" for way, (wall, cpu) in ways.items()]
    return f"""# Speed of loading

`python -m xmae.benchmarks.loading_speed benchmarks/results/loading_speed.md` on one core of {machine["cpu"]},
Python {machine["python"]}, PyTorch {machine["packages"]["torch"]}; {result["windows"]:,} windows of ECG and PPG
in random order, page cache warm, float32 tensors in physical units; load of the machine before: {result["load"]}.

| way | windows per s | per s of CPU |
|---|---|---|
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    result = main()
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(page(result))
    print(json.dumps(result))
