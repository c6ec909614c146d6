"""Checkpoints of the reference implementation: its tensor names become ours, its unused heads are
skipped by name.
"""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from xmae.data.recording.sizes import read_arrays
from xmae.errors import UserError
from xmae.models.xmae import XMAE, XMAEConfig

# In the reference, these parameters never run or never get a gradient; ours does not have them.
UNUSED = re.compile(
    r"mask_token$|bridger\.ppg2ecg\.|ecg_path\.proj\.|ppg_path\.(dec_blk|decoder|mask_loc_table)\b"
)

# Applied in turn to each of the reference's names.
RENAME = [
    (r"^ppg_path\.", "encoder."),
    (r"^ecg_path\.dec_blk\.", "decoder."),
    (r"^ecg_path\.decoder\.deconv\.", "to_samples."),
    (r"^ecg_path\.mask_loc_table\.weight$", "masked_queries"),
    (r"^ecg_path\.", "ecg_encoder."),
    (r"^bridger\.ecg2ppg\.0\.nq\.", "bridge.norm_queries."),
    (r"^bridger\.ecg2ppg\.0\.nkv\.", "bridge.norm_keys."),
    (r"^bridger\.ecg2ppg\.0\.ffn\.0\.", "bridge.norm_mlp."),
    (r"^bridger\.ecg2ppg\.0\.ffn\.1\.", "bridge.mlp.0."),
    (r"^bridger\.ecg2ppg\.0\.ffn\.3\.", "bridge.mlp.2."),
    (r"^bridger\.ecg2ppg\.0\.", "bridge."),
    (r"^encoder\.proj\.", "encoder.projection."),
    (r"\.pos$", ".positions"),
    (r"\.patcher\.proj\.", ".patches."),
    (r"\.encoder\.blocks\.", ".blocks."),
    (r"\.stem\.enc(\d)\.", r".stem.level\1."),
    (r"\.branches\.(\d)\.0\.weight$", r".kernels.\1"),
    (r"\.stem\.lat(\d)\.", r".stem.lateral\1."),
    (r"\.stem\.red(\d)to\d\.", r".stem.reduce\1."),
    (r"\.skip\.weight$", ".skip.0.weight"),
    (r"\.skip_bn\.", ".skip.1."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attention.qkv."),
    (r"\.attn\.out_proj\.", ".attention.out."),
]


def load_reference_checkpoint(path, n_heads=None):
    """Build an `XMAE` in evaluation mode from a checkpoint in the reference's tensor names.

    Parameters
    ----------
    path : str or Path
        A PyTorch file (plain state dictionary, or a Lightning checkpoint whose names start with
        ``model.``), a safetensors file, or an npz file with ``state/<name>`` arrays. No pickled
        code is executed.
    n_heads : int, optional
        Attention heads, the one size that does not show in the tensors. Default: what the file says
        (``cfg/nhead`` of an npz file, ``hyper_parameters`` of a Lightning checkpoint), else 8 as
        published, fewer if they would be less than 8 wide.

    Returns
    -------
    XMAE

    Raises
    ------
    UserError
        If the file is missing or damaged, would need code to unpickle, or is not such a checkpoint.
    """
    state, written = read_state(Path(path))
    state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    try:
        model = XMAE(config_of(state, n_heads or written))
        model.load_state_dict(to_ours(state))
    except (KeyError, IndexError, RuntimeError) as error:
        raise UserError(
            f"{path}: not a checkpoint of the xMAE reference design ({first_line(error)})"
        ) from error
    return model.eval()


def read_state(path):
    """Read the tensors by name, and the number of heads if the file states it, from .npz,
    .safetensors or a PyTorch file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, lambda name: name.startswith(("state/", "cfg/nhead")))
            n_heads = arrays.pop("cfg/nhead", None)
            state = {name.removeprefix("state/"): torch.from_numpy(x) for name, x in arrays.items()}
            return state, None if n_heads is None else int(n_heads)
        if path.suffix == ".safetensors":
            return load_file(path), None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own family of errors for a damaged file
        raise UserError(f"{path}: cannot be read as a checkpoint ({first_line(error)})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{path}: holds no state dictionary of tensors")
    return state, content.get("hyper_parameters", {}).get("nhead")


def config_of(state, n_heads):
    """Return the sizes of a model from the shapes of the reference's tensors."""
    depth = {
        path: len(
            {name.split(".")[3] for name in state if name.startswith(f"{path}.encoder.blocks.")}
        )
        for path in ("ppg_path", "ecg_path")
    }
    width = state["ppg_path.pos"].shape[-1]
    stem = "ppg_path.stem."
    return XMAEConfig(
        width=width,
        n_heads=n_heads or min(XMAEConfig.n_heads, width // 8),
        depth_ppg=depth["ppg_path"],
        depth_ecg=depth["ecg_path"],
        stem_widths=tuple(
            state[f"{stem}{name}.weight"].shape[1] for name in ("lat1", "lat2", "red3to2")
        ),
        stem_out=state[f"{stem}skip.weight"].shape[0],
        projection=state["ppg_path.proj.1.weight"].shape[0],
    )


def to_ours(state):
    """Rename the reference's tensors to ours; BatchNorms of an inception block's branches are
    joined over their channels.
    """
    ours, branches = {}, {}
    for name, tensor in state.items():
        if UNUSED.match(name):
            continue
        if norm := re.match(r"(.*)\.branches\.(\d)\.1\.(\w+)$", name):
            block, branch, field = norm.groups()
            branches.setdefault((block, field), {})[int(branch)] = tensor
        else:
            ours[rename(name)] = tensor
    for (block, field), parts in branches.items():
        joined = (
            parts[0]
            if field == "num_batches_tracked"
            else torch.cat([parts[i] for i in sorted(parts)])
        )
        ours[rename(f"{block}.norm.{field}")] = joined
    return ours


def rename(name):
    """Rename one tensor of the reference to ours."""
    for pattern, replacement in RENAME:
        name = re.sub(pattern, replacement, name)
    return name


def first_line(error):
    """Return the first line of an error's message, or the name of its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
