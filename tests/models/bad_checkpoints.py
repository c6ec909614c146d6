"""Files of `torch.save` that are no checkpoint to load."""

from pathlib import Path

import torch

BAD_CHECKPOINTS = ("pickle", "truncated", "foreign", "missing")


def bad_checkpoint(path, how, foreign="layer.weight"):
    """Write one of `BAD_CHECKPOINTS` and return its path; `foreign` names the tensor of another
    model.
    """
    if how == "pickle":
        torch.save({"state_dict": {"a": Path("x")}}, path)
    elif how == "truncated":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:800])
    elif how == "foreign":
        torch.save({foreign: torch.zeros(3)}, path)
    return path
