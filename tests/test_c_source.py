"""The int8 student as C: bytes against TensorFlow Lite Micro, layer by layer and over a thousand real windows."""

import ctypes
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare_recording
from xmae.data.readers import read_recording
from xmae.errors import UserError
from xmae.export import litert
from xmae.export.c_layers import quantize_multiplier
from xmae.export.c_source import export, write_c
from xmae.export.session import to_int8
from xmae.export.targets import chosen_targets
from xmae.firmware_sim.compile import KERNELS, compile_host
from xmae.models import load_encoder
from xmae.quantize import exportable
from xmae.signals.scale import minmax_scale

pytest.importorskip("tflite_micro")
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def ppg():
    """More than a thousand real windows, scaled."""
    parts = [minmax_scale(prepare_recording(read_recording(path))[0].ppg)[0] for path in bidmc_files()]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def graph():
    return exportable(load_encoder("student-mcu"))


@pytest.fixture(scope="module")
def model(graph, ppg, tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "student_int8.tflite"
    litert.export(graph, path, "int8", ppg[:64])
    return path


class Built:
    """A generated model on this machine, and what TFLM makes of the same file."""

    def __init__(self, path, folder, trace=False):
        from tflite_micro import runtime

        self.info = write_c(path, folder)
        sources = [folder / "student_int8.c", *([DATA / "trace.c"] if trace else [])]
        library = compile_host(sources, folder / f"model{trace}.so", defines=["XMAE_TRACE=1"] if trace else [])
        self.library = ctypes.CDLL(str(library))
        config = runtime.InterpreterConfig
        self.micro = runtime.Interpreter.from_file(
            str(path),
            arena_size=8 * 2**20,
            intrepreter_config=config.kPreserveAllTensors if trace else config.kAllocationRecording,
        )
        self.shape = self.micro.get_input_details(0)["shape"]

    def c(self, codes):
        codes = np.ascontiguousarray(codes)
        output = np.zeros(256, np.int8)
        self.library.xmae_model(codes.ctypes.data_as(ctypes.c_void_p), output.ctypes.data_as(ctypes.c_void_p))
        return output

    def tflm(self, codes):
        self.micro.set_input(codes.reshape(self.shape), 0)
        self.micro.invoke()
        return self.micro.get_output(0).ravel().copy()


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    return Built(model, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def codes(model, ppg):
    return to_int8(ppg, *[litert.inspect_model(model)["input"][key] for key in ("scale", "zero_point")])


def test_a_thousand_real_windows_are_bit_exact(built, codes):
    assert len(codes) >= 1000
    outputs = [built.c(window) for window in codes]
    assert all(np.array_equal(c, built.tflm(window)) for c, window in zip(outputs, codes, strict=True))
    assert np.ptp(np.stack(outputs), 0).max() > 50  # they are not all the same


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(min_size=1000, max_size=1000),
        st.tuples(st.sampled_from([-128, -127, 0, 126, 127]), st.sampled_from([-128, 127]), st.integers(1, 300)).map(
            lambda kind: np.where(np.arange(1000) // kind[2] % 2, kind[0], kind[1]).astype(np.int8).tobytes()
        ),
    )
)
def test_random_and_extreme_inputs_are_bit_exact(built, raw):
    window = np.frombuffer(raw, np.int8)
    assert np.array_equal(built.c(window), built.tflm(window))


def test_every_layer_is_bit_exact(model, codes, tmp_path):
    built = Built(model, tmp_path, trace=True)
    traced = (ctypes.c_int8 * 262144).in_dll(built.library, "traced")
    used = ctypes.c_int.in_dll(built.library, "traced_bytes")
    graph = read_graph(model)
    for window in codes[::80]:
        used.value = 0
        built.c(window)
        built.tflm(window)
        at = 0
        for operator in graph.operators[1:]:  # the first is RESHAPE: nothing to compute
            expected = np.ravel(built.micro.GetTensor(int(operator.outputs[0]), 0)["tensor_data"])
            actual = np.frombuffer(traced, np.int8)[at : at + expected.size]
            assert np.array_equal(actual, expected), int(operator.outputs[0])
            at += expected.size
        assert at == used.value


def test_other_weights_and_scales_are_bit_exact(model, tmp_path):
    """Networks that no training would give: random weights to the limits, ranges that saturate, no ReLU."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(0)
    for i in range(3):
        changed = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
        graph = changed.subgraphs[0]
        for operator in graph.operators:
            options = operator.builtinOptions
            if hasattr(options, "fusedActivationFunction"):
                options.fusedActivationFunction = int(rng.choice([0, 1, 3])) if i else 0
            for number in operator.inputs[1:2]:
                tensor = graph.tensors[number]
                data = changed.buffers[tensor.buffer].data
                if tensor.type == schema.TensorType.INT8 and data is not None:
                    extreme = rng.choice([-127, -1, 0, 1, 127], len(data))
                    changed.buffers[tensor.buffer].data = extreme.astype(np.int8).view(np.uint8)
            result = graph.tensors[operator.outputs[0]]
            if result.quantization.scale is not None and type(options).__name__ != "AddOptionsT" and i == 2:
                result.quantization.zeroPoint = np.array([rng.integers(-60, 60)])
        builder = flatbuffers.Builder(2**20)
        builder.Finish(changed.Pack(builder), b"TFL3")
        path = tmp_path / f"{i}.tflite"
        path.write_bytes(bytes(builder.Output()))
        (tmp_path / str(i)).mkdir()
        other = Built(path, tmp_path / str(i))
        for window in rng.integers(-128, 128, (20, 1000)).astype(np.int8):
            assert np.array_equal(other.c(window), other.tflm(window)), i


def read_graph(path):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0]


def test_header_tells_what_is_there(built, model):
    header = built.info["files"][0]
    values = {
        line.split()[1]: line.split()[2]
        for line in Path(header).read_text().splitlines()
        if line.startswith("#define XMAE_")
    }
    described = litert.inspect_model(model)
    assert float(values["XMAE_OUTPUT_SCALE"].rstrip("f")) == pytest.approx(described["output"]["scale"], rel=1e-7)
    assert int(values["XMAE_OUTPUT_ZERO_POINT"].strip("()")) == described["output"]["zero_point"]
    weights = bytes((ctypes.c_char * int(values["XMAE_WEIGHTS_BYTES"])).in_dll(built.library, "xmae_weights"))
    built.library.xmae_weights_crc32.restype = ctypes.c_uint32
    assert (
        zlib.crc32(weights) == built.library.xmae_weights_crc32() == int(values["XMAE_WEIGHTS_CRC32"].rstrip("u"), 16)
    )
    assert built.info["macs"] == sum(layer["macs"] for layer in built.info["layers"]) == 3_672_256
    assert built.info["arena_bytes"] <= 16 * 1024


def test_source_is_strict_c99_without_library(model, tmp_path):
    """Nothing but memcpy and memset is asked of a C library, and no compiler complains."""
    built = export_beside(model, tmp_path)
    assert {"student_int8.c", "student_int8.h", "xmae_kernels.h", "xmae_kernels.c"} <= set(built["files"])
    library = compile_host([tmp_path / "student_int8.c"], tmp_path / "strict.so", defines=["NDEBUG"])
    text = "".join((KERNELS / name).read_text() for name in ("xmae_kernels.c", "xmae_kernels.h"))
    assert {line.split("<")[1].split(">")[0] for line in text.splitlines() if line.startswith("#include <")} == {
        "stdint.h",
        "string.h",
    }
    if shutil.which("nm"):
        undefined = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True).stdout
        names = {line.split()[-1].split("@")[0] for line in undefined.splitlines()}
        assert not names - {"memcpy", "memset", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable",
                            "__cxa_finalize", "__gmon_start__", "__stack_chk_fail"}  # fmt: skip


def export_beside(model, folder):
    (folder / model.name).write_bytes(model.read_bytes())
    return export(folder)


@pytest.mark.parametrize("harm", ["float", "truncated", "missing", "text"])
def test_models_that_cannot_become_c(graph, model, tmp_path, harm):
    path = tmp_path / "model.tflite"
    if harm == "float":
        path.write_bytes(litert.convert(graph))
    elif harm != "missing":
        path.write_bytes(model.read_bytes()[:5000] if harm == "truncated" else b"no model")
    with pytest.raises(UserError, match=r"model\.tflite: "):
        write_c(path, tmp_path)
    assert not list(tmp_path.glob("*.c"))


@given(st.floats(1e-9, 100))
def test_multipliers_are_the_nearest_31_bit_fractions(real):
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert abs(multiplier * 2.0 ** (shift - 31) - real) <= 2.0 ** (shift - 32)


def test_c_brings_the_file_that_it_is_made_of():
    assert chosen_targets("c") == ["c", "litert"]
    assert chosen_targets("litert,c") == ["litert", "c"]
    assert "c" not in chosen_targets("all")
