"""xMAE: a PPG encoder, from pretraining to a verified int8 bundle on a watch.

The names below are the public face. Each is imported when it is first used, so that `import xmae`
is quick. The verbs take the same settings as the command line and return a dict.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xmae.privacy import stay_home
from xmae.version import __version__

if TYPE_CHECKING:
    from xmae.benchmarks.bench import bench
    from xmae.benchmarks.simulate import simulate
    from xmae.benchmarks.validate import validate
    from xmae.cli.finetune import finetune
    from xmae.data.prepare.prepare import prepare
    from xmae.data.recording.readers import read_recording as read
    from xmae.distill.distill import distill
    from xmae.evaluation.evaluate import evaluate
    from xmae.export.export import export
    from xmae.export.motion_stream import MotionStream
    from xmae.export.stream import Stream
    from xmae.reading import embed, load
    from xmae.reading import load as from_pretrained
    from xmae.training.pretrain import pretrain

__all__ = [
    "MotionStream",
    "Stream",
    "__version__",
    "bench",
    "distill",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "from_pretrained",
    "load",
    "prepare",
    "pretrain",
    "read",
    "simulate",
    "validate",
]

stay_home()  # before any library is imported
FACE = {  # name: module and name in it
    "load": ("xmae.reading", "load"),
    "from_pretrained": ("xmae.reading", "load"),
    "read": ("xmae.data.recording.readers", "read_recording"),
    "embed": ("xmae.reading", "embed"),
    "prepare": ("xmae.data.prepare.prepare", "prepare"),
    "pretrain": ("xmae.training.pretrain", "pretrain"),
    "evaluate": ("xmae.evaluation.evaluate", "evaluate"),
    "finetune": ("xmae.cli.finetune", "finetune"),
    "distill": ("xmae.distill.distill", "distill"),
    "export": ("xmae.export.export", "export"),
    "bench": ("xmae.benchmarks.bench", "bench"),
    "validate": ("xmae.benchmarks.validate", "validate"),
    "simulate": ("xmae.benchmarks.simulate", "simulate"),
    "MotionStream": ("xmae.export.motion_stream", "MotionStream"),
    "Stream": ("xmae.export.stream", "Stream"),
}


def __getattr__(name: str) -> Any:
    """Import a name of the public interface when it is first used."""
    if name not in FACE:
        raise AttributeError(f"module 'xmae' has no attribute '{name}'")
    module, attribute = FACE[name]
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        if (error.name or "xmae").partition(".")[0] == "xmae":  # a fault of ours
            raise
        from xmae.extras import needs

        raise ImportError(needs(f"xmae.{name}", error), name=error.name) from None


def __dir__() -> list[str]:
    """Return the names of the public interface, imported or not."""
    return sorted({*globals(), *FACE})
