"""Checkpoints of others, read as data: nothing in them runs."""

import pickle
import zipfile

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from xmae.errors import UserError

INSIDE = ("state_dict", "model_state_dict", "net", "model", "encoder")  # where training scripts put
WRAPPERS = ("module.", "_orig_mod.", "backbone.")  # what they put before names
PLAIN = [  # numbers of NumPy, which scripts save beside the weights
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)),
]


def read_state(path):
    """Read the tensors of a checkpoint by name.

    Reads safetensors, and files of `torch.save` by PyTorch's restricted unpickler, which makes
    tensors and plain values only. Names lose what wrappers such as DataParallel put before them.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        {name: tensor}.

    Raises
    ------
    UserError
        If it cannot be read, is damaged, or holds anything but tensors and plain values.
    """
    try:
        if str(path).endswith(".safetensors"):
            found = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals(PLAIN):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds objects that come alive only by running code, which is refused; save "
            "its state_dict alone"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path}: damaged or no checkpoint ({type(error).__name__})") from error
    return plain_names(tensors_in(found, path))


def tensors_in(found, path):
    """Return the dict of tensors in the content of a file, perhaps one level down."""
    for name in INSIDE:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected tensors by name, got {type(found).__name__}")
    state = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise UserError(f"{path}: no tensors in it")
    return state


def plain_names(state):
    """Return the tensors under their names without the prefixes of wrappers."""
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = {name[len(wrapper) :]: value for name, value in state.items()}
    return state


def fill(network, state, path, unused=()):
    """Load tensors into a network; all of them must fit, except those with an `unused` prefix.

    Raises
    ------
    UserError
        If some are missing, left over, or of another shape.
    """
    state = {name: value for name, value in state.items() if not name.startswith(tuple(unused))}
    own = network.state_dict()
    # a counter that old files lack and no inference needs
    missing = [name for name in own if name not in state and "num_batches_tracked" not in name]
    foreign = [name for name in state if name not in own]
    shapes = [name for name in state if name in own and state[name].shape != own[name].shape]
    for names, what in (
        (missing, "lacks"),
        (foreign, "also has"),
        (shapes, "has another shape of"),
    ):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise UserError(f"{path}: not a checkpoint of this architecture: {what} {shown}")
    network.load_state_dict(own | state)
    return network
