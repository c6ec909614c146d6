"""The recipe for TensorFlow Lite Micro: in the real interpreter, its program with stand-ins."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from xmae.beats.certainty import Certainty
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.targets.c.tflm_recipe import ADDERS
from xmae.export.vectors import make_vectors, recording_codes, write_vectors

MODEL = Path(__file__).parents[1] / "fixtures" / "beat_student_untrained.tflite"
STUBS = Path(__file__).with_name("package_stubs") / "tflm"
TABLE = Certainty(np.arange(2000, 400, -100), 100)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the folder `c`, and windows and embeddings as Python has them."""
    folder = tmp_path_factory.mktemp("bundle") / "c"
    student = PackagedStudent("student", "untrained", MODEL, {}, TABLE)
    write_package(folder, [student])
    write_vectors(folder, [student])
    model = library_model(MODEL, TABLE, "untrained", {})
    return folder, make_vectors(student, model, recording_codes())


def recipe(folder):
    """Return the recipe of the model."""
    return (folder / "tflm" / "xmae_tflm_untrained.h").read_text()


@pytest.fixture(scope="module")
def interpreted(package):
    """Return what the real interpreter gives for the windows, in the arena of the recipe."""
    runtime = pytest.importorskip("tflite_micro").runtime
    folder, vectors = package
    arena = int(re.search(r"ARENA_BYTES (\d+)u", recipe(folder))[1])
    interpreter = runtime.Interpreter.from_file(str(MODEL), arena_size=arena)
    codes = []
    for window in vectors.windows:
        interpreter.set_input(window.reshape(1, 1, 1, 1000), 0)
        interpreter.invoke()
        codes.append(interpreter.get_output(0).ravel())
    return np.array(codes)


def test_the_interpreter_gives_libxmaes_embeddings_in_the_arena(package, interpreted):
    np.testing.assert_array_equal(interpreted[:, :256], package[1].embeddings)


def test_the_operators_are_those_of_the_model(package):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(MODEL.read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    expected = {ADDERS[names[code.builtinCode]] for code in model.operatorCodes}
    assert set(re.findall(r"resolver->(\w+)\(", recipe(package[0]))) == expected
    assert f"OpResolver<{len(expected)}>" in recipe(package[0])


def test_the_program_prints_what_the_interpreter_gives(package, interpreted, tmp_path):
    """TensorFlow Lite Micro's C++ is not here: its stand-in runs the network of the package."""
    folder = package[0]
    (tmp_path / "model.cc").write_text("extern const unsigned char model_file[] = {0};\n")
    include = [f"-I{folder / name}" for name in ("include", "src", "examples", "data", "network")]
    objects = []
    network = folder / "network" / f"{MODEL.stem}.c"
    library = [*folder.glob("src/*.c"), folder / "models" / "xmae_model_untrained.c", network]
    for number, source in enumerate([*library, folder / "examples" / "port_host.c"]):
        objects.append(tmp_path / f"{number}.o")
        words = ["gcc", "-std=c99", "-O1", *include, "-c", source, "-o", objects[-1]]
        subprocess.run(words, check=True)
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    words = ["g++", *strict, *include, f"-I{STUBS}", f"-I{folder / 'tflm'}"]
    words += [folder / "tflm" / "embed_recording.cc", tmp_path / "model.cc", *objects]
    subprocess.run([*words, "-o", tmp_path / "embed"], check=True)
    done = subprocess.run([tmp_path / "embed"], check=True, capture_output=True, text=True)
    printed = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    np.testing.assert_array_equal(printed, interpreted)
