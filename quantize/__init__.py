"""From float to 8 bits: calibration, observers, static quantization, sensitivity, and training that
knows of it.
"""

from xmae.quantize.calibration import held_out, read_calibration, training_windows
from xmae.quantize.graph import exportable
from xmae.quantize.layers import compare_graphs
from xmae.quantize.pt2e import quantize_graph
from xmae.quantize.sensitivity import sensitivity

__all__ = [
    "compare_graphs",
    "exportable",
    "held_out",
    "quantize_graph",
    "read_calibration",
    "sensitivity",
    "training_windows",
]
