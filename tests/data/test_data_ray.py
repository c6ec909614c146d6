"""Preparation on a Ray cluster gives what one machine gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmae.data import WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.ray import run_ray
from xmae.errors import UserError


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="Ray is in the extra 'scale'")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20
    )
    yield ray
    ray.shutdown()


@pytest.mark.extended
def test_ray_gives_the_same_store(cluster, tmp_path):
    files = [str(path) for path in bidmc_files()[:3]]
    arguments = {"split": "0.4,0.3,0.3", "min_quality": 0.9}
    local = prepare(files, str(tmp_path / "local"), **arguments)
    # another process joins by it, as on any cluster
    address = cluster.get_runtime_context().gcs_address
    options = ["--split=0.4,0.3,0.3", "--engine=ray", f"--address={address}", "--json"]
    command = [
        sys.executable,
        "-m",
        "xmae",
        "prepare",
        *files,
        "--out",
        str(tmp_path / "ray"),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) | {"out": ""} == local | {"out": ""}
    # every hash of every shard
    assert WindowStore(tmp_path / "local").meta == WindowStore(tmp_path / "ray").meta


@pytest.mark.extended
def test_what_is_wrong_with_a_file_is_told(cluster, tmp_path):
    def prepare_file(path, number, stage, settings):
        raise UserError(f"{path}: not readable")

    with pytest.raises(UserError, match="^broken.npz: not readable$"):
        list(run_ray(prepare_file, [Path("broken.npz")], 0, tmp_path, None, None))


@pytest.mark.extended
def test_work_of_a_worker_that_died_is_done_again(cluster, tmp_path):
    """The first worker that gets a file dies of it, as when its node is taken away."""
    paths = [Path(f"{k}.npz") for k in range(6)]

    def prepare_file(path, number, stage, settings):
        (stage / f"{number}-{os.getpid()}").touch()
        if number == 13 and len(list(stage.glob("13-*"))) == 1:
            os._exit(1)
        if number == 14 and not (stage / "again").exists():
            (stage / "again").touch()
            raise OSError("stale file handle")
        return {"source": path.name, "number": number}

    notes = list(run_ray(prepare_file, paths, 10, tmp_path, None, None))
    assert notes == [{"source": path.name, "number": 10 + k} for k, path in enumerate(paths)]
    assert len(list(tmp_path.glob("13-*"))) == 2


def test_unknown_engines_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown engine 'spark'"):
        prepare(["bidmc"], str(tmp_path / "store"), engine="spark")
