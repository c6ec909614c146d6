"""Which layers an embedding can least afford to have in 8 bits: each is rounded alone, all others
stay float.

The errors that layers bring into the embedding are small and independent, so their squares add up:
what is left after the worst have been taken out is known without trying. A layer here is a module
with what belongs to it: a convolution or Linear with its activation function, an attention's own
products, one MLP.
"""

from itertools import chain

import numpy as np
import torch
from torch import fx

from xmae.native import one_thread
from xmae.quantize.layers import MOVES
from xmae.quantize.observers import MINMAX, STEPS, Observer
from xmae.quantize.pt2e import layer_of

N_RANGES, N_ROUNDED = 32, 8  # windows that set the ranges, and those on which every layer is tried
WHOLE = "pooling"  # what the whole graph does itself
WEIGHTED = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


@one_thread()
@torch.no_grad()
def sensitivity(graph, calibration):
    """Measure how much of the embedding's variance becomes noise when one layer alone is rounded.

    Parameters
    ----------
    graph : torch.nn.Module
        From `exportable`.
    calibration : float32 array, shape (n, 1000)
        Scaled training windows.

    Returns
    -------
    list of dict
        From the worst to the best: `layer`, its `modules`, the `readers` of its results (modules of
        other layers; to them, results are rounded unless they are float too), and `noise`: mean
        squared error of the embedding over its variance between windows.
    """
    windows = torch.from_numpy(calibration)
    windows = windows.view(len(windows), 1, 1, -1, windows.shape[-1])
    rounding = Rounding(torch.export.export(graph, (windows[0],)).module(check_guards=False))
    some, few = (
        windows[np.linspace(0, len(windows) - 1, n).astype(int)] for n in (N_RANGES, N_ROUNDED)
    )
    rounding.watch(some)
    reference = torch.cat([rounding.run(window) for window in few])
    spread = (reference - reference.mean(0)).square().mean().item()
    found, belongs = [], units(graph)
    for layer in dict.fromkeys(belongs.values()):
        modules = [name for name, unit in belongs.items() if unit == layer]
        if any(layer_of(node) in modules for node in rounding.observers):
            noisy = torch.cat([rounding.run(window, modules=modules) for window in few])
            noise = (noisy - reference).square().mean().item() / spread
            results = [node for node in rounding.observers if layer_of(node) in modules]
            reading = {
                belongs[layer_of(reader)]
                for reader in chain.from_iterable(readers_of(node) for node in results)
            } - {layer}
            readers = [name for name, unit in belongs.items() if unit in reading]
            found.append(
                {"layer": layer or WHOLE, "modules": modules, "readers": readers, "noise": noise}
            )
    return sorted(found, key=lambda row: -row["noise"])


def readers_of(node):
    """Yield the nodes that compute with the result of a node, looking through those that only move
    it.
    """
    for user in node.users:
        if user.op == "call_function":
            yield from readers_of(user) if user.name.startswith(MOVES) else (user,)


def units(graph):
    """Return {module: its layer}, both by name; a Sequential of single operations is one layer."""
    found = {}
    for name, module in graph.named_modules():
        parts = list(module.children())
        if isinstance(module, torch.nn.Sequential) and not any(
            list(part.children()) for part in parts
        ):
            found |= {f"{name}.{i}": name for i in range(len(parts))}
        found.setdefault(name, name)
    return found


class Rounding(fx.Interpreter):
    """Interpreter of an exported graph that rounds the results and weights of some modules to 8
    bits, and keeps the rest in float.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        Exported.
    """

    def __init__(self, graph):
        super().__init__(graph)
        self.chosen, self.observers, self.watching = (), {}, False
        for node in graph.graph.nodes:
            fused = len(node.users) == 1 and next(iter(node.users)).name.startswith("relu")
            if node.op == "call_function" and not node.name.startswith(MOVES) and not fused:
                self.observers[node] = Observer(MINMAX)

    def watch(self, windows):
        """Set the ranges from these windows."""
        self.watching = True
        for window in windows:
            self.run(window)
        self.watching = False

    def run(self, window, modules=()):
        """Compute the embedding with `modules` in 8 bits."""
        self.chosen = modules
        return super().run(window)

    def run_node(self, node):
        """Run one operation."""
        rounded = node in self.observers and not self.watching and layer_of(node) in self.chosen
        if rounded and node.target in WEIGHTED:
            (x, weight, *rest), options = self.fetch_args_kwargs_from_env(node)
            peak = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-12)
            result = node.target(
                x, (weight * (127 / peak)).round() * (peak / 127), *rest, **options
            )
        else:
            result = super().run_node(node)
        if self.watching and node in self.observers:
            self.observers[node].add(result.numpy())
        return fake_quantize(result, *self.observers[node].range()) if rounded else result


def fake_quantize(x, low, high):
    """Round `x` to 256 levels from `low` to `high`, with 0 among them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / STEPS, 1e-12)
    zero = round(-low / scale) - 128
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)
