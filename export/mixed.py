"""Int8 as far as it goes: the layers that an embedding can least afford to round stay float, until
it drifts little.
"""

from itertools import chain

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.conversions import remembered
from xmae.quantize.layers import centred_cosine, run_graph
from xmae.quantize.observers import MINMAX
from xmae.quantize.sensitivity import WHOLE, sensitivity, units


def export_within(target, module, path, calibration, ppg, budget, observer=MINMAX):
    """Write an int8 file that stays within a drift budget: layers that lose too much are left in
    float.

    Layers are left in float from the worst on, each with those that read its results, which int8
    would round. Their number is predicted: noise of independent layers adds up, and one minus the
    cosine is half of it. The file is then written and run; if it drifts more than predicted, more
    layers follow.

    Parameters
    ----------
    target : Target
        One that can leave layers in float: executorch, litert or onnx.
    module : torch.nn.Module
        From `exportable`.
    path : str or Path
        File to write, atomically.
    calibration, ppg : float32 arrays, shape (n, 1000)
        Scaled windows that set ranges and the order of the layers, and others to judge on.
    budget : float
        Centred cosine to fp32 that 19 of 20 windows must keep, below 1.
    observer : str
        See `xmae.quantize.observers`.

    Returns
    -------
    dict
        `float_layers` and their `float_modules`, by name.

    Raises
    ------
    UserError
        If the budget is not between 0 and 1, or not even a file with every layer in float keeps to
        it.
    """
    check_budget(budget)
    rows = worst_first(module, calibration)
    noise = np.array([row["noise"] for row in rows])
    # share of the noise in this layer and all after it
    left = noise[::-1].cumsum()[::-1] / noise.sum()
    n_float = 0
    reference, mean = run_graph(module, ppg), run_graph(module, calibration).mean(0)
    while True:
        modules = set(
            chain.from_iterable((*row["modules"], *row["readers"]) for row in rows[:n_float])
        )
        target.convert(module, path, "int8", calibration, observer, modules)
        drift = 1 - low_cosine(target.open(path)(ppg), reference, mean)
        if drift <= 1 - budget:
            break
        if n_float == len(rows):
            raise UserError(
                f"{path}: 19 of 20 windows keep a centred cosine of {1 - drift:.6f} with no layer "
                "in int8"
            )
        share = 0.9 * (1 - budget) / drift * left[n_float]
        n_float = max(n_float + 1, int(np.argmax(np.append(left, 0) <= share)))
    belongs = units(module)
    return {
        "float_layers": sorted({belongs[name] or WHOLE for name in modules}),
        "float_modules": modules,
    }


worst_first = remembered(sensitivity)  # the same for every format


def check_budget(budget):
    """Raise a `UserError` unless a drift budget is between 0 and 1."""
    if not 0 < budget < 1:
        raise UserError(
            f"the drift budget is a centred cosine between 0 and 1, such as 0.99; got {budget:g}"
        )


def low_cosine(actual, reference, mean):
    """Return the 5th percentile of the centred cosine over windows."""
    return float(np.percentile(centred_cosine(actual, reference, mean), 5))
