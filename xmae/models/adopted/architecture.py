"""One published encoder: its network, how a checkpoint says its sizes, what it hears."""

from collections.abc import Callable
from dataclasses import dataclass

from xmae.models.adopted.contract import Contract


@dataclass(frozen=True)
class Architecture:
    """An entry in the registry of published architectures.

    Parameters
    ----------
    network : callable
        Class of the network. Its instances have `tokens` (B, 1, L) -> (B, n, D), `pool` -> (B, E)
        and `embed_dim`.
    layout : callable
        State dict -> the settings of `network` that fit it.
    published : dict
        The settings of the published file, for random weights.
    contract : Contract
        What it hears.
    paper : str
        Where it is described.
    licence : str
        What its authors state, for people; the licence of the weights is asked for all the same.
    unused : tuple of str
        Prefixes of tensors of the checkpoint that no embedding needs (decoders).
    """

    network: Callable
    layout: Callable
    published: dict
    contract: Contract
    paper: str
    licence: str
    unused: tuple[str, ...] = ()
