"""Small Arm Linux systems for qemu-user: a Python 3.11 and the runtimes' own wheels, in the user's
cache.

`arm64` holds LiteRT, ONNX Runtime and ExecuTorch (its C++ runtime with a runner of ours, because
its Python package wants PyTorch). `armhf`, for 32-bit watches, holds tflite-runtime 2.14: PyPI has
a 32-bit Arm wheel of no other runtime for Python 3.11, and it wants the NumPy 1 that Debian ships.
Debian packages are only unpacked, nothing is installed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from filelock import FileLock

from xmae.errors import UserError
from xmae.export.targets.environments import PIP_INSTALL
from xmae.files import atomic_folder, cache_folder, sha256
from xmae.firmware_sim.build.compile import BOARDS, build, zig

MARKER, RUNNER = "ready.json", BOARDS / "run_pte.cpp"
PYTHON = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1",
    "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5",
    "libcrypt1", "libuuid1",
)  # fmt: skip
ET_LIBRARIES = (
    "executorch",
    "executorch_threadpool",
    "executorch_backend_xnnpack",
    "executorch_kernels_optimized",
    "executorch_kernels_quantized",
)


@dataclass(frozen=True)
class Root:
    """A system: QEMU's program, triplet, Debian packages beside `PYTHON`, platforms of wheels,
    wheels.

    `same`: wheels in the version that is installed here; `pinned`: others.
    """

    qemu: str
    triplet: str
    debian: tuple
    platforms: tuple
    same: tuple
    pinned: tuple


ROOTS = {
    "arm64": Root(
        "qemu-aarch64", "aarch64-linux-gnu", ("libstdc++-12-dev",),
        ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"),
        ("numpy", "ai-edge-litert", "onnxruntime", "executorch"),
        ("flatbuffers", "typing-extensions", "tqdm", "backports.strenum"),
    ),
    "armhf": Root(
        "qemu-arm", "arm-linux-gnueabihf",
        ("python3-numpy", "libblas3", "liblapack3", "libgfortran5", "libatomic1"),
        ("manylinux_2_34_armv7l",), (), ("tflite-runtime==2.14.0",),
    ),
}  # fmt: skip


def root_path(arch):
    """Return the folder of an architecture's system; each set of contents has its own, so that
    versions coexist.

    Raises
    ------
    UserError
        As `wheels`.
    """
    return (
        cache_folder()
        / f"{arch}-{hashlib.sha256(json.dumps(contents(arch)).encode()).hexdigest()[:8]}"
    )


def wheels(arch):
    """Return the Python requirements of a system, as pip takes them.

    Raises
    ------
    UserError
        If a runtime is not installed here, so that there is no version to match.
    """
    try:
        return [f"{name}=={version(name)}" for name in ROOTS[arch].same] + list(ROOTS[arch].pinned)
    except PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'xmae[edge]'") from None


def contents(arch):
    """Return everything that defines this version's system: its packages, and the source of its
    runner.
    """
    made = ROOTS[arch]
    runner = sha256(RUNNER) if "executorch" in made.same else None
    return {"debian": [*PYTHON, *made.debian], "wheels": wheels(arch), "runner": runner}


def is_set_up(arch):
    """Tell whether qemu-user and the system are installed, with the versions of the runtimes that
    are installed here.
    """
    try:
        return bool(shutil.which(ROOTS[arch].qemu)) and (root_path(arch) / MARKER).is_file()
    except UserError:  # no version to match
        return False


def setup_roots():
    """Build both systems at the same time, unless they exist; return their folders.

    Raises
    ------
    UserError
        If qemu-user, apt, dpkg or a runtime is missing, or a package cannot be fetched.
    """
    with ThreadPoolExecutor(len(ROOTS)) as pool:  # they wait for downloads
        return list(pool.map(setup_root, ROOTS))


def setup_root(arch):
    """Build one system, unless it exists; return its folder."""
    made, path = ROOTS[arch], root_path(arch)
    for tool, package in ((made.qemu, "qemu-user"), ("apt-get", "apt"), ("dpkg", "dpkg")):
        if shutil.which(tool) is None:
            raise UserError(f"{tool} is not installed; apt-get install {package}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if is_set_up(arch):
            return path
        with atomic_folder(path, MARKER) as folder, tempfile.TemporaryDirectory() as scratch:
            for package in fetch_debian(Path(scratch), arch):
                command(["dpkg", "-x", package, folder])
            platforms = list(chain.from_iterable(("--platform", name) for name in made.platforms))
            command(
                [
                    *PIP_INSTALL,
                    *platforms,
                    "--python-version",
                    "3.11",
                    "--target",
                    folder / "site",
                    *wheels(arch),
                ]
            )
            if "executorch" in made.same:
                build_runner(folder, made.triplet)
            (folder / MARKER).write_text(json.dumps(contents(arch)))
    return path


def fetch_debian(folder, arch):
    """Download Debian packages with a private apt configuration, so that the machine's package
    lists stay unchanged.
    """
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "APT::Architecture": arch, "APT::Architectures": arch,
        "Dir::State::status": folder / "status", "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        "Acquire::Retries": 3,
    }  # fmt: skip
    apt = [
        "apt-get",
        "-qq",
        *chain.from_iterable(("-o", f"{key}={value}") for key, value in options.items()),
    ]
    words = [str(word) for word in (*apt, "update")]
    # one list of several may fail: what counts is this:
    update = subprocess.run(words, capture_output=True, text=True)
    try:
        command([*apt, "download", *PYTHON, *ROOTS[arch].debian], cwd=folder / "debs")
    except UserError as error:
        raise UserError(f"{error} {update.stderr.strip()[-300:]}".strip()) from None
    return sorted((folder / "debs").glob("*.deb"))


def build_runner(folder, triplet):
    """Compile the runner of `.pte` files against ExecuTorch's headers and libraries, and keep only
    those of the wheel.

    Compiled with libstdc++'s headers, as the libraries are: an exception that crosses over finds
    its handler.
    """
    wheel, cxx = folder / "site" / "executorch", folder / "usr" / "include"
    headers = (
        cxx / "c++/12", cxx / triplet / "c++/12", wheel / "include",
        wheel / "include/executorch/runtime/core/portable_type/c10",
    )  # fmt: skip
    build(
        [
            *zig(
                "c++",
                "-target",
                f"{triplet}.2.36",
                "-std=c++17",
                "-O1",
                "-w",
                "-nostdinc++",
                "-nostdlib++",
            ),
            "-fno-exceptions",
            "-fno-rtti",
            "-DC10_USING_CUSTOM_GENERATED_MACROS",
            *(f"-I{header}" for header in headers),
            RUNNER,
            "-o",
            folder / "run_pte",
            "-Wl,--no-as-needed",
            f"-L{wheel / 'lib'}",
            *(f"-l{name}" for name in ET_LIBRARIES),
            folder / f"usr/lib/{triplet}/libstdc++.so.6",
        ]
    )
    (folder / "et").mkdir()
    for name in ET_LIBRARIES:
        os.rename(wheel / "lib" / f"lib{name}.so", folder / "et" / f"lib{name}.so")
    for path in (wheel, cxx):
        shutil.rmtree(path)


def command(words, **options):
    """Run a program; on failure, or after `timeout` s, raise an error with its messages."""
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, **options
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{words[0]} did not end within {error.timeout:g} s") from None
    if done.returncode:
        raise UserError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
