"""The folder `c` of a bundle: builds without a warning, tests itself, prints what Python prints,
and is the same twice.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from xmae.beats.certainty import Certainty
from xmae.errors import UserError
from xmae.evaluation.heads.head import Head
from xmae.evaluation.heads.heads import HEADS, written
from xmae.export.bundle.bundle import Bundle, preprocessing, seal
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.schema import Manifest
from xmae.export.bundle.verify import SAME, check_library, verify
from xmae.export.stream import Stream
from xmae.export.targets.c.head_codes import head_code
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.network import StreamNetwork, reads_beats
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.targets.c.window import WindowNetwork, requantize, scale_window
from xmae.export.vectors import BITS, HZ, recording_codes, write_vectors
from xmae.files import write_json
from xmae.firmware_sim.emulators.qemu import have_qemu
from xmae.manifest import checked
from xmae.version import __version__

FIXTURES = Path(__file__).parents[1] / "fixtures"
ROOT = Path(__file__).parents[2]
MODEL = FIXTURES / "beat_student_untrained.tflite"
TABLE = Certainty(np.arange(2000, 400, -100), 100)  # so that an untrained model says something
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
EMBEDDING = 57  # tensor of the model


def changed(path, change):
    """Write the model with something changed in its flatbuffer."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(MODEL.read_bytes(), 0)
    change(model, schema)
    builder = flatbuffers.Builder(1 << 17)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def without_map(model, schema):
    """Leave the embedding alone."""
    graph = model.subgraphs[0]
    needed, kept = {EMBEDDING}, []
    for operator in reversed(graph.operators):
        if needed & set(operator.outputs.tolist()):
            needed |= set(operator.inputs.tolist())
            kept.insert(0, operator)
    graph.operators, graph.outputs = kept, np.array([EMBEDDING], np.int32)


def shifted_input(model, schema):
    """Give the input, and its copies before the first layer, a zero point of 3."""
    for number in (0, 36, 37):
        model.subgraphs[0].tensors[number].quantization.zeroPoint = np.array([3])


def random_heads(seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 3, 256).tolist()
    return {
        "hr": Head(kind="regression", units="bpm", label="Heart rate", weight=weight, bias=70.0),
        "af": Head(kind="binary", units="", label="AF", weight=weight[::-1], bias=-0.3),
    }


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """Return a student that reads beats and has two heads, and one that only embeds."""
    path = changed(tmp_path_factory.mktemp("models") / "plain_int8.tflite", without_map)
    return [
        PackagedStudent("student", "untrained", MODEL, random_heads(1), TABLE),
        PackagedStudent("student-plain", "plain", path, random_heads(2)),
    ]


@pytest.fixture(scope="module")
def package(students, tmp_path_factory):
    """Return the folder `c` and its part of the manifest."""
    folder = tmp_path_factory.mktemp("package")
    described = write_package(folder, students)
    write_vectors(folder, students)
    return folder, described


