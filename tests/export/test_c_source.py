"""The int8 student as C: bytes against TensorFlow Lite Micro, layer by layer and over a thousand
real windows.
"""

import ctypes
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.targets import litert
from xmae.export.targets.c.cmsis_nn import for_cmsis_nn
from xmae.export.targets.c.layers import quantize_multiplier, read_layers
from xmae.export.targets.c.source import export_networks, write_c
from xmae.export.targets.registry import chosen_targets
from xmae.export.targets.session import to_int8
from xmae.firmware_sim.build.compile import KERNELS, compile_host
from xmae.models import load_encoder
from xmae.models.student import TIERS, McuStudent, count_macs
from xmae.quantize import exportable
from xmae.signals.scale import minmax_scale

pytest.importorskip("tflite_micro")
DATA = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def ppg():
    """Return more than a thousand real windows, scaled."""
    parts = [
        minmax_scale(prepare_recording(read_recording(path))[0].ppg)[0] for path in bidmc_files()
    ]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def model(watch_bundle):
    return watch_bundle.path / watch_bundle.entry("student", "litert", "int8").file


class Built:
    """A generated model on this machine, and what TFLM makes of the same file."""

    def __init__(self, path, folder, trace=False):
        from tflite_micro import runtime

        self.info = write_c(path, folder, path.stem)
        sources = [folder / f"{path.stem}.c", *([DATA / "trace.c"] if trace else [])]
        library = compile_host(
            sources, folder / f"model{trace}.so", defines=["XMAE_TRACE=1"] if trace else []
        )
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
        self.library.xmae_model(
            codes.ctypes.data_as(ctypes.c_void_p), output.ctypes.data_as(ctypes.c_void_p)
        )
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
    return to_int8(
        ppg, *[litert.inspect_model(model)["input"][key] for key in ("scale", "zero_point")]
    )


def layers_as_tflm(built, window, outputs):
    """Return the embedding and what each layer gives, by the number of its output; every byte must
    be TFLM's.
    """
    used = ctypes.c_int.in_dll(built.library, "traced_bytes")
    used.value = 0
    embedding = built.c(window)
    built.tflm(window)
    traced = np.frombuffer((ctypes.c_int8 * used.value).in_dll(built.library, "traced"), np.int8)
    actual, at = {}, 0
    for number in outputs:
        expected = np.ravel(built.micro.GetTensor(number, 0)["tensor_data"])
        actual[number] = traced[at : at + expected.size].copy()
        assert np.array_equal(actual[number], expected), number
        at += expected.size
    assert at == used.value
    return embedding, actual


@pytest.mark.parametrize("n_windows", [100, pytest.param(1000, marks=pytest.mark.extended)])
def test_a_thousand_real_windows_are_bit_exact_in_every_layer(model, codes, tmp_path, n_windows):
    """And LiteRT's reference kernels differ by one step at most, in FULLY_CONNECTED only, given
    equal inputs.
    """
    built = Built(model, tmp_path, trace=True)
    operators = read_graph(model).operators[1:]  # the first is RESHAPE: nothing to compute
    outputs = [int(operator.outputs[0]) for operator in operators]
    reference, kinds = reference_interpreter(model)
    chosen = codes[np.linspace(0, len(codes) - 1, n_windows).astype(int)]
    embeddings, differing = [], {}
    for i, window in enumerate(chosen):
        embedding, actual = layers_as_tflm(built, window, outputs)
        embeddings.append(embedding)
        if i % 25:
            continue
        reference.set_tensor(reference.get_input_details()[0]["index"], window.reshape(built.shape))
        reference.invoke()
        for operator, kind in zip(operators, kinds[1:], strict=True):
            same = all(
                np.array_equal(reference.get_tensor(number).ravel(), actual[number])
                for number in map(int, operator.inputs)
                if number in actual
            )
            number = int(operator.outputs[0])
            step = np.abs(reference.get_tensor(number).ravel().astype(int) - actual[number]).max()
            if same and step:
                differing[kind] = max(step, differing.get(kind, 0))
    assert differing.keys() <= {"FULLY_CONNECTED"} and max(differing.values(), default=0) <= 1
    assert np.ptp(np.stack(embeddings), 0).max() > 50  # they are not all the same


