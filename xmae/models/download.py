"""Weights by name from a model hub: "hf://org/name", or "hf://org/name@revision"."""

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

from xmae.errors import UserError

SCHEME, WEIGHTS, HEADS = "hf://", "model.safetensors", "heads.json"
NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def download(name):
    """Return the path of the weights of "hf://org/name[@revision]", from the cache or downloaded
    from the hub. Its heads, if it has some, lie beside them.

    Raises
    ------
    UserError
        If the name is none, or hub or cache do not have it.
    """
    found = NAME.fullmatch(str(name).removeprefix(SCHEME))
    if not found:
        raise UserError(f"{name}: expected hf://org/name, or hf://org/name@revision")
    try:
        path = Path(hf_hub_download(found["repo"], WEIGHTS, revision=found["revision"]))
        with suppress(EntryNotFoundError):  # most have none
            hf_hub_download(found["repo"], HEADS, revision=found["revision"])
        return path
    except (HfHubHTTPError, EntryNotFoundError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: not to be had from the hub ({reason})") from error
