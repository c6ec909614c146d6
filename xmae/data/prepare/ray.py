"""Preparation on a Ray cluster: Ray Data runs the function that prepares one file, wherever there
is a free core.
"""

import json
import tempfile
import time
from pathlib import Path

from xmae.errors import UserError

# where a shared folder fails; a task whose worker died is run again as often, by Ray itself
RETRIES = 3


def run_ray(prepare_file, paths, first, stage, settings, address):
    """Yield the notes of all files in their order.

    Parameters
    ----------
    prepare_file : function
        Prepares one file; see `xmae.data.prepare.prepare.prepare_file`.
    paths : list of Path
        Files, which every node must see under these names.
    first : int
        Number of the first file in the store.
    stage : Path
        Folder for shards and notes, which every node must see.
    settings : Settings
        The same for all files.
    address : str or None
        Address of the cluster; None starts one on this machine.

    Raises
    ------
    UserError
        If Ray is not installed, a node does not see the folder, or a file cannot be used.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "the engine ray needs the package ray; try pip install 'xmae[scale]'"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    stage = stage.resolve()

    def one(row):
        number = row["number"]
        note = note_of(prepare_file, paths[number], first + number, stage, settings)
        return {"number": number, "note": json.dumps(note)}

    try:
        refuse_unseen(ray, stage)
        items = ray.data.from_items([{"number": number} for number in range(len(paths))])
        notes = {}
        for row in items.map(one, num_cpus=1).iter_rows():
            notes[row["number"]] = note = json.loads(row["note"])
            if "error" in note:
                raise UserError(note["error"])
        yield from (notes[number] for number in range(len(paths)))
    finally:
        if ours:
            ray.shutdown()


def note_of(prepare_file, path, number, stage, settings):
    """Prepare one file, again where its folder fails; return its note, or its error as text, since
    Ray would lose the exception's type.
    """
    for left in reversed(range(1 + RETRIES)):
        try:
            return prepare_file(path, number, stage, settings)
        except UserError as error:
            return {"error": str(error)}
        except OSError as error:
            note = {"error": f"{path}: {error}"}
            time.sleep(min(left, 1))
    return note


def refuse_unseen(ray, stage):
    """Raise a `UserError` unless all nodes see a folder; each is asked for a file that is written
    there now.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    with tempfile.NamedTemporaryFile(dir=stage) as made:
        name = made.name
        look = ray.remote(num_cpus=0)(lambda: Path(name).is_file())
        seen = ray.get(
            [look.options(scheduling_strategy=On(node, soft=False)).remote() for node in nodes]
        )
    if not all(seen):
        raise UserError(
            f"{stage}: {seen.count(False)} of {len(nodes)} nodes of the cluster do not see this "
            "folder, where finished "
            "work is kept; use an --out, or for a URL an XDG_CACHE_HOME, that all of them see"
        )
