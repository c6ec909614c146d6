"""A bundle's folder `c` with a student for PPG and acceleration: on this machine it gives Python's
numbers, without a warning.
"""

import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.errors import UserError
from xmae.export.bundle.schema import CLibrary
from xmae.export.export import check_moving
from xmae.export.motion import write_int8, write_motion_vectors
from xmae.export.stream import int8_file
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.vectors import write_vectors
from xmae.firmware_sim.emulators.qemu import have_qemu
from xmae.manifest import checked
from xmae.models import load_encoder

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
RESTING = PackagedStudent(
    "student", "beats-mcu", int8_file("beats-mcu"), {}, shipped_certainty("beats-mcu")
)
MOVING = PackagedStudent(
    "student-motion", "student-motion", int8_file("student-motion"), {},
    shipped_certainty("student-motion"),
)  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the folder `c` and its part of the manifest."""
    folder = tmp_path_factory.mktemp("moving")
    described = write_package(folder, [RESTING, MOVING])
    write_motion_vectors(folder, [MOVING])
    return folder, described


def said(folder):
    """Compile `test_motion.c` strictly and run it: what it says."""
    sources = [*folder.glob("src/*.c"), *folder.glob("models/*.c")]
    sources += [folder / "examples" / "port_host.c", folder / "tests" / "test_motion.c"]
    include = [f"-I{folder / name}" for name in ("include", "src", "examples", "tests")]
    words = ["gcc", "-std=c99", "-O1", *STRICT, *include, *sources, "-o", folder / "test_motion"]
    subprocess.run(list(map(str, words)), check=True)
    return subprocess.run([folder / "test_motion"], capture_output=True, text=True).stdout


def test_a_moving_person_is_read_as_in_python(package):
    assert said(package[0]) == "all numbers are those of Python\n"


def test_a_wrong_number_is_found(package, tmp_path):
    folder = shutil.copytree(package[0], tmp_path / "c")
    header = folder / "tests" / "vectors_motion.h"
    text = header.read_text()
    last = re.search(r"(\d+)\},\n\};\nstatic const int64_t motion_beats", text)
    header.write_text(text[: last.start(1)] + str(int(last[1]) ^ 1) + text[last.end(1) :])
    assert said(folder) == "a result differs\n"


def test_the_person_moves_and_is_followed(package):
    """Else the vectors would say little."""
    text = (package[0] / "tests" / "vectors_motion.h").read_text()
    table = text[text.index("motion_results[") : text.index("motion_beats[")]
    rows = [re.findall(r"-?\d+", row) for row in re.findall(r"\{([^{}]+)\}", table)]
    results = np.array(rows, np.int64)
    rate, activity, followed = results[:, 1], results[:, 10], results[:, 11]
    assert (activity > 100).sum() > 10 and (rate > 0).sum() > 10 and len(np.unique(followed)) > 5


def test_the_manifest_says_which_model_takes_acceleration(package):
    folder, described = package
    checked(described, CLibrary, "manifest.json")
    assert [model["takes_acceleration"] for model in described["models"]] == [False, True]
    assert described["models"][1]["embed_bytes"] == 0
    readme = (folder / "README.md").read_text()
    assert "| `xmae_model_student_motion` | beats, with acceleration |" in readme
    assert "XMAE_MODEL_STUDENT_MOTION" in (folder / "zephyr" / "Kconfig").read_text()


def test_the_readme_s_c_compiles_as_it_stands(package):
    readme = (package[0] / "README.md").read_text()
    blocks = re.findall(r"^```c\n(.*?)^```", readme, re.M | re.S)
    assert len(blocks) == 2 and "xmae_motion_push" in blocks[1]
    words = ["gcc", "-std=c99", *STRICT, f"-I{package[0] / 'include'}", "-fsyntax-only", "-xc", "-"]
    done = subprocess.run(words, input="".join(blocks), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.extended
@pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_a_student_of_ones_own_is_read_as_in_python_on_host_and_cortex_m4(tmp_path):
    """One of other weights than the shipped one's, from its float weights to both machines."""
    encoder = load_encoder("student-motion")
    generator = torch.Generator().manual_seed(14)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator))
    write_int8(encoder, "wrist.safetensors", tmp_path / "wrist_int8.tflite")
    own = replace(MOVING, model="student-wrist", name="wrist", path=tmp_path / "wrist_int8.tflite")
    assert own.path.read_bytes() != MOVING.path.read_bytes()
    folder = tmp_path / "c"
    write_package(folder, [RESTING, own])
    write_vectors(folder, [RESTING])
    write_motion_vectors(folder, [own])
    assert "xmae_model_wrist_tracker" in (folder / "README.md").read_text()
    for name, options in (
        ("host", []),
        ("m4", ["-DCMAKE_TOOLCHAIN_FILE=cmake/cortex-m4.cmake", "-DCMAKE_BUILD_TYPE=Release"]),
    ):
        for words in (
            ["cmake", "-S", ".", "-B", name, *options],
            ["cmake", "--build", name],
            ["ctest", "--test-dir", name],
        ):
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert "100% tests passed, 0 tests failed out of 4" in done.stdout


def test_a_library_needs_a_student_for_ppg_alone(tmp_path):
    with pytest.raises(UserError, match="PPG alone"):
        write_package(tmp_path, [MOVING])


@pytest.mark.parametrize(
    ("students", "formats", "words"),
    [(["student-motion"], ["c"], "PPG alone before it"),
     (["student", "student-motion"], ["litert"], "only --targets c")],
)  # fmt: skip
def test_an_export_that_cannot_carry_it_says_why(students, formats, words):
    moving = {"student-motion": SimpleNamespace()}
    with pytest.raises(UserError, match=words):
        check_moving(moving, dict.fromkeys(students), formats)


def test_without_such_students_nothing_is_asked():
    check_moving({}, {"student": None}, ["litert"])
