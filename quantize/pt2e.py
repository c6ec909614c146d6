"""Static int8 in PyTorch's own graph (PT2E) by XNNPACK's rules: ExecuTorch lowers it, and layers are compared in it."""

from dataclasses import replace

import torch

from xmae.quantize.native import one_thread, quietly


@quietly()
@one_thread()
def quantize_graph(graph, calibration):
    """Quantize an exportable graph: int8 weights per output channel, int8 activations per tensor.

    Parameters
    ----------
    graph : torch.nn.Module
        From `exportable`.
    calibration : float32 array, shape (n, 1000)
        Scaled training windows; the smallest and largest value each activation takes on them set its range.

    Returns
    -------
    torch.fx.GraphModule
        Simulates int8 in float: input (1, 1, 1, 1000), output (1, D).

    Raises
    ------
    UserError
        If ExecuTorch or torchao is not installed.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True)
    min_max = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12))
    config = replace(config, input_activation=min_max, output_activation=min_max)
    inputs = torch.from_numpy(calibration)
    inputs = inputs.view(len(inputs), 1, 1, -1, inputs.shape[-1])  # (n, 1, 1, C, n_times), C = 1 for PPG
    exported = torch.export.export(graph, (inputs[0],)).module(check_guards=False)
    quantizer = XNNPACKQuantizer().set_global(config).set_filter_function(outside_norms)
    observed = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for window in inputs:
            observed(window)
    return convert_pt2e(observed)


def outside_norms(node):
    """False for a node of a layer norm: its variance spans too wide a range for 8 bits, and its float work is small."""
    return not any(kind.endswith("Normalise") for _, kind in node.meta.get("nn_module_stack", {}).values())
