"""Who started this process: torchrun, a training of ours that shares its batches, or neither.

Batch systems and containers set RANK, LOCAL_RANK, SLURM_PROCID and the like for every program that
runs in them. They count only where torchrun set them, or a training that started this process.
"""

import os
from contextlib import contextmanager

BY_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
LAUNCHER = "XMAE_LAUNCHER"  # process that started others for a training
STRAYS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK")
STRAY_STARTS = ("SLURM_", "PMI_", "OMPI_", "JSM_", "LSB_")


def is_torchrun():
    """Tell whether torchrun started this process."""
    return all(name in os.environ for name in BY_TORCHRUN)


def is_helper():
    """Tell whether a training started this process to share its batches."""
    return os.environ.get(LAUNCHER) == str(os.getppid())


def rank():
    """Return the rank of this process in the training run; 0 if it is the only one."""
    if is_torchrun():
        return int(os.environ["RANK"])
    return int(os.environ.get("LOCAL_RANK", 0)) if is_helper() else 0


@contextmanager
def own_environment():
    """Hide the variables of a batch system while a training runs, unless torchrun or another
    training of ours started this process.
    """
    if is_torchrun() or is_helper():
        yield
        return
    strays = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name in STRAYS or name.startswith(STRAY_STARTS)
    }
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[LAUNCHER]
        os.environ.update(strays)
