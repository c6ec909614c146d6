"""The folder `c` of a bundle: libxmae, its models, and what builds and tests them.

README.md LICENSE CMakeLists.txt cmake/   how to build, install and find it
include/xmae/          xmae.h, and a header for each model
src/                   the library and its kernels
models/                constants of each model, and of the tier without a network (dsp)
zephyr/ *.pdsc *.json  what other build systems need; see `xmae.export.targets.c.systems`
android/ tflm/         a library for phones, a recipe for TensorFlow Lite Micro
network/               each network alone, one function a layer; see `xmae.export.targets.c.source`
"""

from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from xmae.beats.certainty import SILENT, Certainty, shipped_certainty
from xmae.beats.tracker import shipped_tracker
from xmae.errors import UserError
from xmae.export.targets.c.dsp_source import dsp_texts
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.literals import identifier
from xmae.export.targets.c.model_source import model_texts
from xmae.export.targets.c.motion_source import (
    MotionModel,
    motion_model,
    motion_texts,
    takes_acceleration,
)
from xmae.export.targets.c.source import export_networks
from xmae.export.targets.c.systems import PRODUCT, write_systems
from xmae.export.targets.c.tflm_recipe import recipe_text
from xmae.files import atomic_file
from xmae.tables import markdown_table
from xmae.version import __version__

FOLDER = "c"  # in a bundle
SOURCES = "xmae.export.targets.c"
COLUMNS = (
    "model", "gives", "heads", "flash: constants, bytes", "RAM: memory, bytes",
    "RAM of `xmae_embed`, bytes", "products a second", "products an embedding",
)  # fmt: skip
# what README names where no student takes acceleration: the model, and its name in C
MOVING = ("student-motion", "student_motion")
LIMITS = {  # of the configuration, those of xmae.h
    "rates_hz": [25, 500],
    "bits": [8, 24],
    "hop_s": [1, 3600],
    "channels": [1, 8],
    "polarity": ["upright", "inverted"],
}


@dataclass(frozen=True)
class PackagedStudent:
    """A student of a bundle that goes into the folder `c`.

    Parameters
    ----------
    model : str
        In the bundle, such as "student".
    name : str
        In C, as `xmae_model_NAME`; characters that C does not know become underscores.
    path : Path
        Its int8 `.tflite`.
    heads : dict of str to Head
        From `heads.json`, by task.
    certainty : Certainty or None
        Its table; None: it reads no beats, or never gives a heart rate.
    """

    model: str
    name: str
    path: Path
    heads: dict = field(default_factory=dict)
    certainty: Certainty | None = None


def write_package(folder, students):
    """Write the folder `c` of a bundle.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    students : sequence of PackagedStudent
        The first takes PPG alone; others may take acceleration too.

    Returns
    -------
    dict
        For the bundle's manifest, see `xmae.export.bundle.schema.CLibrary`.

    Raises
    ------
    UserError
        If two students have one name as C spells it, all take acceleration, a file is no int8
        network, or the folder cannot be written.
    """
    folder = Path(folder)
    models = [model_of(student) for student in students]
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise UserError(f"two students have the same name in C: {', '.join(names)}")
    plain = [s for s, m in zip(students, models, strict=True) if not isinstance(m, MotionModel)]
    if not plain:
        raise UserError("libxmae needs a student for PPG alone beside those with acceleration")
    copy_sources(folder, words_of(students, models) | PRODUCT.words())
    texts = dsp_texts(shipped_certainty("dsp"))
    for model in models:
        texts |= motion_texts(model) if isinstance(model, MotionModel) else model_texts(model)
    for student in plain:
        name = identifier(student.name)
        texts[f"tflm/xmae_tflm_{name}.h"] = recipe_text(student.path, name)
    for name, text in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text)
    write_systems(folder, __version__, [*names, "dsp"])
    export_networks(folder / "network", [student.path for student in plain])
    return LIMITS | {
        "version": __version__,
        "models": [entry(s, m) for s, m in zip(students, models, strict=True)],
    }


def model_of(student):
    """Read a student for libxmae: a `LibraryModel`, or a `MotionModel` if it takes acceleration."""
    certainty = student.certainty or SILENT
    if takes_acceleration(student.path):
        return motion_model(student.path, certainty, shipped_tracker(), student.name)
    return library_model(student.path, certainty, student.name, student.heads)


def words_of(students, models):
    """Return the words to fill into the package's files. Examples use the first student for PPG
    alone, one that reads beats if possible, and the first that takes acceleration.
    """
    pairs = list(zip(students, models, strict=True))
    plain = [pair for pair in pairs if not isinstance(pair[1], MotionModel)]
    moving = [(s.model, m.name) for s, m in pairs if isinstance(m, MotionModel)]
    moving_model, moving_name = moving[0] if moving else MOVING
    student, model = next((pair for pair in plain if pair[1].beats), plain[0])
    return {
        "@VERSION@": __version__,
        "@name@": model.name,
        "@NAME@": model.name.upper(),
        "@model@": student.model,
        "@int8@": student.path.name,
        "@motion@": moving_name,
        "@MOTION@": moving_name.upper(),
        "@motion_model@": moving_model,
        "@models@": markdown_table(COLUMNS, [row(model) for model in models]),
    }


def row(model):
    """Return a model's row in the README."""
    name = f"`xmae_model_{model.name}`"
    if isinstance(model, MotionModel):
        gives, sizes = "beats, with acceleration", (model.constant_bytes, model.memory_bytes)
        return [name, gives, "none", *(f"{size:,}" for size in sizes), "", f"{model.macs:,}", ""]
    return [
        name,
        "beats, embedding" if model.beats else "embedding",
        ", ".join(head.name for head in model.heads) or "none",
        f"{model.constant_bytes:,}",
        f"{model.memory_bytes:,}",
        f"{model.window.arena_bytes:,}",
        f"{model.macs:,}",
        f"{model.embed_macs:,}",
    ]


def entry(student, model):
    """Return a model's part of the manifest."""
    moving = isinstance(model, MotionModel)
    return {
        "model": student.model,
        "name": model.name,
        "int8": student.path.name,
        "memory_bytes": model.memory_bytes,
        "constant_bytes": model.constant_bytes,
        "macs_per_second": model.macs,
        "reads_beats": model.beats is not None,
        "takes_acceleration": moving,
        "embed_bytes": 0 if moving else model.window.arena_bytes,
        "heads": [] if moving else [head.name for head in model.heads],
        "crc32": model.crc32,
    }


def copy_sources(folder, words):
    """Copy the library, its kernels and the package's files, with words between @ replaced."""
    for source, place in (("library", "."), ("kernels", "src"), ("package", ".")):
        with as_file(files(SOURCES) / source) as origin:
            for file in sorted(path for path in origin.rglob("*") if path.is_file()):
                if file.name == "xmae_cmsis_nn.h":  # goes with the networks
                    continue
                text = file.read_text()
                for word, value in words.items():
                    text = text.replace(word, value)
                with atomic_file(folder / place / file.relative_to(origin)) as temporary:
                    temporary.write_text(text)
