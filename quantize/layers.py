"""Float against int8, layer by layer: where along the network does an embedding lose its
accuracy?
"""

import numpy as np
import torch

from xmae.native import one_thread, quietly

MOVES = ("view", "reshape", "transpose", "flatten", "unflatten")  # operations that only move values


@one_thread()
@torch.no_grad()
def run_graph(graph, ppg):
    """Run a graph with input (1, 1, 1, 1000) on windows (n, 1000): outputs (n, D)."""
    return torch.cat(
        [graph(window.view(1, 1, -1, window.shape[-1])) for window in torch.from_numpy(ppg)]
    ).numpy()


def centred_cosine(actual, reference, mean):
    """Return the cosine of each row after the common mean is subtracted: embeddings (n, D), mean
    (D,) or 0 -> (n,).

    Embeddings share a large mean; without centring any two of them look alike. A row of zeros has
    cosine 0.
    """
    a, b = (np.asarray(x, np.float64) - mean for x in (actual, reference))
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), norm, out=np.zeros(len(a)), where=norm > 0)


def error_of(actual, reference):
    """Return the cosine, signal-to-noise ratio (dB) and largest absolute error of `actual` against
    a reference, over all elements.
    """
    a, b = (np.asarray(x, np.float64).ravel() for x in (actual, reference))
    noise = np.sum((a - b) ** 2)
    return {
        "cosine": float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30)),
        "snr_db": float(10 * np.log10(max(np.sum(b**2), 1e-30) / max(noise, 1e-30))),
        "max_error": float(np.abs(a - b).max()),
    }


def drift_of_embeddings(actual, reference, mean):
    """Compare embeddings (n, D) with their reference: centred cosine (median, 5th percentile),
    largest error.

    `mean` (D,) is that of the training windows, see `centred_cosine`.
    """
    median, p5 = np.percentile(centred_cosine(actual, reference, mean), [50, 5])
    return {
        "centred_cosine_median": float(median),
        "centred_cosine_p5": float(p5),
        "max_error": float(np.abs(actual - reference).max()),
    }


def error_rows(reference, actual, layers):
    """Compare every activation of an int8 model, in running order, with that of the same name in
    the float one.

    Errors add up along the network: the input of each operator is the output of the int8 ones
    before it.

    Parameters
    ----------
    reference, actual : iterable of dict
        For each window, {activation: its values} of the float and of the int8 model.
    layers : dict
        {activation: layer that it comes from}.

    Returns
    -------
    list of dict
        `operation` (name of the activation), `module` (where it is in the encoder), `cosine`,
        `snr_db`, `max_error` (in the unit of the activation).
    """
    pairs = {}
    for floats, codes in zip(reference, actual, strict=True):
        for name in [name for name in layers if name in floats and name in codes]:
            pairs.setdefault(name, []).append((codes[name], floats[name]))
    return [
        {"operation": name, "module": layers[name]}
        | error_of(*map(np.stack, zip(*windows, strict=True)))
        for name, windows in pairs.items()
    ]


@quietly()
@torch.no_grad()
def compare_graphs(graph, quantized, ppg):
    """Compare every operation of an int8 graph that changes values with the float graph, in running
    order.

    Parameters
    ----------
    graph, quantized : torch.nn.Module
        From `exportable` and `quantize_graph`.
    ppg : float32 array, shape (n, 1000)
        Scaled windows.

    Returns
    -------
    list of dict
        As `error_rows`; `operation` is the node of the graph, such as "conv2d_3".
    """
    exported = torch.export.export(graph, (torch.from_numpy(ppg[:1])[None, None],)).module(
        check_guards=False
    )
    reference, actual = node_outputs(exported, ppg), node_outputs(quantized, ppg)
    rows = []
    for name, (stack, values) in reference.items():
        if name in actual and not name.startswith(MOVES):
            module = list(stack.values())[-1][0] if stack else ""
            rows.append({"operation": name, "module": module, **error_of(actual[name][1], values)})
    return rows


def node_outputs(graph, ppg):
    """Return the output of each node of an exported graph on windows (n, 1000): {node in the float
    graph: (modules, (n, ..))}.
    """
    from torchao.quantization.pt2e import (
        extract_results_from_loggers,
        prepare_for_propagation_comparison,
    )

    logged = prepare_for_propagation_comparison(graph)
    run_graph(logged, ppg)
    found = extract_results_from_loggers(logged)
    return {
        node.name: (stack, torch.stack(values).numpy())
        for node, (_, stack, values) in found.items()
    }
