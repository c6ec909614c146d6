"""Encoders on disk: safetensors, with class, configuration and provenance in the file's header."""

import json
from importlib.resources import files
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from xmae.errors import UserError, refusing
from xmae.files import atomic_file
from xmae.manifest import checked
from xmae.models.adopted.encoder import AdoptedEncoder, ProgramEncoder
from xmae.models.beat_student import BeatStudent
from xmae.models.criss_cross import CrissCrossEncoder
from xmae.models.efficientnet import EfficientNetEncoder
from xmae.models.provenance import Provenance, read_header
from xmae.models.resnet import ResNetEncoder
from xmae.models.student import McuStudent
from xmae.models.vit import ViTEncoder
from xmae.models.xmae import PPGEncoder, TimedPPGEncoder, XMAEConfig, config_dict

FILES = ("encoder", "student", "model")  # of a training's folder, and of a published one
KINDS = {  # what a file says of itself: the class, made from its attribute `config`
    "ppg": PPGEncoder,
    "ppg-timed": TimedPPGEncoder,
    "mcu": McuStudent,
    "beats": BeatStudent,
    "vit": ViTEncoder,
    "resnet": ResNetEncoder,
    "efficientnet": EfficientNetEncoder,
    "criss-cross": CrissCrossEncoder,
    "adopted": AdoptedEncoder,
    "program": ProgramEncoder,
}
SHIPPED_NAMES = (
    "base",
    "student-mcu",
    "student-mcu-s",
    "student-app",
    "beats-mcu-s",
    "beats-mcu",
    "beats-app",
)
SHIPPED = {name: f"{name}.safetensors" for name in SHIPPED_NAMES}
RENAMED = {"base-timing": "base"}  # for a message
MOVING = {"student-motion": "student-motion.safetensors"}  # of PPG and acceleration


def save_encoder(encoder, path, provenance):
    """Write an encoder and its provenance (a JSON value) atomically as safetensors; return the
    file's header.
    """
    checked(provenance, Provenance, f"{path}: provenance")
    (kind,) = (kind for kind, known in KINDS.items() if type(encoder) is known)
    config = config_dict(encoder.config) if isinstance(encoder, PPGEncoder) else encoder.config
    header = {"kind": kind, "config": json.dumps(config), "provenance": json.dumps(provenance)}
    tensors = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(in_order(safetensors.torch.save(tensors, header)))
    return header


def is_foreign(encoder):
    """Tell whether an encoder's weights are from other authors, see `xmae adopt`."""
    return getattr(encoder, "is_foreign", False)


def subjects_of(origin):
    """Return the subjects that a provenance, and those nested in it, name as trained or chosen
    on.
    """
    if not isinstance(origin, dict):
        return set()
    seen = {subject for subject, split in origin.get("splits", {}).items() if split != "test"}
    return seen | subjects_of(origin.get("teacher")) | subjects_of(origin.get("begun_from"))


def in_order(content):
    """Return a safetensors file with a sorted header: the library orders its entries differently
    each time.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


def file_of(name):
    """Return the file of an encoder: a shipped one, in the folder of a run or of a published model,
    from a hub, or at the path itself.
    """
    if name in SHIPPED | MOVING:
        return files("xmae.models.weights") / (SHIPPED | MOVING)[name]
    if str(name).startswith("hf://"):
        try:
            from xmae.models.download import download
        except ImportError as error:
            raise UserError(f"{error.name} is not installed; pip install 'xmae[hub]'") from error
        return download(name)
    folder = Path(name)
    if not folder.is_dir():
        return folder
    there = (folder / f"{kind}.safetensors" for kind in FILES)
    return next((path for path in there if path.is_file()), folder / f"{FILES[-1]}.safetensors")


def load_encoder(name, ppg=True):
    """Load a PPG encoder, or one of other signals, in evaluation mode.

    Parameters
    ----------
    name : str or Path
        A shipped encoder ("base", "student-mcu", ...), a safetensors file that `save_encoder`
        wrote, the folder of a training, one as `xmae publish` writes it, or
        "hf://org/name" on a hub.
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
        now = f"; it is called {RENAMED[name]} now" if name in RENAMED else ""
        known = ", ".join(SHIPPED)
        raise UserError(f"{name}: no such file, and not a shipped encoder ({known}){now}")
    with refusing(path, "a safetensors file"), safe_open(path, "pt") as file:
        header, names = file.metadata() or {}, file.keys()
        state = {name: file.get_tensor(name) for name in names}
    kind, config, provenance = read_header(header, KINDS, path)
    with refusing(path, "an encoder that xmae saved"):
        with torch.device("meta"):  # sizes alone: no memory yet for what the header says
            refuse_other_tensors(build(kind, config), state)
        encoder = build(kind, config)
        encoder.load_state_dict(state)
    for tensor_name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: damaged weights: {tensor_name} holds NaN or infinite numbers")
    if ppg and isinstance(encoder, CrissCrossEncoder):
        raise UserError(
            f"{path}: an encoder of ECG, EEG or respiration where one of PPG is needed; see xmae "
            "fuse"
        )
    encoder.provenance = provenance
    return encoder.eval()


def build(kind, config):
    """Make an encoder of a kind with the initial weights of a training."""
    if issubclass(KINDS[kind], PPGEncoder):
        return KINDS[kind](XMAEConfig(**config | {"stem_widths": tuple(config["stem_widths"])}))
    return KINDS[kind](**config)


def refuse_other_tensors(encoder, state):
    """Raise a `ValueError` unless a file holds exactly the tensors of an encoder, in the right
    shapes.
    """
    own = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    found = {name: tensor.shape for name, tensor in state.items()}
    if own != found:
        names = sorted(
            name for name in own.keys() | found.keys() if own.get(name) != found.get(name)
        )
        raise ValueError(f"its tensors do not fit its configuration, {names[0]!a} among them")
