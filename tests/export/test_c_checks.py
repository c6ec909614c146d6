"""C source is formatted, and cppcheck and clang-tidy find nothing in what is exported."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmae.export.targets.c.package import PackagedStudent, write_package

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "fixtures" / "beat_student_untrained.tflite"
WRITTEN = ROOT / "export" / "targets" / "c"
C_FILES = re.compile(r".*\.(c|h|cc|cpp|ino)")
LIBRARY = ("-Iinclude", "-Isrc")
CORTEX_M = "examples/cortex_m/freestanding"  # its headers
# the analyzer does not see what assembly writes, its text takes no parentheses, shifts are int8
BESIDE_ASSEMBLY = ",".join(
    (
        "-clang-analyzer-core.UndefinedBinaryOperatorResult",
        "-bugprone-macro-parentheses",
        "-bugprone-signed-char-misuse",
        "-cert-str34-c",
    )
)
TARGETS = {  # by clang-tidy's words for the compiler: files of the library that matter there
    "host": ((), "*"),
    "Cortex-M4": (("--target=thumbv7em-none-eabihf", "-mcpu=cortex-m4"), "xmae_kernels_dsp"),
    "Cortex-M55": (
        ("--target=thumbv8.1m.main-none-eabihf", "-mcpu=cortex-m55"),
        "xmae_kernels_mve",
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the folder `c` of a bundle with one model."""
    folder = tmp_path_factory.mktemp("bundle") / "c"
    write_package(folder, [PackagedStudent("student", "untrained", MODEL)])
    return folder


def program(name, pinned=False):
    """Return a tool's path: of this environment, else of the system; skip without one.

    Versions of clang-format differ, so only the pinned one says what is right.
    """
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.exists() else shutil.which(name)
    if not found or pinned and found != beside:
        pytest.skip(f"{name} is not installed")
    return found


def unformatted(files):
    """Return what clang-format says of files that it would change."""
    words = [program("clang-format", pinned=True), f"--style=file:{ROOT / '.clang-format'}"]
    words += ["--dry-run", "--Werror", "--ferror-limit=3", *files]
    return subprocess.run(words, capture_output=True, text=True).stderr


def c_files(folder):
    """Return the C files below a folder."""
    return [path for path in sorted(folder.rglob("*")) if C_FILES.fullmatch(path.name)]


def test_committed_c_is_formatted():
    """All but the examples, which have words to fill in that are no C."""
    folders = [ROOT / name for name in ("tests", "firmware_sim", "export")]
    files = [path for folder in folders for path in c_files(folder)]
    files = [path for path in files if WRITTEN / "package" not in path.parents]
    assert len(files) > 40
    assert unformatted(files) == ""


def test_what_the_exporter_writes_is_formatted(package):
    files = c_files(package)
    assert {"network", "models", "src", "examples", "xmae"} <= {path.parent.name for path in files}
    assert unformatted(files) == ""


def test_a_file_that_is_not_formatted_is_found(tmp_path):
    text = (WRITTEN / "kernels" / "xmae_kernels.c").read_text()
    path = tmp_path / "xmae_kernels.c"
    path.write_text(text.replace("  for (", " for (", 1))
    assert "xmae_kernels.c" in unformatted([path])


@pytest.mark.extended
@pytest.mark.parametrize("define", ["XMAE_PLAIN", "XMAE_DSP"])
def test_cppcheck_finds_nothing(define, package):
    words = [program("cppcheck"), "--std=c99", "--enable=warning,style,performance,portability"]
    words += ["--error-exitcode=1", "--quiet", "--suppress=missingIncludeSystem", f"-D{define}"]
    words += [*LIBRARY, *(path.relative_to(package) for path in sorted(package.glob("src/*.c")))]
    done = subprocess.run(words, cwd=package, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.extended
@pytest.mark.parametrize("target", TARGETS)
def test_clang_tidy_finds_nothing(target, package):
    flags, pattern = TARGETS[target]
    include = (*LIBRARY, *(("-isystem", CORTEX_M) if flags else ()))
    words = [program("clang-tidy"), f"--config-file={ROOT / '.clang-tidy'}", "--quiet"]
    words += [path.relative_to(package) for path in sorted(package.glob(f"src/{pattern}.c"))]
    words += ["--", "-std=c99", *flags, *include]
    if pattern == "xmae_kernels_dsp":
        words.insert(1, f"--checks={BESIDE_ASSEMBLY}")
    done = subprocess.run(words, cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