def compiled(folder, program, *flags, compiler="gcc"):
    """Compile one of the package's programs for this machine."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    sources = [
        *folder.glob("src/*.c"),
        *folder.glob("models/*.c"),
        folder / "examples" / "port_host.c",
    ]
    include = [f"-I{folder / name}" for name in ("include", "src", "examples", "data", "tests")]
    out = folder / Path(program).stem
    words = [compiler, "-std=c99", "-O1", *flags, *include, *sources, folder / program, "-o", out]
    subprocess.run(list(map(str, words)), check=True)
    return out


def test_two_models_in_one_image_give_pythons_numbers_stage_by_stage(package):
    done = subprocess.run(
        [compiled(package[0], "tests/test_vectors.c")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "all numbers are those of Python\n")


def test_a_wrong_number_in_the_vectors_is_found(package, tmp_path):
    folder = shutil.copytree(package[0], tmp_path / "c")
    header = folder / "tests" / "vectors.h"
    text = header.read_text()
    at = text.index("{", text.index("plain_embeddings[")) + 1
    number = re.compile(r"-?\d+").search(text, at)
    header.write_text(text[: number.start()] + str(int(number[0]) ^ 1) + text[number.end() :])
    done = subprocess.run(
        [compiled(folder, "tests/test_vectors.c")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "an embedding differs\n")


def test_bad_input_is_refused_with_the_state_intact(package):
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = compiled(package[0], "tests/test_bad_input.c", *sanitize)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "bad input is refused\n"), done.stderr


def test_the_example_prints_what_python_prints(package):
    done = subprocess.run(
        [compiled(package[0], "examples/read_recording.c")], capture_output=True, text=True
    )
    stream = Stream(MODEL, HZ, BITS, certainty=TABLE)
    expected = [stream.line(result) for result in stream.push(recording_codes())]
    assert done.returncode == 0 and done.stdout.splitlines() == expected
    assert len(expected) == 58 and any("bpm" in line for line in expected)


def compilers():
    """Return the command lines for C99 and for C++17, by name."""
    zig = [sys.executable, "-m", "ziglang"]
    return {
        "gcc": (["gcc"], ["g++"]),
        "clang": (["clang"], ["clang++"]),
        "zig": ([*zig, "cc"], [*zig, "c++"]),
    }


@pytest.mark.parametrize("name", compilers())
def test_no_compiler_warns(name, package, tmp_path):
    """C99 and C++17, the library and the program that a user copies."""
    found = find_spec("ziglang") if name == "zig" else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    folder = package[0]
    include = [f"-I{folder / place}" for place in ("include", "src", "examples", "data")]
    for source in [
        *folder.glob("src/*.c"),
        *folder.glob("models/*.c"),
        folder / "examples/read_recording.c",
    ]:
        for command, standard in zip(
            compilers()[name], (["-std=c99"], ["-x", "c++", "-std=c++17"]), strict=True
        ):
            words = [*command, *standard, *STRICT, *include, "-c", source, "-o", tmp_path / "x.o"]
            done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not find_spec("ziglang"), reason="ziglang is not installed")
@pytest.mark.parametrize("cpu", ["cortex_m4+vfp4d16sp", "cortex_m55+mve_fp+fp_armv8d16"])
def test_no_compiler_warns_about_the_fast_kernels(cpu, package, tmp_path):
    folder = package[0]
    fast = ["-target", "thumb-freestanding-eabihf", f"-mcpu={cpu}"]
    include = ["-isystem", folder / "examples/cortex_m/freestanding", f"-I{folder / 'src'}"]
    for kind in ("dsp", "mve"):
        for command, standard in (("cc", ["-std=c99"]), ("c++", ["-x", "c++", "-std=c++17"])):
            words = [sys.executable, "-m", "ziglang", command, *fast, *standard, *STRICT, *include]
            words += ["-c", folder / "src" / f"xmae_kernels_{kind}.c", "-o", tmp_path / "x.o"]
            done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_every_name_has_its_prefix(package):
    folder = package[0]
    program = compiled(folder, "examples/read_recording.c")
    listed = subprocess.run(
        ["nm", "-g", "--defined-only", program], capture_output=True, text=True
    ).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    own = {name for name in names if not name.startswith("_")} - {
        "main",
        "say",
        "data_start",
        "stdout",
    }
    assert "xmae_push" in own
    assert not {name for name in own if not name.startswith("xmae_") and "@" not in name}
    for header in folder.glob("include/xmae/*.h"):
        macros = re.findall(r"#define (\w+)", header.read_text())
        assert macros and all(macro.startswith("XMAE_") for macro in macros)


def test_every_public_symbol_is_described(package):
    """A comment of doxygen stands before each function and macro, or behind a macro, and each
    parameter is named in it.
    """
    for header in package[0].glob("include/xmae/*.h"):
        text = header.read_text()
        for line in re.finditer(r"^#define (XMAE_\w+) .*", text, re.M):
            above = text[: line.start()].rstrip().splitlines()[-1]
            own = above.endswith("*/") and "/**<" not in above
            assert own or "/**<" in line[0], line[0]
        for declared in re.finditer(r"^\w[\w* ]*?(xmae_\w+)\(([^)]*)\);", text, re.M):
            comment = text[: declared.start()].rstrip().rpartition("/**")[2]
            assert "@brief" in comment and comment.endswith("*/"), declared[0]
            for parameter in declared[2].split(","):
                name = re.search(r"(\w+)$", parameter.strip())[1]
                assert name == "void" or f"@param {name} " in comment, declared[0]


def test_version_and_licence_are_in_every_file(package):
    folder = package[0]
    assert f'#define XMAE_VERSION "{__version__}"' in (folder / "include/xmae/xmae.h").read_text()
    assert f"VERSION {__version__} " in (folder / "CMakeLists.txt").read_text()
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for path in (path for path in folder.rglob("*.[ch]") if path.parent.name != "network"):
        assert "SPDX-License-Identifier: " in path.read_text()[:60], path


def test_written_twice_it_is_the_same_to_the_byte(package, students, tmp_path):
    again = write_package(tmp_path, students)
    assert again == package[1]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert path.read_bytes() == (package[0] / path.relative_to(tmp_path)).read_bytes(), path


def test_the_manifest_lists_what_is_configuration(package):
    folder, described = package
    text = (folder / "include/xmae/xmae.h").read_text()
    limit = {name: int(value) for name, value in re.findall(r"#define XMAE_(M\w+) (\d+)u", text)}
    assert described["rates_hz"] == [limit["MIN_RATE"] // 1000, limit["MAX_RATE"] // 1000]
    assert described["bits"] == [limit["MIN_BITS"], limit["MAX_BITS"]]
    assert described["hop_s"] == [1, limit["MAX_HOP_S"]]
    assert described["channels"] == [1, limit["MAX_CHANNELS"]]
    assert [model["reads_beats"] for model in described["models"]] == [True, False]
    for model in described["models"]:
        header = (folder / f"include/xmae/xmae_model_{model['name']}.h").read_text()
        assert f"_BYTES {model['memory_bytes']}u" in header
        assert f"_EMBED_BYTES {model['embed_bytes']}u" in header


def test_embeddings_are_those_of_the_reference_kernels():
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    network = WindowNetwork(MODEL)
    reference = Interpreter(str(MODEL), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    entrance, exit = (
        ends()[0]["index"] for ends in (reference.get_input_details, reference.get_output_details)
    )
    rng = np.random.default_rng(0)
    for _ in range(4):
        window = np.clip(np.cumsum(rng.integers(-20, 21, 1000)), -127, 127).astype(np.int8)
        reference.set_tensor(entrance, window.reshape(1, 1, 1, 1000))
        reference.invoke()
        expected = reference.get_tensor(exit).ravel()[:256]
        # FULLY_CONNECTED of LiteRT's reference kernels rounds otherwise, by a step
        assert np.abs(network.embed(window) - expected.astype(int)).max() <= 1


def test_heads_in_whole_numbers_are_those_in_float():
    head, scale, zero = random_heads(5)["hr"], 0.0085, -7
    codes = np.random.default_rng(0).integers(-128, 128, 256).astype(np.int8)
    expected = scale * (codes.astype(float) - zero) @ np.array(head.weight) + head.bias
    assert head_code("hr", head, scale).value(codes, zero) == pytest.approx(
        1000 * expected, abs=0.51
    )


@pytest.mark.parametrize("span", [0, 1, 9, 1000, 65535, 65536, 2**30])
def test_a_window_is_scaled_by_its_range(span):
    """Against the definition in float: lowest -1, highest 1."""
    deviations = np.linspace(-span // 2, span // 2, 1000).astype(np.int64)
    codes = scale_window(deviations, 32640, 0).astype(float)
    low, high = deviations.min(), deviations.max()
    expected = (2 * (deviations - low) / max(high - low, 1) - (high > low)) * 127.5
    assert np.abs(codes - np.clip(expected, -128, 127)).max() <= 0.6


def test_a_student_whose_input_has_a_zero_point_is_read(tmp_path):
    """Samples are moved by it: what the first layer sees less its zero point stays the same."""
    shifted, plain = (
        StreamNetwork(changed(tmp_path / "3.tflite", shifted_input)),
        StreamNetwork(MODEL),
    )
    assert shifted.input_zero == 3
    samples = np.random.default_rng(0).integers(-100, 101, 1000)
    np.testing.assert_array_equal(shifted.push(samples), plain.push(samples))
    assert library_model(tmp_path / "3.tflite", TABLE, "x").window.input_zero == 3


def test_scales_that_differ_before_the_concatenation_are_taken(tmp_path):
    """LiteRT then puts a QUANTIZE there; its codes are those of the reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def requantized(model, schema):
        graph = model.subgraphs[0]
        narrow = schema.TensorT()
        vars(narrow).update(vars(graph.tensors[EMBEDDING]))
        narrow.quantization = schema.QuantizationParametersT()
        narrow.quantization.scale, narrow.quantization.zeroPoint = (
            np.array([0.011], np.float32),
            np.array([4]),
        )
        graph.tensors.append(narrow)
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
        code.version = 2
        model.operatorCodes.append(code)
        quantize = schema.OperatorT()
        quantize.opcodeIndex = len(model.operatorCodes) - 1
        quantize.inputs = np.array([len(graph.tensors) - 1], np.int32)
        quantize.outputs = np.array([EMBEDDING], np.int32)
        for operator in graph.operators:
            if EMBEDDING in operator.outputs:
                operator.outputs = np.array([len(graph.tensors) - 1], np.int32)
        graph.operators.insert(len(graph.operators) - 1, quantize)

    path = changed(tmp_path / "q.tflite", requantized)
    assert "QUANTIZE" in [layer.op for layer in read_layers(path)[1]] and reads_beats(path)
    reference = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    reference.allocate_tensors()
    window = np.random.default_rng(1).integers(-100, 101, 1000).astype(np.int8)
    reference.set_tensor(reference.get_input_details()[0]["index"], window.reshape(1, 1, 1, 1000))
    reference.invoke()
    network = WindowNetwork(path)
    last = network.layers[max(network.layers)]
    assert last.op == "QUANTIZE"
    before = reference.get_tensor(last.inputs[0]).ravel()
    np.testing.assert_array_equal(requantize(last, before), reference.get_tensor(EMBEDDING).ravel())


