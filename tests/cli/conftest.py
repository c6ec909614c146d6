"""Shared by the tests of the command line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmae.models import SIZES, XMAE, save_encoder

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session")
def recorder(tmp_path_factory):
    """Return a library to preload, which records in $NET_LOG what is asked of the net, and blocks
    it.
    """
    if not (compiler := shutil.which("cc")) or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux")
    library = tmp_path_factory.mktemp("net") / "record.so"
    line = [compiler, "-shared", "-fPIC", "-o", library, FIXTURES / "record_net.c", "-ldl"]
    subprocess.run(list(map(str, line)), check=True)
    return library


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """Return the file of a small encoder with random weights."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(XMAE(SIZES["small"]).encoder, path, {"method": "none"})
    return path
