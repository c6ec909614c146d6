"""Results of long measurements, stored in files and computed again once anything they depend on
changes.
"""

import hashlib
import json

from xmae.export.bundle.provenance import tool_versions
from xmae.files import read_json, write_json


def made_of(encoder, store, formats, **settings):
    """Collect everything that the results of an encoder on a store depend on.

    Parameters
    ----------
    encoder : torch.nn.Module
        Its weights count, whatever file they are from.
    store : WindowStore
    formats : iterable of str
        Names of targets, whose tools count besides those that all need.
    **settings
        Anything else, JSON-able.

    Returns
    -------
    dict
        JSON-able: SHA-256 of weights and store, versions of all tools, settings.
    """
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    tools = tool_versions(["", *formats])
    return {
        "weights_sha256": weights.hexdigest(),
        "store_sha256": store.contents,
        "tools": tools,
        **settings,
    }


def kept(path, of, make):
    """Return the JSON result stored at `path` if it depends on the same things; else compute it by
    `make` and store it.
    """
    if path.is_file() and (before := read_json(path)).get("of") == of:
        return before["result"]
    write_json(path, {"of": of, "result": make()})
    return read_json(path)["result"]


def digest(of):
    """Return an 8-character digest of a JSON value, for a folder's name."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:8]
