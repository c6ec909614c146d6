"""Encoders in the layout that model hubs use: `config.json`, `model.safetensors`, a model card.

A folder needs no network: `xmae.load(folder)`. A name on a hub is asked for by name alone:
`xmae.load("hf://org/name")`, or `hf://org/name@revision`. Which hub, which token and where the
cache is, say the hub's own variables (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE).
"""

import json
from pathlib import Path

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from torch import nn

from xmae.files import write_json
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.download import HEADS, WEIGHTS
from xmae.signals.window import N_TIMES, SFREQ
from xmae.version import __version__

TAGS = ("ppg", "photoplethysmography", "biosignals", "wearable", "heart-rate")
CARD = """---
license: {licence}
library_name: xmae
pipeline_tag: feature-extraction
tags:
{tags}
---

# {name}

PPG encoder for xMAE: 10 s of PPG ({sfreq} Hz, {n_times} samples, 0.5-8 Hz, scaled to [-1, 1]) to an
embedding of {embed_dim} numbers; {parameters:,} parameters. Not a medical device; the provenance
says whom it has seen.

```python
import xmae

encoder = xmae.load("hf://ORG/{name}")          # or xmae.load(folder), without a network
embedding = encoder(ppg)                          # (batch, 1, {n_times}) -> (batch, {embed_dim})
```

## Provenance

```json
{provenance}
```
"""


class HubEncoder(nn.Module, PyTorchModelHubMixin):
    """An encoder with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    Parameters
    ----------
    encoder : torch.nn.Module
        From `xmae.load`.
    licence : str
        Licence in the card's metadata, by its name on the hub.
    name : str
        Name in the card.
    heads : dict, optional
        Linear heads by task, as heads.json keeps them; written beside the weights.

    Examples
    --------
    >>> HubEncoder(load_encoder("student-mcu-s")).save_pretrained("folder")    # doctest: +SKIP
    >>> HubEncoder.from_pretrained("folder")(torch.zeros(1, 1, 1000)).shape    # doctest: +SKIP
    torch.Size([1, 256])
    """

    def __init__(self, encoder, licence="apache-2.0", name="encoder", heads=None):
        super().__init__()
        self.encoder, self.licence, self.name, self.heads = encoder, licence, name, heads

    def forward(self, ppg):
        """Map scaled PPG (B, 1, 1000) -> embedding (B, E)."""
        return self.encoder(ppg)

    def _save_pretrained(self, save_directory):
        """Write the three files of a published model, and its heads if it has some."""
        folder, provenance = Path(save_directory), self.encoder.provenance
        header = save_encoder(self.encoder, folder / WEIGHTS, provenance)
        window = {"sfreq": SFREQ, "n_times": N_TIMES, "range": [-1, 1]}
        config = {"model_type": "xmae", "xmae_version": __version__, "window": window}
        config |= {key: json.loads(header[key]) for key in ("config", "provenance")}
        write_json(folder / "config.json", config | {"kind": header["kind"]})
        if self.heads:
            write_json(folder / HEADS, {Path(WEIGHTS).stem: self.heads})
        card = CARD.format(
            licence=self.licence, tags="\n".join(f"- {tag}" for tag in TAGS), name=self.name,
            sfreq=SFREQ, n_times=N_TIMES, embed_dim=self.encoder.embed_dim,
            parameters=sum(p.numel() for p in self.encoder.parameters()),
            provenance=json.dumps(provenance, indent=2),
        )  # fmt: skip
        (folder / "README.md").write_text(card)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *, revision=None, cache_dir=None, force_download=False,
        local_files_only=False, token=None, **settings
    ):  # fmt: skip
        """Load an encoder from a folder, or from a name on the hub.

        The weights' own header says what they are; config.json is for other programs and not read.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).is_dir():
            return cls(load_encoder(name), **settings)
        path = hf_hub_download(
            name, WEIGHTS, revision=revision, cache_dir=cache_dir, token=token,
            force_download=force_download, local_files_only=local_files_only,
        )  # fmt: skip
        return cls(load_encoder(path), **settings)
