"""Bring pages from outside `docs/` that its pages link to into the site, and mend those links."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(
    r"\]\((?:\.\./)+((?:benchmarks|xmae|export|firmware_sim|quantize|README|CITATION"
    r"|CONTRIBUTING|CHANGELOG)[^)#]*)(#[^)]*)?\)"
)
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.-]+\.png)\)")
SHOWN = (".md", ".png", ".svg")


def on_files(files, config):
    """Add the pages and pictures outside `docs/` that pages link to, under `repository/`."""
    pages = [ROOT / "docs" / file.src_uri for file in files if file.src_uri.endswith(".md")]
    todo, done = [page.read_text() for page in pages], set()
    while todo:
        for name, _ in OUTSIDE.findall(todo.pop()):
            path = ROOT / name
            if name in done or path.suffix not in SHOWN or not path.is_file():
                continue
            done.add(name)
            pictures = PICTURE.findall(path.read_text()) if path.suffix == ".md" else []
            for found in [path, *(path.parent / picture for picture in pictures)]:
                place = f"repository/{found.relative_to(ROOT).as_posix()}"
                files.append(File.generated(config, place, abs_src_path=str(found)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links to outside `docs/` lead to their copies; what has none is named only."""
    depth = page.file.src_uri.count("/")
    if page.file.src_uri.startswith("repository/"):
        # their links are relative to where they lie in the repository
        return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)[^)]*\)", r"\1", markdown)

    def mended(match):
        name, anchor = match[1], match[2] or ""
        if files.get_file_from_path(f"repository/{name}") is None:
            return f"](#) <!-- {name} -->"
        return f"]({'../' * depth}repository/{name}{anchor})"

    return OUTSIDE.sub(mended, markdown)
