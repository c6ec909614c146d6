"""Make the folder `c` of a bundle a package of Zephyr, ESP-IDF, PlatformIO, Arduino and CMSIS too.

What is the same for all models lies in the folder `package`, with words between @ to fill in. What
lists models or files is written here. `Product` is the one place for names, licence and words.
"""

from dataclasses import dataclass
from xml.etree import ElementTree
from zlib import crc32

from xmae.files import atomic_file

RELEASE_DATE = "2026-11-30"  # of xmae.version
PACK_SCHEMA = "1.7.2"  # least version of CMSIS-Pack that knows all that is used here
PART_LETTERS = 32  # of a component's name, at most: CsubType of PACK.xsd


@dataclass(frozen=True)
class Product:
    """What every package states about the library.

    Parameters
    ----------
    name, vendor : str
        Letters, digits, - and _ only.
    summary : str
        One sentence.
    licence : str
        SPDX identifier.
    authors : str
    url : str
        Home page; a name that RFC 2606 reserves, until there is one.
    """

    name: str = "libxmae"
    vendor: str = "xMAE"
    summary: str = "Pulse beats, heart rate, rhythm hint and certainty from PPG on a watch."
    licence: str = "Apache-2.0"
    authors: str = "The xMAE authors"
    url: str = "https://xmae.invalid/"

    def words(self):
        """Return the replacements for words between @ in the files of `package`."""
        return {
            "@SUMMARY@": self.summary,
            "@LICENCE@": self.licence,
            "@AUTHORS@": self.authors,
            "@URL@": self.url,
        }


PRODUCT = Product()


def write_systems(folder, version, models):
    """Write the files that list models: Kconfig, CMSIS-Pack, Arduino's forwarding headers.

    Parameters
    ----------
    folder : Path
        The folder `c` of a bundle, with all other files.
    version : str
    models : sequence of str
        Their names in C.
    """
    texts = {
        "zephyr/Kconfig": kconfig(models),
        f"{PRODUCT.vendor}.{PRODUCT.name}.pdsc": pack_description(folder, version, models),
        **arduino_files(folder, models),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text)


def kconfig(models):
    """Return Zephyr's Kconfig: the library, each model, plain kernels."""
    parts = [
        "# SPDX-License-Identifier: Apache-2.0\n# SPDX-FileCopyrightText: the xMAE authors\n",
        f'menuconfig XMAE\n\tbool "libxmae"\n\thelp\n\t  {PRODUCT.summary}\n\nif XMAE\n',
    ]
    for name in models:
        parts.append(
            f'config XMAE_MODEL_{name.upper()}\n\tbool "Model {name}"\n\tdefault y\n'
            "\thelp\n\t  Constants of this model; they take flash only where they are used.\n"
        )
    parts.append(
        'config XMAE_PLAIN\n\tbool "Plain kernels"\n\thelp\n'
        "\t  Leave out the fast paths for SMLAD (Cortex-M4, M7, M33) and Helium (M55).\n"
    )
    return "\n".join([*parts, "endif # XMAE\n"])


def pack_description(folder, version, models):
    """Return the description of a CMSIS-Pack, with one component for the library and one for each
    model.
    """
    root = ElementTree.Element("package", schemaVersion=PACK_SCHEMA)
    root.set("xmlns:xs", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xs:noNamespaceSchemaLocation", "PACK.xsd")
    for tag, text in (
        ("vendor", PRODUCT.vendor),
        ("name", PRODUCT.name),
        ("description", PRODUCT.summary),
        ("url", PRODUCT.url),
        ("license", "LICENSE"),
    ):
        ElementTree.SubElement(root, tag).text = text
    releases = ElementTree.SubElement(root, "releases")
    release = ElementTree.SubElement(releases, "release", version=version, date=RELEASE_DATE)
    release.text = "See the bundle's manifest."
    add_conditions(root)
    components = ElementTree.SubElement(root, "components")
    sources = sorted(path.relative_to(folder) for path in (folder / "src").glob("*.c"))
    headers = [("include", "include/"), ("header", "include/xmae/xmae.h")]
    files = [*headers, ("include", "src/"), *(("source", path.as_posix()) for path in sources)]
    add_component(components, version, "Library", "The library and its kernels.", files)
    for name in models:
        files = [
            ("header", f"include/xmae/xmae_model_{name}.h"),
            ("source", f"models/xmae_model_{name}.c"),
        ]
        component = add_component(components, version, part_of(name), f"Model {name}.", files)
        component.set("condition", "xMAE Library")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def part_of(name):
    """Return the name of a model's component: short enough for a CMSIS-Pack, and different for each
    model.

    Examples
    --------
    >>> part_of("student"), part_of("student_of_thirty_two_thousand_people")
    ('Model student', 'Model student_of_thirty_ba652562')
    """
    part = f"Model {name}"
    if len(part) <= PART_LETTERS:
        return part
    ending = f"_{crc32(name.encode()):08x}"
    return part[: PART_LETTERS - len(ending)] + ending


def add_conditions(root):
    """Add the condition that a model needs the library."""
    conditions = ElementTree.SubElement(root, "conditions")
    condition = ElementTree.SubElement(conditions, "condition", id="xMAE Library")
    ElementTree.SubElement(
        condition, "require", Cclass="Machine Learning", Cgroup=PRODUCT.vendor, Csub="Library"
    )


def add_component(components, version, part, description, files):
    """Add a component with its files, as (category, name); return it."""
    component = ElementTree.SubElement(
        components,
        "component",
        Cclass="Machine Learning",
        Cgroup=PRODUCT.vendor,
        Csub=part,
        Cversion=version,
    )
    ElementTree.SubElement(component, "description").text = description
    listed = ElementTree.SubElement(component, "files")
    for category, name in files:
        ElementTree.SubElement(listed, "file", category=category, name=name)
    return component


def arduino_files(folder, models):
    """Return the files for Arduino, which looks into the folder `src` only: they include the
    others.

    Other systems do not look into these folders.
    """
    spdx = (
        "/* SPDX-License-Identifier: Apache-2.0\n * SPDX-FileCopyrightText: the xMAE authors */\n"
    )
    names = [path.name for path in sorted((folder / "include" / "xmae").glob("*.h"))]
    texts = {f"src/xmae/{name}": f'#include "../../include/xmae/{name}"\n' for name in names}
    texts["src/libxmae.h"] = "".join(f"#include <xmae/{name}>\n" for name in names)
    for name in models:
        file = f"models/xmae_model_{name}.c"
        texts[f"src/arduino/xmae_model_{name}.c"] = f'#include "../../{file}"\n'
    about = "/* For Arduino, which compiles the folder src only. */\n"
    return {name: spdx + about + text for name, text in texts.items()}
