"""Shared by all tests: a small store of real windows, made once."""

import pandas as pd
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare

SPLITS = {
    "bidmc02": "train",
    "bidmc05": "train",
    "bidmc06": "train",
    "bidmc01": "val",
    "bidmc34": "test",
    "bidmc43": "test",
}


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """Six patients of the shipped recordings: three to train on, one to validate, two to test."""
    folder = tmp_path_factory.mktemp("small")
    files = {path.stem: path for path in bidmc_files()}
    table = pd.read_csv(files["bidmc01"].parent / "subjects.csv").set_index("record")
    table.loc[list(SPLITS), ["patient"]].assign(split=list(SPLITS.values())).to_csv(folder / "split.csv", index=False)
    recordings = [str(files[name]) for name in SPLITS]
    prepare(recordings, str(folder / "store"), split=str(folder / "split.csv"), min_quality=-1)
    return str(folder / "store")
