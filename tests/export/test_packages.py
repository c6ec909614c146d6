"""The folder `c` as a package of each build system, with stand-ins for what is not here.

Zephyr itself is used where ZEPHYR_BASE names its tree, the schema of CMSIS-Pack where PACK_XSD
names it; docs/packages.md says what else was tried.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from xmae.beats.certainty import Certainty
from xmae.export.stream import Stream
from xmae.export.targets.c.package import PackagedStudent, write_package
from xmae.export.targets.c.systems import PRODUCT, pack_description
from xmae.export.vectors import recording_codes, write_vectors
from xmae.version import __version__

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).with_name("package_stubs")
MODEL = ROOT / "tests" / "fixtures" / "beat_student_untrained.tflite"
TABLE = Certainty(np.arange(2000, 400, -100), 100)
MODULE_KEYS = {  # of zephyr/module.yml: scripts/zephyr_module.py of Zephyr 3.6, METADATA_SCHEMA
    "name": str, "build": dict, "tests": list, "samples": list, "boards": list, "blobs": list,
}  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the folder `c` with two models, one of them twice."""
    folder = tmp_path_factory.mktemp("bundle") / "c"
    students = [PackagedStudent("student", name, MODEL, {}, TABLE) for name in ("first", "second")]
    write_package(folder, students)
    write_vectors(folder, students)
    return folder


