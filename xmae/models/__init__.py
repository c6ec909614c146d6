"""The xMAE model, the student, and reading and writing them."""

from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.reference import load_reference_checkpoint
from xmae.models.student import McuStudent
from xmae.models.xmae import SIZES, XMAE, PPGEncoder, XMAEConfig, XMAEOutput

__all__ = [
    "SIZES", "XMAE", "McuStudent", "PPGEncoder", "XMAEConfig", "XMAEOutput", "load_encoder",
    "load_reference_checkpoint", "save_encoder",
]  # fmt: skip
