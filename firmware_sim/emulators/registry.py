"""Which emulator runs a device: what each needs, which is there, and the function that runs
firmware in it.
"""

import shutil
from importlib.util import find_spec

from xmae.errors import UserError

NEEDS = {  # what an emulator takes to run
    "unicorn": "pip install 'xmae[firmware]'",
    "qemu": "apt-get install qemu-system-arm",
    "qemu-user": "apt-get install qemu-user, then xmae simulate --setup",
    "qemu-user-32": "apt-get install qemu-user, then xmae simulate --setup",
}
# the system that each wants, see `arm_root`
ROOTS = {"qemu-user": "arm64", "qemu-user-32": "armhf"}


def installed(emulator):
    """Tell whether an emulator, one of `NEEDS`, is installed."""
    if emulator == "unicorn":
        return find_spec("unicorn") is not None
    if emulator == "qemu":
        return shutil.which("qemu-system-arm") is not None
    from xmae.firmware_sim.build.arm_root import is_set_up

    return is_set_up(ROOTS[emulator])


def chosen_emulator(device, name=None):
    """Return the requested emulator, or the first of the device's emulators that is installed.

    Raises
    ------
    UserError
        If the device is not for that emulator, or none of its emulators is installed.
    """
    if name is not None and name not in device.emulators:
        raise UserError(
            f"{device.name} cannot be emulated by '{name}'; by {' or '.join(device.emulators)}"
        )
    for emulator in [name] if name else device.emulators:
        if installed(emulator):
            return emulator
    raise UserError(f"{device.name} needs {what_it_needs(device)}")


def what_it_needs(device):
    """Say how to install one of the device's emulators."""
    return " or ".join(NEEDS[emulator] for emulator in device.emulators)


def runner(emulator):
    """Return the function that runs Cortex-M firmware: `run_unicorn` or `run_qemu`."""
    if emulator == "unicorn":
        from xmae.firmware_sim.emulators.unicorn import run_unicorn

        return run_unicorn
    from xmae.firmware_sim.emulators.qemu import run_qemu

    return run_qemu
