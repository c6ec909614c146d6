"""A training step side by side with the published design run eagerly.

python -m xmae.benchmarks.studies.training_speed [RESULT.md]

Same weights, same real windows, same mask; full steps (forward, backward, AdamW) in turns, each way
in a process of its own as in a training: side by side in one process, each would find the memory
that the others keep allocated. Without dropout, the first losses show that both compute the same.
The last line of the output is the result as JSON; the same as a page goes into RESULT.md.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, nullcontext
from multiprocessing import get_context

import numpy as np
import torch
from tqdm import trange

from xmae.benchmarks.studies.published_model import PlainXMAE
from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import Windows
from xmae.models.reference import to_ours
from xmae.models.xmae import XMAE, XMAEConfig
from xmae.objectives.curriculum import RATIOS
from xmae.objectives.masks import anchor
from xmae.signals.scale import minmax_scale
from xmae.tables import markdown_table
from xmae.training.device import has_bf16

SETTINGS = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.01}  # of AdamW, as published
SEED = 77
COLUMNS = (
    "step",
    "windows per s, median",
    "times as fast (lowest to highest round)",
    "first losses, without dropout",
)
TITLES = {
    "reference": "the published design, eager, float32", "float32": "xMAE, float32",
    "bfloat16": "xMAE, bfloat16 autocast (`xmae pretrain`)",
}  # fmt: skip


def real_batch(batch_size):
    """Return windows of the shipped recordings and a mask of the kind "anchor": ppg, ecg (B, 1,
    1000) in [-1, 1] and mask (B, 25).
    """
    parts = []
    for path in bidmc_files():
        parts.append(prepare_recording(read_recording(path), -1)[0])
        if sum(map(len, parts)) >= batch_size:
            break
    windows = Windows.concatenate(parts).select(slice(batch_size))
    ppg, ecg = (minmax_scale(torch.from_numpy(x)[:, None])[0] for x in (windows.ppg, windows.ecg))
    return ppg, ecg, anchor(len(ppg), 25, RATIOS[0], torch.Generator().manual_seed(SEED))


def reference_step(batch, state, dropout):
    """Make the training step of the published design in plain PyTorch: a function that takes one
    step and returns its loss.
    """
    model = PlainXMAE(dropout=dropout)
    model.load_state_dict(state)
    optimizer = torch.optim.AdamW(model.parameters(), **SETTINGS)

    def step():
        optimizer.zero_grad()
        loss = model(*batch)[-1]
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(batch, state, dropout, bf16=False):
    """Make our training step, in float32 or with bfloat16 autocast, as `xmae pretrain` does it; see
    `reference_step`.
    """
    model = XMAE(XMAEConfig(projection=256, dropout=dropout))
    model.load_state_dict(to_ours(state))
    optimizer = torch.optim.AdamW(model.parameters(), **SETTINGS, fused=True)
    ppg, ecg, mask = batch
    n_visible = int((~mask[0]).sum())

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = model(ppg, ecg, mask, n_visible).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


WAYS = {
    "reference": reference_step,
    "float32": our_step,
    "bfloat16": lambda *arguments: our_step(*arguments, bf16=True),
}


class Worker:
    """One process that times one way: `start` it, then ask for `losses` and `seconds`."""

    @classmethod
    def start(cls, name, batch_size, threads):
        """Make the batch, the weights and the step to be timed."""
        torch.set_num_threads(threads)
        torch.manual_seed(SEED)
        cls.arguments = real_batch(batch_size), PlainXMAE().state_dict()
        cls.way, cls.step = WAYS[name], None

    @classmethod
    def losses(cls):
        """Return the losses of the first three steps without dropout."""
        step = cls.way(*cls.arguments, 0.0)
        return [step() for _ in range(3)]

    @classmethod
    def seconds(cls):
        """Return the time of one step with the published dropout, s."""
        cls.step = cls.step or cls.way(*cls.arguments, 0.1)
        start = time.perf_counter()
        cls.step()
        return time.perf_counter() - start


def measure(batch_size=64, rounds=8, threads=1):
    """Time the steps of all ways in turns.

    Parameters
    ----------
    batch_size : int
        Windows per step.
    rounds : int
        Timed steps of each; two more go before and are not counted.
    threads : int
        CPU threads.

    Returns
    -------
    dict
        `windows_per_s` (median); `ratio` of each of ours to the reference: `median`, `lowest` and
        `highest` over the rounds; `losses` of the first three steps without dropout; batch size,
        rounds and threads. Ours are "float32", and "bfloat16"
        where the CPU multiplies it.
    """
    names = [name for name in WAYS if name != "bfloat16" or has_bf16()]
    seconds = {name: [] for name in names}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                ProcessPoolExecutor(
                    1, get_context("spawn"), Worker.start, (name, batch_size, threads)
                )
            )
            for name in names
        }
        losses = {name: worker.submit(Worker.losses).result() for name, worker in workers.items()}
        for _ in trange(rounds + 2, desc="training_speed", unit="round"):
            for name, worker in workers.items():
                seconds[name].append(worker.submit(Worker.seconds).result())
    seconds = {name: np.array(times[2:]) for name, times in seconds.items()}
    ratios = {name: seconds["reference"] / seconds[name] for name in names[1:]}
    return {
        "windows_per_s": {
            name: round(float(batch_size / np.median(times)), 1) for name, times in seconds.items()
        },
        "ratio": {
            name: {
                "median": round(float(np.median(r)), 2),
                "lowest": round(float(r.min()), 2),
                "highest": round(float(r.max()), 2),
            }
            for name, r in ratios.items()
        },
        "losses": losses,
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": threads,
    }


def page(result):
    """Return the result as Markdown."""
    rows = []
    for name, rate in result["windows_per_s"].items():
        ratio = result["ratio"].get(name)
        times = f"**{ratio['median']}** ({ratio['lowest']} to {ratio['highest']})" if ratio else ""
        rows.append(
            (TITLES[name], rate, times, ", ".join(f"{x:.5f}" for x in result["losses"][name]))
        )
    return f"""# Speed of training

Full steps of {result["batch_size"]} windows with the published dropout on {result["threads"]}
thread(s), in turns, {result["rounds"]} rounds, seed {SEED}.

{markdown_table(COLUMNS, rows)}
"""


def training_speed() -> str:
    """Compare the speed of our training steps with the plain ones."""
    return page(measure())


if __name__ == "__main__":
    run_study(training_speed, "training_speed.md")
