"""Ship a teacher: its encoder, and what stands around it, so that a pretraining can go on.

    python -m xmae.benchmarks.release.ship_teacher RUN CINC_STORE base

RUN is the folder of a finished `xmae pretrain`. What its certainty promises comes from validation
recordings of the store, and from no other data.
"""

from pathlib import Path

import safetensors.torch

from xmae.benchmarks.release.ship_beats import WEIGHTS, ship_certainty
from xmae.benchmarks.studies.runner import run_tool
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.provenance import without_folders
from xmae.files import atomic_file
from xmae.models.checkpoint import SHIPPED, in_order, load_encoder, save_encoder
from xmae.training.begin import ENCODER, INNER, WHOLE, around


def ship(run: str, store: str, name: str, /) -> dict:
    """Write the encoder of one teacher, the rest of its model, and its certainty table.

    Parameters
    ----------
    run : str
        Folder of a pretraining whose encoder finds beats.
    store : str
        Store of windows with ECG.
    name : str
        Name of the shipped encoder.

    Raises
    ------
    UserError
        If the name is not a shipped one, or the run is not finished.
    """
    if name not in SHIPPED:
        raise UserError(f"{name} is not a name of {', '.join(SHIPPED)}")
    folder = Path(run)
    if not (folder / WHOLE).is_file():
        raise UserError(f"{run}: no {WHOLE}; the training is not finished")
    encoder = load_encoder(folder / ENCODER)
    save_encoder(encoder, WEIGHTS / SHIPPED[name], without_folders(encoder.provenance))
    whole = safetensors.torch.load_file(folder / WHOLE)
    rest = {key: tensor for key, tensor in whole.items() if not key.startswith(INNER)}
    with atomic_file(WEIGHTS / around(name)) as temporary:
        temporary.write_bytes(in_order(safetensors.torch.save(rest)))
    return ship_certainty(encoder, WindowStore(store).windows("val"), name)


if __name__ == "__main__":
    run_tool(ship)