def test_two_students_of_one_name_are_refused(tmp_path):
    students = [PackagedStudent(name, name, MODEL) for name in ("student-mcu", "student_mcu")]
    with pytest.raises(UserError, match="same name in C"):
        write_package(tmp_path, students)


def test_heads_of_another_width_are_refused(tmp_path):
    head = random_heads(1)["hr"].model_copy(update={"weight": [1.0, 2.0]})
    with pytest.raises(UserError, match="not as wide"):
        write_package(tmp_path, [PackagedStudent("student", "x", MODEL, {"hr": head})])


def test_another_network_is_refused(tmp_path):
    (tmp_path / "no.tflite").write_bytes(b"TFL3" * 20)
    with pytest.raises(UserError, match="no.tflite"):
        library_model(tmp_path / "no.tflite", TABLE, "x")


@pytest.fixture(scope="module")
def bundle(students, tmp_path_factory):
    """Return a bundle with the folder `c`."""
    folder = tmp_path_factory.mktemp("with_c") / "bundle"
    folder.mkdir()
    inside = [replace(s, path=folder / f"{s.model}_int8.tflite") for s in students]
    for before, after in zip(students, inside, strict=True):
        shutil.copy(before.path, after.path)
    described = write_package(folder / "c", inside)
    write_json(folder / HEADS, written({student.model: student.heads for student in students}))
    window = {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    certainty = {"student": {"half_width": TABLE.half_width.tolist(), "least": TABLE.least}}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "window": window,
        "preprocessing": preprocessing(),
    }
    seal(folder, manifest | {"models": [], "certainty": certainty, "c": described})
    return Bundle.open(folder)


