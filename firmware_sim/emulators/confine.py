"""A program apart from this machine: no network, a root of its own, no rights. By bubblewrap.

What runs in an emulator may come from a bundle that nobody vouches for. QEMU itself promises no
safety from its guests, and a program under qemu-user makes system calls of this machine. So both
run in namespaces of their own, where the system has bubblewrap (`apt-get install bubblewrap`) and
lets it work; where it does not, the network alone is cut by `unshare`; where that fails too,
nothing is. Which of the three it was is said in the result.
"""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64")  # programs and libraries, read-only
BUBBLEWRAP = (
    "bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop",
    "ALL", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin",
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
    *chain.from_iterable(("--ro-bind-try", path, path) for path in SYSTEM),
)  # fmt: skip
UNSHARE = ("unshare", "--net", "--map-root-user")


@dataclass(frozen=True)
class Confinement:
    """How strictly guest programs are confined.

    Attributes
    ----------
    tool : str
        "bubblewrap", "unshare" or "none".
    words : str
        The same for people.
    """

    tool: str
    words: str

    def command(self, words, folder, readable=()):
        """Return the command line that runs a program in its confinement.

        Parameters
        ----------
        words : sequence of str or Path
            The program and its arguments.
        folder : Path
            Working folder, the only place that the program can write to.
        readable : sequence of Path
            Further paths that it can read, besides the system's programs and libraries.
        """
        words = [str(word) for word in words]
        if self.tool == "unshare":
            return [*UNSHARE, "--", *words]
        if self.tool == "none":
            return words
        places = [Path(shutil.which(words[0]) or words[0]).resolve().parent, *map(Path, readable)]
        shown = list(
            chain.from_iterable(
                ("--ro-bind", place, place)
                for place in map(str, places)
                if not place.startswith("/usr/")
            )
        )
        shown += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
        return [*BUBBLEWRAP, *shown, "--", *words]


KINDS = (
    Confinement("bubblewrap", "emulated programs saw no network and no files but those of the run"),
    Confinement(
        "unshare",
        "emulated programs saw no network, but the files of this user; apt-get install bubblewrap",
    ),
    Confinement(
        "none",
        "emulated programs were not confined; apt-get install bubblewrap, or run trusted bundles",
    ),
)


@cache
def confinement():
    """Return the strictest of `KINDS` that works on this machine; it is tried once."""
    for kind in KINDS:
        try:
            words = kind.command(["true"], "/tmp")
            if subprocess.run(words, capture_output=True, timeout=20).returncode == 0:
                return kind
        except (OSError, subprocess.TimeoutExpired):
            continue
    return KINDS[-1]
