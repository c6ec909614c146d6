"""A foreign encoder as one of ours: scaled windows (B, 1, 1000) in, embeddings (B, E) out."""

import torch
from torch import nn

from xmae.models.adopted.contract import Contract, Prepare
from xmae.models.adopted.programs import open_program
from xmae.models.adopted.registry import ARCHITECTURES


class Foreign(nn.Module):
    """Base class of foreign encoders.

    Parameters
    ----------
    contract : Contract
        What the network hears.
    embed_dim : int
        Width of its embedding.
    """

    is_foreign = True  # its weights belong to others: no bundle carries them

    def __init__(self, contract, embed_dim):
        super().__init__()
        self.contract, self.embed_dim, self.prepare = contract, embed_dim, Prepare(contract)

    def tokens(self, ppg):
        """Map scaled windows (B, 1, 1000) -> tokens (B, n, D), of all parts of a window in
        order.
        """
        parts = self.prepare(ppg)  # (B, parts, 1, n_times)
        heard = self.hear(parts.flatten(0, 1))
        return heard.unflatten(0, (-1, parts.shape[1])).flatten(1, 2)

    def pool(self, tokens):
        """Map tokens (B, n, D) -> embedding (B, E): the mean over the parts of a window."""
        n_parts = self.contract.n_parts
        each = self.pool_part(tokens.unflatten(1, (n_parts, -1)).flatten(0, 1))
        return each.unflatten(0, (-1, n_parts)).mean(1)

    def forward(self, ppg):
        """Map scaled windows (B, 1, 1000) -> embedding (B, E)."""
        return self.pool(self.tokens(ppg))


class AdoptedEncoder(Foreign):
    """An encoder of a published architecture.

    Parameters
    ----------
    architecture : str
        A name in the registry.
    layout : dict
        Settings of its network.
    """

    def __init__(self, architecture, layout):
        known = ARCHITECTURES[architecture]
        network = known.network(**layout)
        super().__init__(known.contract, network.embed_dim)
        self.network, self.config = network, {"architecture": architecture, "layout": layout}

    def hear(self, x):
        """Map inputs (B, 1, n_times) -> tokens."""
        return self.network.tokens(x)

    def pool_part(self, tokens):
        """Map the tokens of one input -> embedding."""
        return self.network.pool(tokens)


class ProgramEncoder(Foreign):
    """An encoder in a program file: ONNX, TorchScript or torch.export.

    Its bytes are a buffer, so that it travels in a safetensors file like weights do. It has one
    token, its embedding.

    Parameters
    ----------
    program : str
        "onnx", "torchscript" or "torch-export".
    contract : dict
        Settings of `Contract`.
    embed_dim : int
        Width of the embedding.
    n_bytes : int
        Size of the file.
    """

    def __init__(self, program, contract, embed_dim, n_bytes):
        super().__init__(Contract.of(contract), embed_dim)
        self.config = {
            "program": program, "contract": contract, "embed_dim": embed_dim, "n_bytes": n_bytes
        }  # fmt: skip
        self.register_buffer("content", torch.zeros(n_bytes, dtype=torch.uint8))
        self.opened = None

    def hear(self, x):
        """Map inputs (B, 1, n_times) -> the embedding as one token (B, 1, E)."""
        if self.opened is None:
            self.opened = open_program(self.config["program"], bytes(self.content.cpu().numpy()))
        y = self.opened(x)
        y = y[self.contract.output] if isinstance(y, tuple | list) else y
        time = {"channels_time": 2, "time_channels": 1}.get(self.contract.layout)
        return (y if time is None else y.mean(time))[:, None]

    def pool_part(self, tokens):
        """Map (B, 1, E) -> (B, E)."""
        return tokens[:, 0]
