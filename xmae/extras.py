"""Which extra of this package installs a missing package."""

import re
from importlib.util import find_spec

DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # imported under another name
SMALLEST_FIRST = ("lite", "train", "edge", "firmware")
REQUIRED = re.compile(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]")  # "torch>=2.11; extra == 'train'"


def extra_of(package: str) -> str:
    """Return the smallest extra that installs a package (given by its import name).

    Examples
    --------
    >>> extra_of("torch"), extra_of("ai_edge_quantizer"), extra_of("ray")
    ('train', 'edge', 'scale')
    """
    from importlib.metadata import PackageNotFoundError, requires  # slow to import

    try:
        lines = requires("xmae") or []
    except PackageNotFoundError:  # a source tree that is not installed
        lines = []
    wanted = DISTRIBUTIONS.get(package, package).replace("_", "-").lower()
    pairs = [found.groups() for line in lines if (found := REQUIRED.match(line))]
    extras = [extra for name, extra in pairs if name.replace("_", "-").lower() == wanted]
    for extra in (*SMALLEST_FIRST, *extras):
        if extra in extras and not extra.startswith("dev"):
            return extra
    return "edge" if find_spec("torch") else "train"


def needs(what: str, error: ImportError) -> str:
    """Return a line that says which package is missing for `what`, and how to install it."""
    package = (error.name or "a package").partition(".")[0]
    extra = extra_of(package)
    return f"{what} needs {package}, which is not installed; try pip install 'xmae[{extra}]'"
