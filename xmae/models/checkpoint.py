"""Encoders on disk: safetensors, with class, configuration and provenance in the file's header."""

import json
from importlib.resources import files
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open

from xmae.errors import UserError
from xmae.files import atomic_file, read_json
from xmae.models.adopted.encoder import AdoptedEncoder, ProgramEncoder
from xmae.models.beat_student import BeatStudent
from xmae.models.criss_cross import CrissCrossEncoder
from xmae.models.efficientnet import EfficientNetEncoder
from xmae.models.resnet import ResNetEncoder
from xmae.models.student import McuStudent
from xmae.models.vit import ViTEncoder
from xmae.models.xmae import PPGEncoder, XMAEConfig, config_dict

KINDS = {  # what a file says of itself: the class, made from its attribute `config`
    "ppg": PPGEncoder,
    "mcu": McuStudent,
    "beats": BeatStudent,
    "vit": ViTEncoder,
    "resnet": ResNetEncoder,
    "efficientnet": EfficientNetEncoder,
    "criss-cross": CrissCrossEncoder,
    "adopted": AdoptedEncoder,
    "program": ProgramEncoder,
}
SHIPPED_NAMES = ("base", "student-mcu", "student-mcu-s", "student-app", "beats-mcu")
SHIPPED = {name: f"{name}.safetensors" for name in SHIPPED_NAMES}


def save_encoder(encoder, path, provenance):
    """Write an encoder and where it came from (a JSON value) atomically as safetensors; returns the
    file's header.
    """
    (kind,) = (kind for kind, known in KINDS.items() if type(encoder) is known)
    config = config_dict(encoder.config) if kind == "ppg" else encoder.config
    header = {"kind": kind, "config": json.dumps(config), "provenance": json.dumps(provenance)}
    tensors = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(in_order(safetensors.torch.save(tensors, header)))
    return header


def is_foreign(encoder):
    """Whether the weights of an encoder are those of others, see `xmae adopt`."""
    return getattr(encoder, "is_foreign", False)


def in_order(content):
    """A safetensors file with its header in order: the library writes its entries in another order
    each time.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


def file_of(name):
    """The file of a shipped encoder, of a published folder, of a name on a hub, or the path itself."""
    if name in SHIPPED:
        return files("xmae.models.weights") / SHIPPED[name]
    if str(name).startswith("hf://"):
        try:
            from xmae.models.download import download
        except ImportError as error:
            raise UserError(f"{error.name} is not installed; pip install 'xmae[hub]'") from error
        return download(name)
    return Path(name) / "model.safetensors" if Path(name).is_dir() else Path(name)


def shipped_heads(name):
    """Linear heads on the embedding of a shipped encoder, by task; none for other encoders."""
    path = files("xmae.models.weights") / "heads.json"
    return read_json(path).get(name, {}) if name in SHIPPED else {}


def load_encoder(name, ppg=True):
    """Load a PPG encoder, or one of other signals, in evaluation mode.

    Parameters
    ----------
    name : str or Path
        A shipped encoder ("base", "student-mcu", "student-mcu-s", "student-app"), a safetensors
        file that `save_encoder` wrote, a folder with model.safetensors as `xmae publish` writes it,
        or "hf://org/name" on a hub.
    ppg : bool
        Whether it must take PPG; if not, a criss-cross encoder of ECG, EEG or respiration is
        welcome too.

    Returns
    -------
    nn.Module
        Scaled PPG (B, 1, L) -> embedding (B, E); its attribute `provenance` says how it was
        trained.

    Raises
    ------
    UserError
        If there is no such name or file, or the file is damaged, no encoder, or one of other
        signals than PPG.
    """
    path = file_of(name)
    if not path.is_file():
        raise UserError(f"{name}: no such file, and not a shipped encoder ({', '.join(SHIPPED)})")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
        config = json.loads(header["config"])
        if header["kind"] == "ppg":
            encoder = PPGEncoder(
                XMAEConfig(**config | {"stem_widths": tuple(config["stem_widths"])})
            )
        else:
            encoder = KINDS[header["kind"]](**config)
        encoder.load_state_dict(state)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error})") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: not an encoder that xmae saved ({type(error).__name__})"
        ) from error
    for tensor_name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: damaged weights: {tensor_name} holds NaN or infinite numbers")
    if ppg and isinstance(encoder, CrissCrossEncoder):
        raise UserError(
            f"{path}: an encoder of ECG, EEG or respiration where one of PPG is needed; see xmae fuse"
        )
    encoder.provenance = json.loads(header["provenance"])
    return encoder.eval()
