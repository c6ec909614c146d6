"""The public face: every name is there, `import xmae` is quick, and the version has one place."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import xmae

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", xmae.FACE)
def test_every_name_is_there(name):
    module, attribute = xmae.FACE[name]
    found = getattr(import_module(module), attribute)
    assert callable(getattr(xmae, name)) and name in dir(xmae) and found.__doc__


def test_all_names_are_in_the_face():
    assert set(xmae.__all__) == {*xmae.FACE, "__version__"}


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'prepair'"):
        xmae.prepair  # noqa: B018


CODE = """
import sys, xmae
assert not {"torch", "numpy", "scipy", "pandas"} & set(sys.modules), "import xmae is not quick"
import xmae.export.targets.base
assert callable(xmae.export) and callable(xmae.distill)
assert xmae.load.__name__ == "load"
"""


@pytest.mark.slow
def test_import_is_quick_and_packages_can_be_called():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_has_one_place():
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'attr = "xmae.version.__version__"' in pyproject and '\nversion = "' not in pyproject
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == xmae.__version__
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(xmae.__version__)}\b", changes, re.MULTILINE)
