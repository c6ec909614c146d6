"""libxmae for phones: Java through JNI on this machine's JVM, vectors on an emulated aarch64."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from xmae.beats.certainty import Certainty
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.vectors import make_vectors, recording_codes, write_vectors

MODEL = Path(__file__).parents[1] / "fixtures" / "beat_student_untrained.tflite"
STUBS = Path(__file__).with_name("package_stubs") / "litert"
TABLE = Certainty(np.arange(2000, 400, -100), 100)
JAVA = Path("android/src/main/java/xmae")
BRIDGE = "android/src/main/cpp/xmae_jni.c"
AARCH64 = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def student():
    return PackagedStudent("student", "untrained", MODEL, {}, TABLE)


@pytest.fixture(scope="module")
def package(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "c"
    write_package(folder, [student])
    write_vectors(folder, [student])
    return folder


def jni_headers():
    """Return the folders of a JDK's jni.h; skip without one."""
    compiler = shutil.which("javac")
    if not compiler:
        pytest.skip("no JDK is installed")
    include = Path(compiler).resolve().parents[1] / "include"
    return [f"-I{include}", f"-I{include / 'linux'}"]


def run(words, folder, **more):
    """Run a program in a folder; return what it prints."""
    done = subprocess.run(
        [str(w) for w in words], cwd=folder, capture_output=True, text=True, **more
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def played(package):
    """Return what the Java stream prints for the shipped recording."""
    out = package.parent / "java"
    out.mkdir()
    sources = [*sorted((package / JAVA).glob("*.java")), *STUBS.rglob("*.java")]
    headers = jni_headers()
    library = sorted([*package.glob("src/*.c"), *package.glob("models/*.c")])
    words = ["gcc", "-std=c99", "-O1", "-shared", "-fPIC", *STRICT, *headers, "-Iinclude", "-Isrc"]
    run([*words, package / BRIDGE, *library, "-o", out / "libxmae_jni.so"], package)
    run(["javac", "-Xlint:all", "-Werror", "-d", out, *sources], package)
    codes = "\n".join(map(str, recording_codes()))
    words = ["java", "-Xcheck:jni", f"-Djava.library.path={out}", "-cp", out, "Play"]
    return run(words, package, input=codes).splitlines()


def numbers(line):
    """Return the numbers of a line."""
    return [int(number) for number in re.findall(r"-?\d+", line)]


def test_java_gives_pythons_numbers(played, student):
    model = library_model(MODEL, TABLE, "untrained", {})
    expected = make_vectors(student, model, recording_codes())
    windows = [numbers(line) for line in played if line.startswith("window")]
    embeddings = [numbers(line) for line in played if line.startswith("embedding")]
    lines = [line.partition(" beats ") for line in played if " beats " in line]
    np.testing.assert_array_equal([numbers(line[0]) for line in lines], expected.results)
    beats = np.array([n for line in lines for n in numbers(line[2])]).reshape(-1, 2)
    np.testing.assert_array_equal(beats, expected.beats)
    np.testing.assert_array_equal(windows, expected.windows)
    np.testing.assert_array_equal(embeddings, expected.embeddings)
    assert len(lines) == 58 and len(beats) > 20 and len(windows) == 5


def test_java_refuses_what_the_library_refuses(played):
    assert [line for line in played if "refused" in line] == [
        "refused: a code is out of range",
        *3 * ["refused: no array, negative numbers, or more codes than the array has"],
        "refused: rate out of range",
        "refused: bits out of range",
        "refused: hop out of range",
    ]


@pytest.mark.skipif(not find_spec("ziglang"), reason="ziglang is not installed")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="qemu-aarch64 is not installed")
@pytest.mark.parametrize("name", ["test_vectors", "test_bad_input"])
def test_vectors_pass_on_aarch64(name, package, tmp_path):
    sources = [*package.glob("src/*.c"), *package.glob("models/*.c")]
    sources += [package / "examples" / "port_host.c", package / "tests" / f"{name}.c"]
    include = [f"-I{part}" for part in ("include", "src", "examples", "data", "tests")]
    out = tmp_path / name
    run([*AARCH64, "-std=c99", "-O2", *include, *sources, "-o", out], package)
    said = run(["qemu-aarch64", out], package)
    assert said in ("all numbers are those of Python\n", "bad input is refused\n")


@pytest.mark.skipif(not find_spec("ziglang"), reason="ziglang is not installed")
def test_the_bridge_compiles_for_aarch64_without_a_warning(package, tmp_path):
    words = [*AARCH64, "-std=c99", *STRICT, "-Iinclude", *jni_headers(), "-c", BRIDGE]
    run([*words, "-o", tmp_path / "bridge.o"], package)
