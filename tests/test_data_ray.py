"""Preparation on a Ray cluster gives what one machine gives."""

import pytest

from xmae.data import WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare
from xmae.errors import UserError


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="Ray is in the extra 'scale'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


def test_ray_gives_the_same_store(cluster, tmp_path):
    files = [str(path) for path in bidmc_files()[:4]]
    arguments = {"split": "0.4,0.3,0.3", "min_quality": 0.9}
    local = prepare(files, str(tmp_path / "local"), **arguments)
    on_ray = prepare(files, str(tmp_path / "ray"), engine="ray", **arguments)
    assert local | {"out": ""} == on_ray | {"out": ""}
    assert WindowStore(tmp_path / "local").meta == WindowStore(tmp_path / "ray").meta  # every hash of every shard
    rows = cluster.data.read_parquet([str(path) for path in sorted((tmp_path / "ray").glob("0*.parquet"))])
    assert rows.count() == on_ray["windows"]
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    with pytest.raises(UserError, match="broken.npz: not readable as .npz"):
        prepare([*files, str(broken)], str(tmp_path / "ray"), engine="ray", **arguments)
    assert WindowStore(tmp_path / "local").meta == WindowStore(tmp_path / "ray").meta


def test_unknown_engines_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown engine 'spark'"):
        prepare(["bidmc"], str(tmp_path / "store"), engine="spark")
