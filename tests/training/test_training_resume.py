"""Killed in the middle of a run (SIGKILL) and resumed, every method ends with the weights of an
unbroken run.
"""

import multiprocessing
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from xmae.evaluation.compare import METHODS
from xmae.objectives import OBJECTIVES
from xmae.training.pretrain import pretrain

SLIM = {"dino": {"prototypes": 32, "n_short": 1}, "msn": {"prototypes": 32, "n_focal": 1}}
RUN = {"size": "small", "epochs": 2, "batch_size": 8, "precision": "fp32"}  # of 5 steps each
LAST_STEP = 8


@pytest.fixture(autouse=True)
def threads(method):
    """Yield one thread, so that a busy machine does not make small steps wait; two where rows must
    add up in one order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(2 if method == "dino" else 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def server():
    """Return processes that fork from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xmae.training.pretrain"])
    return context


def train_until(last_step, reached, store, out, settings, n_threads):
    """Train as anybody would, but never come out of a step, in which to be killed."""
    torch.set_num_threads(n_threads)
    method = OBJECTIVES[settings["method"]]
    after_step = method.after_step

    def stay(self, progress):
        after_step(self, progress)
        if round(10 * progress) == last_step:
            reached.set()
            time.sleep(600)

    method.after_step = stay
    pretrain(store, out, **settings)


# one that learns from ECG; the others by make test-all
@pytest.mark.parametrize(
    "method",
    [
        "xmae",
        *(pytest.param(name, marks=pytest.mark.extended) for name in METHODS if name != "xmae"),
    ],
)
def test_killed_in_its_second_epoch_and_resumed_it_ends_where_an_unbroken_run_ends(
    eight_patients, tmp_path, server, method
):
    store, run = str(eight_patients / "store"), tmp_path / "run"
    settings, reached = RUN | {"method": method, "options": SLIM.get(method)}, server.Event()
    arguments = LAST_STEP, reached, store, str(run), settings, torch.get_num_threads()
    process = server.Process(target=train_until, args=arguments)
    process.start()
    assert reached.wait(300)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (run / "encoder.safetensors").exists()
    assert (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        == LAST_STEP - 1
    )
    run = run.rename(tmp_path / "moved")
    unbroken = pretrain(store, str(tmp_path / "unbroken"), **settings)
    resumed = pretrain(store, str(run), **settings, resume=True)
    assert resumed["finished"] and resumed["windows_seen"] == unbroken["windows_seen"] == 80
    assert resumed["history"] == unbroken["history"]
    for file in ("encoder", "model"):
        a, b = (
            load_file(folder / f"{file}.safetensors") for folder in (tmp_path / "unbroken", run)
        )
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
