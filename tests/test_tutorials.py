"""The tutorials of the docs run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
SAID = {  # what each must print
    "embed_and_read": "heart rate",
    "own_data_to_a_watch": "windows",
    "pretrain_on_a_server": "a second",
    "drift_gate_in_ci": "within the limits",
}


def test_each_has_a_page_and_is_in_the_site():
    site = (FOLDER.parents[1] / "mkdocs.yml").read_text()
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SAID)
    for name in SAID:
        assert f"tutorials/{name}.md" in site
        assert f'\n--8<-- "tutorials/{name}.py"\n' in (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "embed_and_read",
        *(pytest.param(name, marks=pytest.mark.extended) for name in list(SAID)[1:]),
    ],
)
def test_it_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert SAID[name] in done.stdout