def test_verify_compares_the_library_with_the_int8_files(bundle):
    assert check_library(bundle) == {"untrained": SAME, "plain": SAME}
    assert "c/include/xmae/xmae.h" in bundle.manifest.files


def test_verify_finds_a_model_with_other_weights(bundle, tmp_path, monkeypatch):
    """Sealed again, so that every hash is right."""
    monkeypatch.setattr(sys.modules["xmae.export.bundle.verify"], "run_models", lambda bundle: {})
    folder = shutil.copytree(bundle.path, tmp_path / "bundle")
    path = folder / "c" / "models" / "xmae_model_plain.c"
    text = path.read_text()
    number = re.compile(r"-?\d+").search(text, text.index("weights_02[") + 20)
    path.write_text(text[: number.start()] + str(int(number[0]) ^ 1) + text[number.end() :])
    seal(folder, bundle.manifest.as_json())
    states = verify(str(folder))
    assert not states["passed"]
    assert "models/xmae_model_plain.c differs" in states["library"]["plain"]


def test_a_file_outside_the_manifest_is_found_in_the_folder_too(bundle, tmp_path):
    folder = shutil.copytree(bundle.path, tmp_path / "bundle")
    (folder / "c" / "src" / "more.c").write_text("int more;")
    assert verify(str(folder), run=False)["unlisted"] == ["c/src/more.c"]