@pytest.fixture(scope="module")
def printed(package):
    """Return what the example prints, built without any build system."""
    sources = [*package.glob("src/*.c"), *package.glob("models/*.c")]
    sources += [package / "examples" / name for name in ("read_recording.c", "port_host.c")]
    include = [f"-I{package / name}" for name in ("include", "src", "examples", "data")]
    program = package.parent / "plain"
    subprocess.run(["gcc", "-std=c99", "-O1", *include, *sources, "-o", program], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def cmake(folder, text, *options):
    """Configure and build a project of this text; return its folder of programs."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    (folder / "CMakeLists.txt").write_text(text)
    (folder / "stub.c").write_text("typedef int stub;\n")
    built = folder / "build"
    for words in (["cmake", "-S", folder, "-B", built, *options], ["cmake", "--build", built]):
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return built


def test_zephyr_module_names_what_is_there(package):
    module = yaml.safe_load((package / "zephyr" / "module.yml").read_text())
    assert all(isinstance(value, MODULE_KEYS[key]) for key, value in module.items())
    assert (package / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (package / module["build"]["kconfig"]).is_file()
    for kind, file in (("samples", "sample.yaml"), ("tests", "testcase.yaml")):
        for place in module[kind]:
            for found in (package / place).rglob(file):
                assert yaml.safe_load(found.read_text())["tests"]
                assert (found.parent / "prj.conf").is_file()
            assert list((package / place).rglob(file))


ZEPHYR = """cmake_minimum_required(VERSION 3.20)
project(stub C)
set(C {c})
include({stubs}/zephyr_project.cmake)
set(CONFIG_XMAE y)
{models}
add_subdirectory(${{C}}/zephyr xmae)
add_executable(read ${{C}}/examples/read_recording.c ${{C}}/zephyr/samples/port_zephyr.c)
target_include_directories(read PRIVATE ${{C}}/examples ${{C}}/data {stubs})
target_link_libraries(read PRIVATE xmae)
"""


def test_zephyr_module_builds_with_stand_ins(package, printed, tmp_path):
    """Only the models that are set: the example needs the first one."""
    text = ZEPHYR.format(c=package, stubs=STUBS, models="set(CONFIG_XMAE_MODEL_FIRST y)")
    built = cmake(tmp_path, text)
    done = subprocess.run([built / "read"], check=True, capture_output=True, text=True)
    assert done.stdout == printed and "beats at" in printed
    symbols = subprocess.run(["nm", built / "xmae" / "libxmae.a"], capture_output=True, text=True)
    assert "xmae_model_first" in symbols.stdout and "xmae_model_second" not in symbols.stdout


def test_zephyr_settings_name_every_model(package):
    text = (package / "zephyr" / "Kconfig").read_text()
    settings = re.findall(r"^(?:menu)?config (\w+)\n\tbool \"[^\"]+\"", text, re.MULTILINE)
    models = [f"XMAE_MODEL_{path.stem.upper()}" for path in (package / "models").glob("*.c")]
    models = [name.replace("XMAE_MODEL_XMAE_MODEL_", "XMAE_MODEL_") for name in models]
    assert settings[0] == "XMAE" and settings[-1] == "XMAE_PLAIN"
    assert set(settings[1:-1]) == set(models) >= {"XMAE_MODEL_FIRST", "XMAE_MODEL_SECOND"}


@pytest.mark.extended
@pytest.mark.skipif("ZEPHYR_BASE" not in os.environ, reason="ZEPHYR_BASE names no Zephyr tree")
def test_zephyr_itself_runs_the_vectors(package):
    runner = Path(os.environ["ZEPHYR_BASE"]) / "scripts" / "twister"
    words = [
        runner,
        "-T",
        package / "zephyr",
        "-p",
        "native_sim",
        "-x",
        f"EXTRA_ZEPHYR_MODULES={package}",
    ]
    assert subprocess.run(words, cwd=package.parent).returncode == 0


ESP_IDF = """cmake_minimum_required(VERSION 3.16)
project(stub C)
set(ESP_PLATFORM ON)
macro(idf_component_register)
  cmake_parse_arguments(IDF "" "" "SRCS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS;REQUIRES" ${{ARGN}})
  get_filename_component(name ${{CMAKE_CURRENT_LIST_DIR}} NAME)
  add_library(${{name}} STATIC ${{IDF_SRCS}})
  target_include_directories(${{name}} PUBLIC ${{IDF_INCLUDE_DIRS}}
    PRIVATE ${{IDF_PRIV_INCLUDE_DIRS}})
  target_link_libraries(${{name}} PUBLIC ${{IDF_REQUIRES}})
endmacro()
add_subdirectory({c} c)
add_subdirectory({c}/examples/esp_idf/main main)
file(WRITE start.c "void app_main(void); int main(void) {{ app_main(); return 0; }}")
add_executable(read start.c)
target_link_libraries(read PRIVATE main)
"""


def test_esp_idf_component_builds_with_stand_ins(package, printed, tmp_path):
    built = cmake(tmp_path, ESP_IDF.format(c=package))
    done = subprocess.run([built / "read"], check=True, capture_output=True, text=True)
    assert done.stdout == printed + "read_recording: 0\n"


def test_esp_idf_manifest(package):
    manifest = yaml.safe_load((package / "idf_component.yml").read_text())
    assert manifest["version"] == __version__ and manifest["license"] == PRODUCT.licence
    assert set(manifest) == {"version", "description", "license", "dependencies", "examples"}
    for example in manifest["examples"]:
        assert (package / example["path"] / "main" / "CMakeLists.txt").is_file()


def test_arduino_sketch_prints_pythons_heart_rates(package, tmp_path):
    """Arduino compiles src/ with src/ as the only folder of headers, and the sketch as C++."""
    flags = ["-O1", f"-I{package / 'src'}", f"-I{STUBS}"]
    objects = []
    for file in (package / "src").rglob("*.c"):
        objects.append(tmp_path / f"{file.stem}{len(objects)}.o")
        subprocess.run(["gcc", "-std=gnu11", *flags, "-c", file, "-o", objects[-1]], check=True)
    sketch = tmp_path / "sketch.cpp"
    ino = (package / "examples" / "ReadSensor" / "ReadSensor.ino").read_text()
    sketch.write_text("#include <Arduino.h>\n" + ino)
    program = tmp_path / "sketch"
    board = STUBS / "arduino_board.cpp"
    subprocess.run(
        ["g++", "-std=gnu++17", *flags, sketch, board, *objects, "-o", program], check=True
    )
    codes = recording_codes() >> 6  # 16 bits to 10: a sensor of 50 Hz in slow motion
    text = "\n".join(map(str, codes))
    done = subprocess.run([program], input=text, check=True, capture_output=True, text=True)
    stream = Stream(MODEL, 50, 10, 1, certainty=TABLE)
    expected = [f"{r.rate / 100:.2f} bpm, beats: {len(r.beats)}" for r in stream.push(codes)]
    assert done.stdout.splitlines() == expected
    assert sum(not line.startswith("0.00") for line in expected) > 3


def test_arduino_description_has_what_its_specification_asks(package):
    """Arduino library specification 1.5 (2.2)."""
    lines = (package / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    needed = "name version author maintainer sentence paragraph category url architectures"
    assert all(fields[name].strip() for name in needed.split())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{,62}", fields["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"]) and fields["version"] == __version__
    assert fields["category"] == "Signal Input/Output"
    assert (package / "src" / fields["includes"]).is_file()
    for folder in (path.parent for path in (package / "examples").rglob("*.ino")):
        assert (folder / f"{folder.name}.ino").is_file()


def test_platformio_description_selects_the_sources(package, printed, tmp_path):
    """Build what `srcFilter` selects, with the folders that it names."""
    library = json.loads((package / "library.json").read_text())
    assert library["version"] == __version__ and library["license"] == PRODUCT.licence
    built = library["build"]
    patterns = [word[2:-1] for word in built["srcFilter"] if word.startswith("+")]
    sources = list(chain.from_iterable(package.glob(pattern) for pattern in patterns))
    assert {path.parent.name for path in sources} == {"src", "models"}
    include = [f"-I{package / built['includeDir']}", *built["flags"]]
    objects = [*sources, package / "examples/read_recording.c", package / "examples/port_host.c"]
    include += ["-Iexamples", "-Idata"]
    words = ["gcc", "-O1", *include, *objects, "-o", tmp_path / "read"]
    subprocess.run(words, check=True, cwd=package)
    done = subprocess.run([tmp_path / "read"], check=True, capture_output=True, text=True)
    assert done.stdout == printed
    for example in library["examples"]:
        assert all((package / example["base"] / file).is_file() for file in example["files"])


def test_cmsis_pack_follows_the_specification(package):
    """Rules of PACK.xsd 1.7 and of the pack's specification, for what is used of them."""
    (path,) = package.glob("*.pdsc")
    root = ElementTree.parse(path).getroot()
    text = {child.tag: child.text for child in root}
    assert root.tag == "package" and re.fullmatch(r"1\.7\.\d+", root.get("schemaVersion"))
    assert path.stem == f"{text['vendor']}.{text['name']}"
    assert all(re.fullmatch(r"[-_A-Za-z0-9]+", text[tag]) for tag in ("vendor", "name"))
    assert text["description"] and len(text["description"]) <= 256 and text["url"]
    assert (package / text["license"]).is_file()
    (release,) = root.findall("releases/release")
    assert release.get("version") == __version__
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", release.get("date"))
    conditions = {condition.get("id") for condition in root.findall("conditions/condition")}
    seen = set()
    for component in root.findall("components/component"):
        assert {child.tag for child in component} == {"description", "files"}
        part = component.get("Cclass"), component.get("Cgroup"), component.get("Csub")
        assert all(part) and part not in seen and component.get("Cversion") == __version__
        assert component.get("condition") in conditions | {None}
        seen.add(part)
        for file in component.findall("files/file"):
            assert file.get("category") in ("header", "include", "source")
            place = package / file.get("name")
            assert place.is_dir() if file.get("category") == "include" else place.is_file()
    for require in root.findall("conditions/condition/require"):
        assert (require.get("Cclass"), require.get("Cgroup"), require.get("Csub")) in seen
    sources = {file.get("name") for file in root.iter("file") if file.get("category") == "source"}
    there = [*package.glob("src/*.c"), *package.glob("models/*.c")]
    assert sources == {path.relative_to(package).as_posix() for path in there}


def parts_of(text):
    """Return the names of a description's components."""
    return [part.get("Csub") for part in ElementTree.fromstring(text).iter("component")]


def test_long_names_of_models_fit_into_a_pack(tmp_path):
    """CsubType of PACK.xsd: 32 letters at most, each of a few kinds."""
    names = ["short", f"{'long' * 12}_a", f"{'long' * 12}_b"]
    parts = parts_of(pack_description(tmp_path, __version__, names))
    assert parts[:2] == ["Library", "Model short"] and len(set(parts)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+():/\- .]{0,31}", part) for part in parts)


@pytest.mark.extended
@pytest.mark.skipif("PACK_XSD" not in os.environ, reason="PACK_XSD names no schema of CMSIS-Pack")
def test_cmsis_pack_is_valid_by_its_schema(package, tmp_path):
    """By xmllint, as the tools of CMSIS-Pack do; and the schema refuses what is wrong."""
    names = ["first", "long" * 13, "second"]
    text = pack_description(package, __version__, names)
    assert valid_by_schema(tmp_path, next(package.glob("*.pdsc")).read_text())
    assert valid_by_schema(tmp_path, text)
    version, part = f'Cversion="{__version__}"', 'Csub="Model first"'
    for right, wrong in (
        ("<url>https://xmae.invalid/</url>", ""),
        (version, 'Cversion="new"'),
        (part, f'Csub="{"long" * 13}"'),
        ('category="source"', 'category="C"'),
        ("<releases>", "<releases><notes />"),
    ):
        assert right in text and not valid_by_schema(tmp_path, text.replace(right, wrong)), wrong


def valid_by_schema(folder, text):
    """Tell whether a description is valid by the schema that PACK_XSD names."""
    (folder / "any.pdsc").write_text(text)
    words = ["xmllint", "--noout", "--schema", os.environ["PACK_XSD"], folder / "any.pdsc"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr  # 3: not valid
    return done.returncode == 0


def test_every_package_says_the_same(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert PRODUCT.licence == project["license"]
    for name in ("library.json", "library.properties", "idf_component.yml", "xMAE.libxmae.pdsc"):
        text = (package / name).read_text()
        assert __version__ in text and PRODUCT.summary in text
    left = [path for path in package.rglob("*") if path.is_file() and "network" not in path.parts]
    words = re.compile(
        r"@(VERSION|NAME|name|MOTION|motion|motion_model|SUMMARY|LICENCE|AUTHORS|URL)@"
    )
    assert not [path for path in left if words.search(path.read_text(errors="replace"))]
