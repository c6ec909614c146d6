"""Static int8 in PyTorch's own graph (PT2E) by XNNPACK's rules: ExecuTorch lowers it, and layers
are compared in it.
"""

import copy
from dataclasses import replace

import torch

from xmae.native import one_thread, quietly
from xmae.quantize.graph import BeatGraph
from xmae.quantize.observers import MINMAX, Observer


@quietly()
@one_thread()
def quantize_graph(graph, calibration, observer=MINMAX, keep=()):
    """Quantize an exportable graph: int8 weights per output channel, int8 activations per tensor.

    Parameters
    ----------
    graph : torch.nn.Module
        From `exportable`.
    calibration : float32 array, shape (n, 1000)
        Scaled training windows: the values that each activation takes on them set its range.
    observer : str
        How ranges are chosen; one of `xmae.quantize.observers.OBSERVERS`.
    keep : collection of str
        Layers that stay float, by the names of their modules in `graph`; layer norms always do.

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
    min_max = replace(
        config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12)
    )
    config = replace(config, input_activation=min_max, output_activation=min_max)
    inputs = torch.from_numpy(calibration)
    # (n, 1, 1, C, n_times), C = 1 for PPG
    inputs = inputs.view(len(inputs), 1, 1, -1, inputs.shape[-1])
    exported = torch.export.export(graph, (inputs[0],)).module(check_guards=False)

    def quantized(node):
        return outside_norms(node) and not (node.op == "call_function" and layer_of(node) in keep)

    quantizer = XNNPACKQuantizer().set_global(config).set_filter_function(quantized)
    observed = prepare_pt2e(exported, quantizer)
    observe(observed, inputs, observer)
    return convert_pt2e(observed)


@torch.no_grad()
def with_mean_kept(graph, calibration, observer=MINMAX):
    """Return the graph to quantize; of a student that reads beats, with its last bias corrected so
    that the embedding keeps the float mean.

    Such a student pools a few features, whose rounding shifts the embedding the same way in every
    window. What rounding adds to the mean over the calibration windows is taken off the bias of the
    last layer (bias correction: Nagel et al., ICCV 2019).

    Parameters
    ----------
    graph : torch.nn.Module
        From `exportable`.
    calibration, observer
        As in `quantize_graph`.
    """
    if not isinstance(graph, BeatGraph) or graph.channels > 1:
        return graph
    inputs = torch.from_numpy(calibration).view(len(calibration), 1, 1, -1, calibration.shape[-1])
    quantized, kept = quantize_graph(graph, calibration, observer), copy.deepcopy(graph)
    head = kept.encoder.head
    lost = torch.cat([(graph(x) - quantized(x))[:, : head.out_features] for x in inputs])
    head.bias.add_(lost.mean(0))
    return kept


@torch.no_grad()
def observe(observed, inputs, observer=None):
    """Run a graph from `prepare_pt2e` on the calibration windows.

    Parameters
    ----------
    observed : torch.fx.GraphModule
        Its observers are set, or replaced.
    inputs : iterable of torch.Tensor
        Inputs of the graph.
    observer : str, optional
        One of `xmae.quantize.observers.OBSERVERS`, for all activations but the input, which is
        known to be scaled and keeps its own; None: those that the backend's quantizer chose.
    """
    from torchao.quantization.pt2e import MinMaxObserver

    chosen, hooks = {}, []
    for node in observed.graph.nodes if observer else ():
        if node.op != "call_module" or node.args[0].op in ("get_attr", "placeholder"):
            continue
        module = observed.get_submodule(node.target)
        if not hasattr(module, "qscheme"):
            continue
        if module not in chosen:  # activations that must share a scale share a module
            bounds = {
                name: getattr(module, name)
                for name in ("dtype", "qscheme", "quant_min", "quant_max")
            }
            chosen[module] = MinMaxObserver(**bounds, eps=module.eps.item()), Observer(observer)
            hook = lambda m, args, o=chosen[module][1]: o.add(args[0].numpy())
            hooks.append(chosen[module][0].register_forward_pre_hook(hook))
        observed.set_submodule(node.target, chosen[module][0])
    for window in inputs:
        observed(window)
    for hook in hooks:
        hook.remove()
    for module, values in chosen.values():
        low, high = values.range()
        module.min_val.fill_(low)
        module.max_val.fill_(high)


def outside_norms(node):
    """Tell whether a node is outside layer norms, whose variance spans too wide a range for 8 bits
    and which are cheap in float.
    """
    return not any(
        kind.endswith("Normalise") for _, kind in node.meta.get("nn_module_stack", {}).values()
    )


def layer_of(node):
    """Return the innermost module of a node in an exported graph, "encoder.blocks.3.depthwise"; ""
    for the graph itself.
    """
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return (stack[-1][0] if stack else "").removeprefix("L['self'].").replace("L['self']", "")
