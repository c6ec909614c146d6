"""A method that is defined outside the package is pretrained like any other."""

import pytest
import torch

from xmae.models import load_encoder
from xmae.models.resnet import ResNetEncoder
from xmae.objectives import OBJECTIVES, Objective, register
from xmae.objectives.objective import Defaults
from xmae.objectives.papagei_p import SIZES
from xmae.training.pretrain import pretrain


class Upright(Objective):
    """Tell windows from their mirror images in time."""

    name = "upright"
    paper = "none: a toy"
    defaults = Defaults(epochs=1, batch_size=16)

    def __init__(self, size="small"):
        super().__init__()
        self.encoder = ResNetEncoder(**SIZES[size])
        self.head = torch.nn.Linear(self.encoder.embed_dim, 1)

    def forward(self, batch):
        both = torch.cat([batch.ppg, batch.ppg.flip(-1)])
        truth = torch.arange(len(both)).ge(len(batch.ppg)).float()
        said = self.head(self.encoder(both))[:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(said, truth.to(said.device))


@pytest.fixture(autouse=True)
def toy():
    """Register the toy for one test only: other files list all methods."""
    register(Upright)
    yield
    del OBJECTIVES["upright"]


def test_it_is_pretrained_by_its_name(small_store, tmp_path):
    result = pretrain(small_store, str(tmp_path / "run"), method="upright", size="small")
    assert result["finished"] and result["method"] == "upright" and result["val_loss"] < 2
    assert load_encoder(result["encoder"])(torch.zeros(1, 1, 1000)).ndim == 2
