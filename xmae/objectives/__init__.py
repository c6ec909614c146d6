"""Ways to pretrain an encoder, by name; each is one file, see `xmae.objectives.objective`."""

from xmae.objectives.apple import AppleObjective
from xmae.objectives.apple_m import AppleMObjective
from xmae.objectives.criss_cross import CrissCrossObjective
from xmae.objectives.dino import DINOObjective
from xmae.objectives.lsm import LSMObjective
from xmae.objectives.mae import MAEObjective
from xmae.objectives.msn import MSNObjective
from xmae.objectives.papagei_p import PaPaGeiPObjective
from xmae.objectives.simclr import SimCLRObjective
from xmae.objectives.timing import TimingObjective
from xmae.objectives.xmae import XMAEObjective

OBJECTIVES = {
    "xmae": XMAEObjective,
    "mae": MAEObjective,
    "lsm": LSMObjective,
    "simclr": SimCLRObjective,
    "papagei-p": PaPaGeiPObjective,
    "apple": AppleObjective,
    "apple-m": AppleMObjective,
    "dino": DINOObjective,
    "msn": MSNObjective,
    "criss-cross": CrissCrossObjective,
    "timing": TimingObjective,
}
