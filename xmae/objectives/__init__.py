"""Ways to pretrain an encoder, by name."""

from xmae.objectives.xmae import XMAEObjective

OBJECTIVES = {"xmae": XMAEObjective}
