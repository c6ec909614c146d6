"""What a target is: a format of a model's file, for one runtime.

A new target is one class: it subclasses `Target`, is decorated with `register`, and is then known
to every verb. In this folder its module is found by itself; another package names its module as an
entry point of the group "xmae.targets".
"""

from abc import ABC, abstractmethod

from xmae.errors import UserError
from xmae.quantize.graph import ConvGraph

TARGETS = {}  # {name: Target}; those that run on this machine first


def float_tensor(shape):
    """Return what an inspection says of an input or output in float32."""
    return {"shape": list(shape), "dtype": "float32", "scale": None, "zero_point": None}


class Target(ABC):
    """A file format and the runtime that runs it.

    Attributes
    ----------
    name : str
        As on the command line and in the manifest.
    suffix : str
        Ends the names of its files, ".onnx".
    precisions : tuple of str
        Those that it can write.
    tools : tuple of str
        Packages whose versions the manifest keeps.
    environment : str or None
        Environment of its own that it runs in; see `xmae.export.targets.environments`.
    runs_here : bool
        Whether this machine has the runtime. Without it a file can be checked at most.
    can_open : bool
        Whether anything here computes what a file computes.
    convolutions_only : bool
        Whether it lacks the operators of attention.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    tools: tuple[str, ...] = ()
    environment: str | None = None
    runs_here = True
    can_open = True
    convolutions_only = False

    @staticmethod
    @abstractmethod
    def convert(module, path, precision, calibration=None, observer=None, keep=()):
        """Write a graph as a file of this format, atomically.

        Parameters
        ----------
        module : torch.nn.Module
            From `xmae.quantize.exportable`.
        path : str or Path
            File to write.
        precision : str
            One of `precisions`.
        calibration : float32 array, shape (n, 1000), optional
            Scaled training windows; they set the ranges of int8.
        observer : str, optional
            How they set the ranges; see `xmae.quantize.observers`. None: as is usual for the
            format.
        keep : collection of str
            Layers that stay float in int8. Targets without `compare_layers` need not take it.

        Raises
        ------
        UserError
            If a package is not installed, an operator cannot be converted (it and its layer are
            named), or the file cannot be written.
        """

    @staticmethod
    @abstractmethod
    def inspect(path):
        """Describe the content of a file.

        Returns
        -------
        dict
            `ops` (operators by kind), `undelegated` (those that do not run as they should, or
            None), `input` and `output` (shape, dtype, scale, zero point; None: float).
        """

    @staticmethod
    def open(path, threads=1):
        """Open a file: a `Session`, a function from windows (n, 1000) to embeddings."""
        raise UserError(f"{path}: nothing on this machine runs it")

    @staticmethod
    def saturated(path):
        """Return the names of the biases in an int8 file that overflow 32 bits; [] where the format
        has no such biases or is not checked.
        """
        return []

    compare_layers = None  # with it, `xmae quantize` and drift budgets work for the target

    def takes(self, model, graph):
        """Tell whether the target supports a model ("teacher" or a student) with this graph."""
        return not self.convolutions_only or is_conv_student(model, graph)


def is_conv_student(model, graph):
    """Tell whether a model is a student whose graph has no attention."""
    return model != "teacher" and isinstance(graph, ConvGraph)


def register(target):
    """Register a subclass of `Target` under its name; a class decorator."""
    TARGETS[target.name] = target()
    ordered = sorted(TARGETS.items(), key=lambda item: (not item[1].runs_here, item[0]))
    TARGETS.clear()
    TARGETS.update(ordered)
    return target
