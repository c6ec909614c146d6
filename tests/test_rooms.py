"""The rooms of the house: every folder stands on a floor, and imports only from floors below."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
OUTER = ("quantize", "export", "firmware_sim", "benchmarks")  # root folders that map under `xmae`
FOUNDATION = (
    "callable_package",
    "errors",
    "extras",
    "files",
    "launch",
    "manifest",
    "native",
    "ownership",
    "privacy",
    "progress",
    "tables",
    "text",
    "version",
)  # modules of `xmae` on the ground
FLOORS = (  # the ground first; a room imports from lower floors only
    ("xmae: foundation",),
    ("xmae.signals", "xmae.data.bidmc", "xmae.models.weights"),
    ("xmae.data.ppg_bp", "xmae.data.recording", "xmae.beats", "xmae.twin", "xmae.models.adopted"),
    ("xmae.data.recording.readers", "xmae.models"),
    ("xmae.data.store",),
    ("xmae.data.prepare", "xmae.data.batches"),
    ("xmae.data", "xmae.objectives"),
    ("xmae.training",),
    ("xmae.evaluation.heads",),
    ("xmae.evaluation.protocol",),
    ("xmae.evaluation",),
    ("xmae.evaluation.findings", "xmae.evaluation.fusion"),
    ("xmae.distill",),
    ("xmae.quantize",),
    ("xmae.export.targets.c",),
    ("xmae.export.targets",),
    ("xmae.export.bundle",),
    ("xmae.export",),
    ("xmae.firmware_sim.boards", "xmae.firmware_sim.cost", "xmae.firmware_sim.build"),
    ("xmae.firmware_sim.emulators",),
    ("xmae.firmware_sim",),
    ("xmae.benchmarks.harness",),
    ("xmae.benchmarks.report",),
    ("xmae.benchmarks",),
    ("xmae.cli",),
    ("xmae: front door",),
    ("xmae.benchmarks.studies",),
    ("xmae.benchmarks.release",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def source_files():
    """Return {dotted name: file} of all modules; a package has the name of its folder."""
    found = {}
    for folder in ("xmae", *OUTER):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "xmae" else ("xmae", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = source_files()


def room_of(module):
    """Return the folder of a module, in dotted form; the modules right in `xmae` are two rooms."""
    if module in {f"xmae.{name}" for name in FOUNDATION}:
        return "xmae: foundation"
    if MODULES[module].name == "__init__.py":
        return "xmae: front door" if module == "xmae" else module
    room = module.rpartition(".")[0]
    return "xmae: front door" if room == "xmae" else room


def names_in(node):
    """Return the dotted names that an import, or a text such as the command line's table, speaks
    of.
    """
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
    if isinstance(node, ast.Constant) and str(node.value).startswith("xmae."):
        return [str(node.value).partition(":")[0]]
    return []


def imported(module):
    """Return the modules of the house that a module imports or names, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = [name for name in names_in(node) if name in MODULES]
        found.update(names[:1])
    return found - {module}


def test_every_folder_has_a_floor():
    rooms = {room_of(module) for module in MODULES}
    assert rooms <= set(FLOOR), f"place them in FLOORS: {sorted(rooms - set(FLOOR))}"


def test_arrows_go_down_only():
    up = []
    for module in MODULES:
        for other in imported(module):
            here, there = room_of(module), room_of(other)
            if here != there and FLOOR[there] >= FLOOR[here]:
                up.append(f"{module} -> {other}")
    assert not up, "imports that run up, or along a floor:\n" + "\n".join(sorted(up))


def test_an_arrow_up_would_be_found(tmp_path, monkeypatch):
    """The check itself: a module of the signals that imports the command line is caught."""
    path = tmp_path / "wrong.py"
    path.write_text("def f():\n    from xmae.cli import main\n")
    monkeypatch.setitem(MODULES, "xmae.signals.wrong", path)
    with pytest.raises(AssertionError, match=r"xmae\.signals\.wrong -> xmae\.cli"):
        test_arrows_go_down_only()


def test_the_core_names_no_outer_room():
    """`xmae` names the other root folders in its command line and its front door only."""
    outer = tuple(f"xmae.{folder}" for folder in OUTER)
    found = [
        f"{module} -> {other}"
        for module in MODULES
        if not room_of(module).startswith((*outer, "xmae.cli", "xmae: front door"))
        for other in imported(module)
        if other.startswith(outer)
    ]
    assert not found


@pytest.mark.parametrize("suffix", ["*.py", "*.c", "*.h", "*.jinja"])
def test_export_never_names_the_simulation(suffix):
    files = (ROOT / "export").rglob(suffix)
    assert not [path for path in files if "firmware_sim" in path.read_text()]


def test_modules_do_not_import_in_circles():
    """Within a room too; an import inside a function counts."""
    unfinished = {module: imported(module) & set(MODULES) for module in MODULES}
    while True:
        leaves = {module for module, below in unfinished.items() if not below}
        if not leaves:
            break
        for module in leaves:
            del unfinished[module]
        for below in unfinished.values():
            below -= leaves
    assert not unfinished, f"in a circle, or above one: {sorted(unfinished)}"


def test_the_wheel_has_every_package_but_studies_and_release():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"xmae", *(f"xmae.{name}" for name in find_packages(ROOT / "xmae"))}
    for folder in OUTER:
        found.add(f"xmae.{folder}")
        found |= {f"xmae.{folder}.{name}" for name in find_packages(ROOT / folder)}
    found -= {"xmae.benchmarks.studies", "xmae.benchmarks.release"}
    assert sorted(listed) == sorted(found)


def test_nothing_in_the_wheel_needs_what_is_not_in_it():
    absent = ("xmae.benchmarks.studies", "xmae.benchmarks.release")
    shipped = [module for module in MODULES if not module.startswith(absent)]
    assert not [m for m in shipped for other in imported(m) if other.startswith(absent)]


def test_every_room_is_on_the_page_of_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = {MODULES[module].parent.relative_to(ROOT).as_posix() for module in MODULES}
    assert not [folder for folder in sorted(folders) if f"`{folder}/`" not in page]


def test_every_file_is_named_in_its_room_on_the_page_of_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## Files of each room")[2]
    rows = re.findall(r"^\| `(.+)/` \| (.+) \|$", page.partition("## Rules")[0], re.MULTILINE)
    listed = {(room, name) for room, names in rows for name in names.split(", ")}
    paths = [MODULES[module].relative_to(ROOT) for module in MODULES]
    there = {(p.parent.as_posix(), p.stem.strip("_")) for p in paths if p.stem != "__init__"}
    assert listed == there
