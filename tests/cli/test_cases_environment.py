"""What a batch system says in the environment changes no result: neither exit codes nor training.

The ids are the folders in which the situations were collected.
"""

import os
import shutil
import subprocess
import sys

import pytest

from xmae.data.store.store import WindowStore
from xmae.launch import own_environment, rank

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node1",
}  # fmt: skip


def xmae(*words, **variables):
    """Return the exit code and standard error of a verb in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "xmae", *map(str, words)],
        env=os.environ | variables, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "name",
    ["RANK", pytest.param("LOCAL_RANK", marks=pytest.mark.extended)],
    ids="52_rank_in_environment-{}".format,
)
def test_a_gate_fails_whatever_the_rank(small_store, tmp_path, name):
    damaged = tmp_path / "damaged"
    shutil.copytree(small_store, damaged)
    shard = damaged / WindowStore(small_store).entries[0].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    code, err = xmae("data", "verify", damaged, **{name: "1"})
    assert code == 1 and shard.name in err, err


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(SLURM, id="50_slurm_environment"),
        pytest.param(
            {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
            id="52_rank_in_environment",
            marks=pytest.mark.extended,
        ),
    ],
)
def test_training_takes_no_orders_from_a_batch_system(small_store, tmp_path, variables):
    settings = ("--method", "mae", "--size", "small", "--epochs", 1, "--batch-size", 16)
    code, err = xmae("pretrain", small_store, "--out", tmp_path / "run", *settings, **variables)
    assert code == 0, err
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_what_is_hidden_comes_back(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("RANK", "2")
    with own_environment():
        assert "SLURM_PROCID" not in os.environ and "RANK" not in os.environ and rank() == 0
    assert os.environ["SLURM_PROCID"] == "3" and os.environ["RANK"] == "2" and rank() == 0
