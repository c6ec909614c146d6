"""The device that a training runs on, and its precision."""

import platform
from pathlib import Path

import torch


def default_precision():
    """Return "bf16" where the hardware multiplies bfloat16 itself, else "fp32", since emulation is
    slower.
    """
    return "bf16" if has_bf16() else "fp32"


def has_bf16():
    """Tell whether the hardware multiplies bfloat16 itself."""
    return (
        torch.cuda.is_bf16_supported()
        if torch.cuda.is_available()
        else torch.cpu._is_avx512_bf16_supported()
    )


def device_name():
    """Return the name of the GPU, or of the processor with the number of threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return f"{name}, {torch.get_num_threads()} threads"
