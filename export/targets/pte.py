"""Run a `.pte` program of single operators in Python, in its own memory plan: for kernels the host
runtime lacks.
"""

from pathlib import Path

import torch

from xmae.errors import UserError

DTYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    6: torch.float32,
}


class Program:
    """A program whose operators PyTorch runs.

    All tensors that are not constant lie in one stretch of bytes at the offsets that the file
    plans, as on the device: a plan in which one overwrites another too early gives wrong numbers
    here too.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    UserError
        If it is damaged, or delegates to a backend.
    """

    def __init__(self, path):
        from executorch.exir._serialize._program import deserialize_pte_binary

        try:
            self.program = deserialize_pte_binary(Path(path).read_bytes()).program
            self.plan = self.program.execution_plan[0]
        except Exception as error:  # the parser fails on whatever the damage makes it meet
            raise UserError(
                f"{path}: not a readable ExecuTorch program ({type(error).__name__})"
            ) from error
        if self.plan.delegates:
            raise UserError(f"{path}: delegates to {self.plan.delegates[0].id}")
        self.memory = [
            torch.zeros(size, dtype=torch.uint8) for size in self.plan.non_const_buffer_sizes
        ]
        self.values = []
        for value in self.plan.values:  # lists refer to values before them
            self.values.append(self.read(value.val))

    def read(self, value):
        """Convert a value of the file to Python: numbers, lists of numbers, and tensors that share
        the planned memory.
        """
        kind = type(value).__name__
        if kind == "Tensor":
            return self.tensor(value)
        if kind == "IntList":
            return [self.plan.values[i].val.int_val for i in value.items]
        return None if kind == "Null" else next(iter(vars(value).values()))

    def tensor(self, value):
        """Return a constant, or a view of the planned memory of a tensor."""
        dtype, strides = DTYPES[value.scalar_type], [0] * len(value.sizes)
        step = 1
        for axis in reversed(value.dim_order):
            strides[axis], step = step, step * value.sizes[axis]
        place = value.allocation_info
        if place is None:
            data = torch.frombuffer(
                bytearray(self.program.constant_buffer[value.data_buffer_idx].storage), dtype=dtype
            )
        else:
            start = place.memory_offset_low + (place.memory_offset_high << 32)
            data = self.memory[place.memory_id][start : start + step * dtype.itemsize].view(dtype)
        return data[:step].as_strided(value.sizes, strides)

    def __call__(self, window):
        """Run the program: input tensor -> output tensor."""
        self.values[self.plan.inputs[0]].copy_(window)
        for step in self.plan.chains[0].instructions:
            call = step.instr_args
            operator = self.plan.operators[call.op_index]
            space, name = operator.name.split("::")
            function = getattr(getattr(torch.ops, space), name).default
            arguments = [self.values[i] for i in call.args]
            arguments[-1].copy_(function(*arguments[: len(function._schema.arguments)]))
        return self.values[self.plan.outputs[0]].clone()
