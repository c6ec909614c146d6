"""`xmae publish`: an encoder as a folder in the layout of model hubs, and only if asked, online."""

import copy
from pathlib import Path

from xmae.errors import UserError
from xmae.evaluation.heads.heads import heads_of, written
from xmae.export.bundle.provenance import without_folders
from xmae.models.checkpoint import is_foreign, load_encoder


def publish(
    folder: str,
    model: str = "student-mcu",
    licence: str | None = None,
    to: str | None = None,
    private: bool = False,
) -> dict:
    """Write config.json, model.safetensors, its heads and a model card with metadata; with `--to`,
    upload them.

    The folder works by itself: `xmae.load(folder)` needs no network. Without `--to` nothing leaves
    this machine.

    Parameters
    ----------
    folder : str
        Folder to write into; made if need be.
    model : str
        Encoder: a name such as "student-mcu", or a file.
    licence : str
        Licence of the weights, by its name on the hub. Default: apache-2.0; must be given for
        weights of others.
    to : str
        Name on the hub, as org/name; token and address from the hub's own variables.
    private : bool
        Make a new repository on the hub private.

    Returns
    -------
    dict
        `files` written, `uploaded` (address, or null); "out".

    Raises
    ------
    UserError
        If huggingface_hub is not installed, the model cannot be read, weights of others have no
        licence, or the hub refuses.
    """
    try:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        from xmae.models.hub import HubEncoder
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'xmae[hub]'") from error
    encoder = load_encoder(model)
    if is_foreign(encoder) and not licence:
        stated = encoder.provenance.get("licence")
        raise UserError(f"{model}: weights of others ({stated}); state --licence, if it allows")
    clean = copy.copy(encoder)
    clean.provenance = without_folders(encoder.provenance)
    name, heads = Path(model).stem, written({model: heads_of(model)})[model]
    hub = HubEncoder(clean, licence or "apache-2.0", name, heads)
    where = None
    try:
        hub.save_pretrained(folder)
        if to:
            where = str(hub.push_to_hub(to, private=private or None))
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{to}: the hub refuses ({reason})") from error
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    files = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    summary = [f"{', '.join(files)} in {folder}", *([f"uploaded: {where}"] if where else [])]
    return {"files": files, "uploaded": where, "summary": summary, "out": str(folder)}