@pytest.mark.parametrize(
    "tier",
    [pytest.param(t, marks=pytest.mark.extended) for t in TIERS if t != "mcu"],
)
def test_other_sizes_of_student_are_bit_exact_in_every_layer(tier, ppg, codes, tmp_path):
    """Random weights, batch normalisation of real windows: real windows, noise and extremes."""
    torch.manual_seed(77)
    student = McuStudent(tier=tier)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # plain average
    student.train()(torch.from_numpy(ppg[::16].astype(np.float32))[:, None])
    path = tmp_path / f"student-{tier}_int8.tflite"
    litert.export(exportable(student.eval()), path, "int8", ppg[:16])
    built = Built(path, tmp_path, trace=True)
    assert built.info["macs"] == count_macs(student)
    assert (
        f"#ifndef STUDENT_{tier.upper().replace('-', '_')}_INT8_H"
        in Path(built.info["files"][0]).read_text()
    )
    outputs = [int(operator.outputs[0]) for operator in read_graph(path).operators[1:]]
    noise = np.random.default_rng(0).integers(-128, 128, (4, 1000))
    extremes = [
        np.full(1000, -128),
        np.full(1000, 127),
        np.where(np.arange(1000) // 50 % 2, 127, -128),
    ]
    embeddings = [layers_as_tflm(built, window.astype(np.int8), outputs)[0]
                  for window in (*codes[::100], *noise, *extremes)]  # fmt: skip
    assert np.ptp(np.stack(embeddings), 0).max() > 50


def reference_interpreter(path):
    """Return LiteRT with its reference kernels, keeping all tensors; and the operators' names."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }
    codes = [
        model.operatorCodes[operator.opcodeIndex].builtinCode
        for operator in model.subgraphs[0].operators
    ]
    return interpreter, [names[code] for code in codes]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(min_size=1000, max_size=1000),
        st.tuples(
            st.sampled_from([-128, -127, 0, 126, 127]),
            st.sampled_from([-128, 127]),
            st.integers(1, 300),
        ).map(
            lambda kind: (
                np.where(np.arange(1000) // kind[2] % 2, kind[0], kind[1]).astype(np.int8).tobytes()
            )
        ),
    )
)
def test_random_and_extreme_inputs_are_bit_exact(built, raw):
    window = np.frombuffer(raw, np.int8)
    assert np.array_equal(built.c(window), built.tflm(window))


def test_other_weights_and_scales_are_bit_exact(model, tmp_path):
    """Networks that no training would give: random weights to the limits, ranges that saturate, no
    ReLU.
    """
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
            if (
                result.quantization.scale is not None
                and type(options).__name__ != "AddOptionsT"
                and i == 2
            ):
                result.quantization.zeroPoint = np.array([rng.integers(-60, 60)])
        builder = flatbuffers.Builder(2**20)
        builder.Finish(changed.Pack(builder), b"TFL3")
        path = tmp_path / f"student_{i}.tflite"
        path.write_bytes(bytes(builder.Output()))
        (tmp_path / str(i)).mkdir()
        other = Built(path, tmp_path / str(i))
        for window in rng.integers(-128, 128, (10, 1000)).astype(np.int8):
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
    assert float(values["XMAE_OUTPUT_SCALE"].rstrip("f")) == pytest.approx(
        described["output"]["scale"], rel=1e-7
    )
    assert int(values["XMAE_OUTPUT_ZERO_POINT"].strip("()")) == described["output"]["zero_point"]
    weights = bytes(
        (ctypes.c_char * int(values["XMAE_WEIGHTS_BYTES"])).in_dll(built.library, "xmae_weights")
    )
    built.library.xmae_weights_crc32.restype = ctypes.c_uint32
    assert (
        zlib.crc32(weights)
        == built.library.xmae_weights_crc32()
        == int(values["XMAE_WEIGHTS_CRC32"].rstrip("u"), 16)
    )
    assert built.info["macs"] == sum(layer["macs"] for layer in built.info["layers"])
    assert built.info["macs"] == count_macs(load_encoder("student-mcu"))
    assert built.info["weight_bytes"] <= 192 * 1024
    assert built.info["arena_bytes"] <= 16 * 1024


def test_source_is_strict_c99_without_library(model, tmp_path):
    """Nothing but memcpy and memset is asked of a C library, and no compiler complains."""
    export_beside(model, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"student_int8.c", "student_int8.h", "xmae_kernels.h", "xmae_kernels.c"} <= names
    assert {"student_int8_cmsis_nn.c", "student_int8_cmsis_nn.h", "xmae_cmsis_nn.h"} <= names
    assert "student-app_int8.c" in names
    library = compile_host(
        [tmp_path / "student_int8.c"], tmp_path / "strict.so", defines=["NDEBUG"]
    )
    text = "".join((KERNELS / name).read_text() for name in ("xmae_kernels.c", "xmae_kernels.h"))
    assert {
        line.split("<")[1].split(">")[0]
        for line in text.splitlines()
        if line.startswith("#include <")
    } == {
        "stdint.h",
        "string.h",
    }
    if shutil.which("nm"):
        undefined = subprocess.run(
            ["nm", "-D", "--undefined-only", library], capture_output=True, text=True
        ).stdout
        names = {line.split()[-1].split("@")[0] for line in undefined.splitlines()}
        assert not names - {
            "memcpy",
            "memset",
            "_ITM_deregisterTMCloneTable",
            "_ITM_registerTMCloneTable",
            "__cxa_finalize",
            "__gmon_start__",
            "__stack_chk_fail",
        }


def export_beside(model, folder):
    paths = [folder / name for name in (model.name, "student-app_int8.tflite")]
    for path in paths:
        path.write_bytes(model.read_bytes())
    export_networks(folder, paths)


def test_cmsis_nn_gets_the_models_own_constants(model):
    """Weights, biases and multipliers as in the file: what CMSIS-NN takes and our packed order must
    give back.
    """
    tensors, layers, *_ = read_layers(model)
    n = 0
    for layer, operator in zip(layers, read_graph(model).operators, strict=True):
        theirs = for_cmsis_nn(layer)
        if theirs is layer:
            continue
        n += 1
        weights, bias = (tensors[int(number)].data for number in operator.inputs[1:3])
        # of one channel: (taps, out)
        if theirs.kernel == "xmae_cmsis_conv" and layer.op == "DEPTHWISE_CONV_2D":
            weights = weights.reshape(-1, weights.shape[3]).T
        assert np.array_equal(theirs.constants["weights"], weights.ravel())
        assert np.array_equal(theirs.constants["bias"], bias.ravel())
        assert (
            theirs.kernel.startswith("xmae_cmsis_") and theirs.fields["scratch"] == theirs.scratch
        )
    assert n == sum(bool(layer.constants) for layer in layers)


@pytest.mark.parametrize("harm", ["float", "truncated", "missing", "text"])
def test_models_that_cannot_become_c(model, tmp_path, harm):
    path = tmp_path / "model.tflite"
    if harm == "float":
        path.write_bytes(litert.convert(exportable(load_encoder("student-mcu"))))
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
