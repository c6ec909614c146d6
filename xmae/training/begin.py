"""Where the weights of a pretraining begin: with those of an encoder, a run, or a checkpoint."""

from importlib.resources import files
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.files import read_json
from xmae.models.checkpoint import SHIPPED, load_encoder, subjects_of

ENCODER, WHOLE, SETTINGS = "encoder.safetensors", "model.safetensors", "config.json"
ORIGINS = "origins.json"  # provenance of what a run learns from besides its store
PREFIX = "objective."  # of the objective's weights in a checkpoint
INNER = "encoder."  # of the encoder's weights in a whole model


def begin_from(objective, name):
    """Set the initial weights of an objective.

    Parameters
    ----------
    objective : Objective
        Gets weights in place: all of them from a run of the same method and sizes, or from a
        shipped encoder whose whole model is shipped too; else those of the encoder.
    name : str
        A shipped encoder, an encoder's file, "hf://org/name", the folder of a pretraining, or one
        of its checkpoints (.ckpt).

    Returns
    -------
    dict
        Provenance of the weights: what `seen_subjects` needs to know, among others.

    Raises
    ------
    UserError
        If there are no such weights, or they are of another encoder than the method trains.
    """
    path = Path(name)
    if path.suffix == ".ckpt":
        state, encoder = checkpoint_state(path), None
        origin = provenance_of(path.parent.parent)
    else:
        encoder = load_encoder(path / ENCODER if (path / ENCODER).is_file() else name, ppg=False)
        state, origin = whole_state(name, encoder), encoder.provenance
    for whole in (state, {f"model.{key}": tensor for key, tensor in state.items()}):
        if same_tensors(objective.state_dict(), whole):
            objective.load_state_dict(whole, strict=False)
            return origin
    state = {} if encoder is None else encoder.state_dict()
    alike = encoder is not None and type(encoder) is type(objective.encoder)
    if not alike or not same_tensors(objective.encoder.state_dict(), state):
        raise UserError(
            f"{name}: is of another encoder than the method {objective.name} trains in this size;"
            " give the --method and --size that it was made with"
        )
    objective.encoder.load_state_dict(state)
    objective.restart_teacher()
    return origin


def same_tensors(one, other):
    """Tell whether two state dicts have tensors with the same names and shapes."""
    one, other = (
        {key: x.shape for key, x in state.items() if torch.is_tensor(x)} for state in (one, other)
    )
    return one == other


def checkpoint_state(path):
    """Return the objective's weights from a checkpoint of a training."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # a damaged file raises any of a dozen types
        raise UserError(f"{path}: not readable as a checkpoint ({type(error).__name__})") from error
    return {key[len(PREFIX) :]: x for key, x in state.items() if key.startswith(PREFIX)}


def whole_state(name, encoder):
    """Return the weights of the whole model of a run's folder, or of a shipped encoder.

    The latter lies in two files: that of the encoder, and one with the rest of the model.

    Parameters
    ----------
    name : str
        As `begin_from` takes it.
    encoder : nn.Module
        The encoder of that name.

    Returns
    -------
    dict of str to Tensor
        {} if there is no more than the encoder.
    """
    if name not in SHIPPED:
        path = Path(name) / WHOLE
        return read_weights(path) if path.is_file() else {}
    path = files("xmae.models.weights") / around(name)
    if not path.is_file():
        return {}
    inner = {f"{INNER}{key}": tensor for key, tensor in encoder.state_dict().items()}
    return read_weights(path) | inner


def around(name):
    """Return the name of the file with the rest of a shipped encoder's whole model."""
    return f"{name}-around.safetensors"


def read_weights(path):
    """Read the weights in a safetensors file."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error})") from error


def provenance_of(run):
    """Return the provenance of a run that has a checkpoint: its settings, and the splits of its
    store.

    Raises
    ------
    UserError
        If nobody knows on whom it was trained.
    """
    if (run / ENCODER).is_file():
        return load_encoder(run / ENCODER, ppg=False).provenance
    settings = read_json(run / SETTINGS) if (run / SETTINGS).is_file() else {}
    try:
        store = WindowStore(settings["data"])
    except (KeyError, TypeError, UserError):
        store = None
    if store is None or store.contents != settings.get("store_sha256"):
        raise UserError(
            f"{run}: the store of this training is not there as it was, so nobody knows on whom it"
            f" was trained; finish the training, and begin from {ENCODER}"
        )
    before = read_json(run / ORIGINS) if (run / ORIGINS).is_file() else {}
    known = {"method": settings.get("method"), "settings": settings, "splits": store.splits}
    return before | known


def known_to(origin, splits):
    """Return the subjects of the splits "val" and "test" that an encoder of this provenance was
    trained or chosen on, sorted.
    """
    held_out = {subject for subject, split in splits.items() if split != "train"}
    return sorted(subjects_of(origin) & held_out)
