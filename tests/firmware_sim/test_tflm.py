"""The int8 student in TensorFlow Lite Micro: bytes against LiteRT's reference kernels, and the
memory it needs.
"""

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.targets import litert
from xmae.firmware_sim.emulators import tflm
from xmae.signals.scale import minmax_scale

pytest.importorskip("tflite_micro")


@pytest.fixture(scope="module")
def ppg():
    windows, _ = prepare_recording(read_recording(bidmc_files()[0]))
    return minmax_scale(windows.ppg)[0]


@pytest.fixture(scope="module")
def model(watch_bundle):
    return watch_bundle.path / watch_bundle.entry("student", "litert", "int8").file


def test_arena_fits_the_budget_and_is_the_smallest(model, ppg):
    arena = tflm.measure_arena(model)
    assert arena <= tflm.ARENA
    with pytest.raises(UserError, match="does not run in TFLM with an arena"):
        tflm.run_tflm(model, ppg[:1], arena - 1024)


def test_outputs_are_within_one_step_of_the_reference_kernels(model, ppg):
    scale = litert.inspect_model(model)["output"]["scale"]
    steps = np.rint(
        (tflm.run_tflm(model, ppg) - litert.open_model(model, reference=True)(ppg)) / scale
    )
    assert np.abs(steps).max() <= 1
    assert (steps != 0).mean() < 0.01


def test_only_the_last_layer_differs_from_the_reference_kernels(model, ppg):
    """Which operator rounds differently: FULLY_CONNECTED. Every byte before it is the same in
    both.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from tflite_micro import runtime

    micro = runtime.Interpreter.from_file(
        str(model),
        arena_size=4 * 2**20,
        intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
    )
    lite = Interpreter(
        model_path=str(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    lite.allocate_tensors()
    source = lite.get_input_details()[0]
    operators = lite._get_ops_details()
    assert operators[-1]["op_name"] == "FULLY_CONNECTED"
    for window in ppg[:10]:
        codes = np.clip(np.rint(window / source["quantization"][0]), -128, 127).astype(np.int8)
        lite.set_tensor(source["index"], codes.reshape(source["shape"]))
        micro.set_input(codes.reshape(source["shape"]), 0)
        lite.invoke()
        micro.invoke()
        for operator in operators[:-1]:
            (tensor,) = operator["outputs"]
            assert np.array_equal(
                lite.get_tensor(tensor).ravel(),
                np.ravel(micro.GetTensor(int(tensor), 0)["tensor_data"]),
            ), operator["op_name"]


def test_files_that_do_not_run_there(model, ppg, tmp_path):
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(model.read_bytes()[:100_000])
    for path in (truncated, tmp_path / "none.tflite"):
        with pytest.raises(UserError, match=path.name):
            tflm.run_tflm(path, ppg[:1])
