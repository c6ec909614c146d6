"""Which of a training run's processes this one is, on one machine or many, and how a network is
spread over them.
"""

import os

from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from xmae.errors import UserError
from xmae.launch import is_torchrun


def layout(devices):
    """Return the number of processes per machine, and of machines: those of torchrun, which
    `devices` must not contradict, else `devices` on one machine.

    Raises
    ------
    UserError
        If torchrun started another number of processes on this machine than `devices`, and
        `devices` is not 1.
    """
    if not is_torchrun():
        return devices, 1
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if devices not in (1, here):
        raise UserError(
            f"devices is {devices}, but torchrun started {here} processes on this machine; leave "
            "it out"
        )
    return here, int(os.environ["WORLD_SIZE"]) // here


def n_processes(devices):
    """Return the number of processes on all machines; errors as `layout`."""
    here, machines = layout(devices)
    return here * machines


def units(module):
    """Return the repeated blocks of a network, outermost first; each is compiled and sharded
    separately.
    """
    for child in module.children():
        if getattr(child, "is_unit", False):
            yield child
        else:
            yield from units(child)


def shard(objective, mesh):
    """Shard a network by fully sharded data parallel (FSDP2): parameters, gradients and optimiser
    states are spread over the processes.
    """
    for unit in units(objective):
        fully_shard(unit, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    register_fsdp_forward_method(objective, "validate")
