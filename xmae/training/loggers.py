"""Where a training also writes its curves, when asked to: `--logger csv,tensorboard,wandb,mlflow`.

None by default: metrics.json has the history of every run. Nothing leaves the machine unless a
logger that sends it is named.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from xmae.errors import UserError, require_choice

PACKAGES = {"csv": None, "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def check_loggers(names):
    """Return the names of loggers in a list such as "csv,wandb"; none for None or "".

    Raises
    ------
    UserError
        If one is unknown, or its package is not installed.
    """
    chosen = list(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))
    for name in chosen:
        require_choice("logger", name, PACKAGES)
        package = PACKAGES[name]
        if package and not find_spec(package):
            raise UserError(f"logger {name} needs the package {package}; pip install {package}")
    return chosen


def make_loggers(names, out):
    """Make Lightning's loggers for a run folder; an empty list if none is asked for.

    CSV and TensorBoard write into logs/, a version each time. Weights & Biases and MLflow take
    their server from their own environment variables. MLflow without one writes mlflow.db and
    mlruns/, as its later versions refuse plain folders.
    """
    from lightning.pytorch import loggers

    out = Path(out)
    server, files = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not server:
        server = f"sqlite:///{out.absolute() / 'mlflow.db'}"
        files = (out.absolute() / "mlruns").as_uri()
    make = {
        "csv": lambda: loggers.CSVLogger(out, "logs"),
        "tensorboard": lambda: loggers.TensorBoardLogger(out, "logs"),
        "wandb": lambda: loggers.WandbLogger(name=out.name, project="xmae", save_dir=out),
        "mlflow": lambda: loggers.MLFlowLogger("xmae", out.name, server, artifact_location=files),
    }
    return [make[name]() for name in check_loggers(names)]
