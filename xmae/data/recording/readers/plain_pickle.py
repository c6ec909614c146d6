"""Reads pickles that hold plain values and NumPy arrays of numbers, and runs nothing in them.

A pickle is a program for a small stack machine, which may call any function. This machine knows the
instructions for text, numbers, lists, tuples and dicts, and three things to call, which are ours:
they note what an array or a number looks like, and check its bytes against that. NumPy's own
constructors are never given anything from a file.
"""

import math
import pickle
import re
from dataclasses import dataclass

import numpy as np

from xmae.errors import UserError

NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
DTYPES = re.compile(r"[biuf][1248]|[SU]\d{1,4}|b1")  # no objects, no records
PLAIN = (("_codecs", "encode"), ("__builtin__", "bytes"), ("collections", "OrderedDict"))
ORDERS = ("<", ">", "|", "=")
MAX_LINE = 1 << 20  # bytes of a number or name that stands in letters
INSTRUCTIONS = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_DICT DICT EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT
    LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""


def load(path):
    """Read the content of a pickle: dicts with text keys, lists, numbers, text, arrays.

    Arrays come as `Array`, which `numpy.asarray` turns into one.

    Raises
    ------
    UserError
        If the file asks for anything else.
    Exception
        Of several kinds, if the file is damaged.
    """
    with open(path, "rb") as file:
        return Machine(Bounded(file, path.stat().st_size), encoding="latin1").load()


class Bounded:
    """A file that refuses to read beyond its end, before any memory is allocated for it."""

    def __init__(self, file, size):
        self.file, self.size = file, size

    def read(self, n):
        """Read exactly n bytes; raise an error if there are fewer."""
        if not 0 <= n <= self.size - self.file.tell():
            raise EOFError("it says that more follows than there is")
        return self.file.read(n)

    def readline(self):
        """Read a line."""
        return self.file.readline(MAX_LINE)


@dataclass(frozen=True)
class Callable:
    """A stand-in for a function that a pickle may call, by its name in the pickle."""

    name: str


class Dtype:
    """The type of an array's numbers, as the pickle states it."""

    def __init__(self, code):
        if not isinstance(code, str) or not DTYPES.fullmatch(code):
            raise UserError(f"refused: an array of the type {str(code)[:20]!r}")
        self.code, self.order = code, "="

    def fill(self, state):
        """Set the byte order."""
        if not isinstance(state, tuple) or state[1] not in ORDERS:
            raise UserError("refused: an array of an unknown order of bytes")
        self.order = state[1]

    def numpy(self):
        """Return the type as a NumPy dtype."""
        return np.dtype(self.code).newbyteorder(self.order)


class Array:
    """An array, whose bytes are checked against its shape and type."""

    def __init__(self):
        self.values = None

    def fill(self, state):
        """Set shape, type, order and bytes."""
        _, shape, dtype, columns_first, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        plain = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not plain or type(dtype) is not Dtype or type(data) is not bytes:
            raise UserError("refused: an array that is not of numbers")
        made = dtype.numpy()
        if math.prod(shape) * made.itemsize != len(data):
            raise UserError("refused: an array of another size than its shape says")
        order = "F" if columns_first is True else "C"
        self.values = np.frombuffer(data, made).reshape(shape, order=order)

    def __array__(self, dtype=None, copy=None):
        if self.values is None:
            raise ValueError("an array without values")
        return np.array(self.values, dtype)


def scalar(dtype, data):
    """Return one number of a type from its bytes."""
    one = Array()
    one.fill((1, (1,), dtype, False, data))
    return one.values[0].item()


def call(function, arguments):
    """Return the result of one of the permitted functions."""
    if function.name == "encode" and len(arguments) == 2 and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if function.name == "bytes" and not arguments:
        return b""
    if function.name == "_reconstruct":
        return Array()
    if function.name == "dtype":
        return Dtype(arguments[0])
    if function.name == "scalar":
        return scalar(*arguments)
    if function.name == "OrderedDict" and not arguments:
        return {}
    raise UserError(f"refused: it calls {function.name} in a way that no array needs")


class Machine(pickle._Unpickler):  # the one in Python: its instructions can be chosen
    """A pickle machine with the harmless instructions only."""

    dispatch = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in INSTRUCTIONS.split()
    }

    def find_class(self, module, name):
        """Return our stand-in for a name that arrays need; refuse any other name."""
        arrays = module in NUMPY and name in ("ndarray", "dtype", "_reconstruct", "scalar")
        if arrays or (module, name) in PLAIN:
            return Callable(name)
        raise UserError(f"refused: it asks for {module}.{name}, and only NumPy arrays are admitted")

    def load_reduce(self):
        """Call a permitted function with the arguments on the stack."""
        arguments = self.stack.pop()
        if type(self.stack[-1]) is not Callable or type(arguments) is not tuple:
            raise UserError("refused: it calls what is no part of an array")
        self.stack[-1] = call(self.stack[-1], arguments)

    def load_build(self):
        """Set the state of an array or a type."""
        state = self.stack.pop()
        if type(self.stack[-1]) not in (Array, Dtype):
            raise UserError("refused: it changes what is no array")
        self.stack[-1].fill(state)

    def load_setitem(self):
        """Put one value from the stack into a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], key, value)

    def load_setitems(self):
        """Put several values from the stack into a dict."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(self.stack[-1], key, value)

    def load_dict(self):
        """Make a dict from what is on the stack."""
        items = self.pop_mark()
        self.append({})
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(self.stack[-1], key, value)

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }


def put(values, key, value):
    """Set an entry of a dict with text keys; hashing other keys could take forever."""
    if type(values) is not dict or type(key) not in (str, bytes):
        raise UserError("refused: a dict whose keys are not text")
    values[key.decode("latin1") if type(key) is bytes else key] = value