@pytest.mark.parametrize("name", ["c/../../x.c", "/etc/passwd", "c//x.c", "c/.hidden", "../x"])
def test_a_name_that_leads_out_of_the_bundle_is_refused(bundle, name):
    manifest = bundle.manifest.as_json() | {"files": {name: "0" * 64}}
    with pytest.raises(UserError, match="no plain path"):
        checked(manifest, Manifest, "manifest.json")


def cmake(folder, out, *words):
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(out),  # zig keeps a cache there
    }
    for line in (["cmake", "-S", folder, "-B", out, *words], ["cmake", "--build", out]):
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    return environment


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_cmake_builds_tests_installs_and_finds_it(package, tmp_path):
    environment = cmake(
        package[0], tmp_path / "build", f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'there'}"
    )
    for line in (
        ["ctest", "--test-dir", tmp_path / "build"],
        ["cmake", "--install", tmp_path / "build"],
    ):
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout
    project = tmp_path / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(mine C)\nfind_package(xmae {__version__} "
        "REQUIRED)\n"
        "add_executable(mine main.c)\ntarget_link_libraries(mine xmae::xmae)\n"
    )
    (project / "main.c").write_text(
        "#include <xmae/xmae_model_untrained.h>\n"
        "int main(void) { return xmae_check_model(&xmae_model_untrained) == XMAE_OK ? 0 : 1; }\n"
    )
    cmake(project, tmp_path / "mine", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}")
    assert subprocess.run([tmp_path / "mine" / "mine"]).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_its_tests_pass_on_an_emulated_cortex_m4(package, tmp_path):
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={package[0] / 'cmake' / 'cortex-m4.cmake'}"
    environment = cmake(package[0], tmp_path, toolchain, "-DCMAKE_BUILD_TYPE=Release")
    done = subprocess.run(
        ["ctest", "--test-dir", tmp_path], capture_output=True, text=True, env=environment
    )
    assert "100% tests passed, 0 tests failed out of 3" in done.stdout, done.stdout


def blocks_of(readme):
    """Return the fenced blocks of a README before its section on limits: (language, text)."""
    before = readme.partition("## What it takes without being made anew")[0]
    return re.findall(r"^```(sh|cmake|python)\n(.*?)^```", before, re.M | re.S)


@pytest.mark.extended
@pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_the_readme_works_as_it_stands(bundle, students, tmp_path):
    """A new project on host and Cortex-M4 prints the lines of Python, by the README's own lines."""
    folder = shutil.copytree(bundle.path, tmp_path / "bundle")
    write_vectors(folder / "c", students)
    seal(folder, bundle.manifest.as_json())
    files = {"cmake": "mine/CMakeLists.txt", "python": "libxmae/lines.py"}
    commands = ["set -e"]
    for language, text in blocks_of((folder / "c" / "README.md").read_text()):
        if language == "sh":
            commands.append(text)
        else:
            commands.append(f"cat > {tmp_path / files[language]} <<'END'\n{text}END")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len((tmp_path / "mine" / "python.txt").read_text().splitlines()) == 58
    assert verify(str(folder), run=False)["unlisted"] == []
