"""A checkpoint, a program or a module of others becomes an encoder that every verb takes."""

import hashlib
import io
from pathlib import Path

import torch
from torch import nn

from xmae.errors import UserError, require_choice
from xmae.models.adopted.contract import Contract
from xmae.models.adopted.encoder import AdoptedEncoder, ProgramEncoder
from xmae.models.adopted.programs import SUFFIXES
from xmae.models.adopted.registry import ARCHITECTURES
from xmae.models.adopted.weights import fill, read_state
from xmae.signals.window import N_TIMES

WEIGHTS_ALONE = "; weights alone need --architecture, or their module: adopt_module in Python"
RANDOM = "random"  # in place of a file: weights as they are before any training


def open_foreign(file, architecture=None, contract=None, licence=None, seed=77):
    """Open an encoder of other authors.

    Parameters
    ----------
    file : str or Path
        Checkpoint of a published architecture; or `.onnx`, `.pt2` (torch.export), `.ts` or `.pt`
        (TorchScript); or "random" with an architecture.
    architecture : str, optional
        Name in the registry; without one the file is a program.
    contract : Contract, optional
        Of a program: what it hears and gives.
    licence : str
        Licence of the weights, for the provenance of whatever is made from them.
    seed : int
        Of random weights.

    Returns
    -------
    AdoptedEncoder or ProgramEncoder
        In evaluation mode, with `provenance`.

    Raises
    ------
    UserError
        If the file cannot be read as what it is said to be, its contract or licence is missing, or
        its output is no embedding.
    """
    if str(file) == RANDOM:
        return random_foreign(architecture, seed)
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not licence:
        raise UserError(f"{path}: state the licence of these weights, such as --licence CC-BY-4.0")
    if architecture and path.suffix in (".onnx", ".pt2", ".ts"):
        raise UserError(f"{path}: a program; state what it hears (--spec YAML), no architecture")
    if architecture:
        encoder = from_checkpoint(path, architecture)
    elif contract is None:
        known = ", ".join(ARCHITECTURES)
        raise UserError(
            f"{path}: give its architecture ({known}) or, for a program, a contract (--spec YAML)"
        )
    elif path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a program ends in {', '.join(SUFFIXES)}")
    else:
        try:
            encoder = from_program(SUFFIXES[path.suffix], path.read_bytes(), contract)
        except UserError as error:
            hint = WEIGHTS_ALONE if path.suffix == ".pt" else ""
            raise UserError(f"{path}: {error}{hint}") from error
    return with_origin(encoder, licence, path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def from_checkpoint(path, architecture):
    """Load a published architecture with the tensors of a checkpoint."""
    require_choice("architecture", architecture, ARCHITECTURES)
    known, state = ARCHITECTURES[architecture], read_state(path)
    try:
        layout = known.layout(state)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a checkpoint of {architecture}: lacks {error}") from error
    encoder = AdoptedEncoder(architecture, layout).eval()
    fill(encoder.network, state, path, known.unused)
    return encoder


def from_program(kind, content, contract):
    """Make an encoder from a program; it is run once to check that it gives an embedding."""
    encoder = ProgramEncoder(kind, contract.plain(), 1, len(content)).eval()
    encoder.content.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    ramp = torch.linspace(-1, 1, N_TIMES).expand(2, 1, -1)
    try:
        with torch.no_grad():
            y = encoder.tokens(ramp)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        n_times, reason = encoder.contract.n_times, str(error).splitlines()[0][:200]
        raise UserError(
            f"the program does not fit its contract with inputs (B, 1, {n_times}): {reason}"
        ) from error
    if y.ndim != 3:
        raise UserError(
            f"output {contract.output} of the program is no {contract.layout}; see layout in "
            "docs/adopt.md"
        )
    encoder.embed_dim = encoder.config["embed_dim"] = y.shape[-1]
    return encoder


def adopt_module(module, contract, licence):
    """Adopt a PyTorch module in memory, by torch.export.

    Parameters
    ----------
    module : torch.nn.Module
        (B, 1, n_times) -> what the contract says.
    contract : Contract or dict
        What it hears and gives.
    licence : str
        Licence of its weights.

    Returns
    -------
    ProgramEncoder
        Write it with `xmae.models.save_encoder(encoder, path, encoder.provenance)`.

    Examples
    --------
    >>> pooled = nn.Sequential(nn.Conv1d(1, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
    nn.Flatten())
    >>> adopt_module(pooled, {"sfreq": 50}, "CC0-1.0")(torch.zeros(3, 1, 1000)).shape
    torch.Size([3, 8])
    """
    contract = contract if isinstance(contract, Contract) else Contract.of(contract)
    example = torch.zeros(2, 1, contract.n_times)
    try:
        program = torch.export.export(
            module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )
    except Exception as error:  # whatever the module's own code raises
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{type(module).__name__}: torch.export refuses it ({reason})") from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    content = buffer.getvalue()
    encoder = from_program("torch-export", content, contract)
    name = type(module).__name__
    return with_origin(encoder, licence, name, hashlib.sha256(content).hexdigest())


def random_foreign(architecture, seed):
    """Return a published architecture with random weights, to try the way without a file."""
    if architecture is None:
        raise UserError(f"{RANDOM}: give an architecture ({', '.join(ARCHITECTURES)})")
    require_choice("architecture", architecture, ARCHITECTURES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = AdoptedEncoder(architecture, ARCHITECTURES[architecture].published).eval()
    return with_origin(encoder, "none: random weights", RANDOM, None)


def with_origin(encoder: nn.Module, licence, name, digest):
    """Return the encoder with its provenance: kind, authors, file, and contract."""
    architecture = encoder.config.get("architecture")
    encoder.provenance = {
        "method": "adopted",
        "architecture": architecture or encoder.config["program"],
        "paper": ARCHITECTURES[architecture].paper if architecture else None,
        "licence": licence,
        "file": name,
        "sha256": digest,
        "contract": encoder.contract.describe(),
    }
    return encoder
