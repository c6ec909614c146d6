"""The hardware and software that a number was measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("xmae", "torch", "executorch", "ai-edge-litert", "onnxruntime", "numpy", "scikit-learn")


def hardware():
    """Return the CPU, memory, system and package versions of this machine.

    Returns
    -------
    dict
        `cpu`, `cores` (usable by this process), `memory_gib`, `int8_dot` (the CPU's int8
        dot-product instructions that are known to matter, or ""), `system`, `python` and
        `packages`.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "int8_dot": " ".join(
            flag
            for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
            if flag in flags
        ),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None
