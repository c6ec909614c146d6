"""`xmae qat`: a student goes on learning with weights and activations rounded to int8, to give what
it gave in float.

The rounding is that of all three formats: weights symmetric per output channel, activations per
tensor with 0 among their codes, results of a convolution and its ReLU, of a residual sum, of the
pooling and of the head. Gradients pass through it as if it were not there, except where a value is
clipped (Jacob et al., CVPR 2018, arXiv 1712.05877). Batch norms are folded into the convolutions
first, as exporters do. What comes out is a student like any other: the exporters quantize it as
they quantize all.
"""

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, parametrize

from xmae.data.store.store import WindowStore
from xmae.distill.distill import keep_student
from xmae.distill.objective import TaughtCrops, TaughtWindows
from xmae.errors import UserError, require_at_least
from xmae.models.checkpoint import load_encoder
from xmae.models.student import McuStudent
from xmae.objectives.objective import Objective
from xmae.training.fit import check_start, fit
from xmae.training.loggers import check_loggers
from xmae.training.module import Pretraining

FOLLOW = 0.05  # how far a range moves towards that of the batch, each step


def qat(
    model: str,
    data: str,
    out: str = "runs/qat",
    crops: int = 5120,
    epochs: int = 4,
    batch_size: int = 128,
    lr: float = 1e-4,
    patience: int = 4,
    seed: int = 77,
    logger: str | None = None,
    resume: bool = False,
) -> dict:
    """Fine-tune a conv-only student with int8 rounding, to match its own embedding in float.

    Parameters
    ----------
    model : str
        Student: a name ("student-mcu") or a .safetensors file of `xmae distill`.
    data : str
        Store written by `xmae prepare`; its labels are not used.
    out : str
        Run folder: student.safetensors, metrics.json, logs and checkpoints.
    crops : int
        Random 10 s crops of PPG that the student in float answers once.
    epochs : int
        Passes over the crops.
    batch_size : int
        Crops per step.
    lr : float
        Peak learning rate of AdamW.
    patience : int
        Epochs without a better validation cosine before stopping early.
    seed : int
        Seed of everything random.
    logger : str
        Also write curves to these, separated by commas: csv, tensorboard, wandb, mlflow. Default:
        none; metrics.json has the history.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    dict
        `cosine_to_float`: mean centred cosine, on the validation subjects, of the rounded student
        to the one in float that it began as, and `cosine_to_float_before` training. If no epoch is
        better than that, the student stays as it was. Also epochs, windows seen, device, history,
        "student" and "out".

    Raises
    ------
    UserError
        If student or store cannot be read, it is no conv-only student, a count is below 1, or
        nothing can be resumed.
    """
    require_at_least(1, crops=crops)
    out, store = Path(out), WindowStore(data)
    settings = {
        "model": str(model), "data": str(data), "store_sha256": store.contents, "crops": crops,
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "seed": seed,
        "precision": "fp32",
    }  # fmt: skip
    check_loggers(logger)
    last = check_start(out, settings, resume)
    student = load_encoder(model)
    if not isinstance(student, McuStudent):
        raise UserError(
            f"{model}: only conv-only students (`xmae distill`) can be trained to bear int8"
        )
    windows, held_out = store.windows("train"), store.windows("val")
    L.seed_everything(seed, verbose=False)
    train, val = (
        TaughtCrops(student, windows, crops, batch_size, seed),
        TaughtWindows(student, held_out, seed),
    )
    objective = QuantizationAware(folded(student), train)
    before = objective.first_look(train.batch(1, seed), val.batch)
    module = Pretraining(objective, len(train) * epochs, lr, seed)
    result = fit(module, train, val, out, settings, last, logger=logger)
    result |= {"cosine_to_float": 1 - result["val_loss"], "cosine_to_float_before": before}
    trained = objective.plain()
    if result["cosine_to_float"] < before:  # int8 cost so little that there was nothing to gain
        trained, result["cosine_to_float"] = folded(student), before
    return keep_student(
        trained,
        result,
        out,
        "cosine_to_float",
        method="qat",
        teacher=student.provenance,
        splits=store.splits,
    )


class QuantizationAware(Objective):
    """A student with rounded weights and activations, and its distance to given embeddings.

    Parameters
    ----------
    student : McuStudent
        From `folded`.
    taught : TaughtCrops
        Training crops with the embeddings of the student in float; give their mean and standard
        deviation.
    """

    def __init__(self, student, taught):
        super().__init__()
        self.student, self.ranges = student, nn.ModuleList()
        self.register_buffer("mean", taught.embedding.mean(0))
        self.register_buffer("std", taught.embedding.std(0).clamp(min=1e-6))
        for module in student.modules():
            if (
                isinstance(module, nn.ReLU)
                or module is student.head
                or getattr(module, "residual", False)
            ):
                module.register_forward_hook(self.rounder().of_output)
            if module is student.head or module is student.stem:
                module.register_forward_pre_hook(self.rounder().of_input)
        for layer in [m for m in student.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
            parametrize.register_parametrization(layer, "weight", RoundedWeight(), unsafe=True)

    def rounder(self):
        """Add a new `RoundedActivation` to this student, and return it."""
        self.ranges.append(RoundedActivation())
        return self.ranges[-1]

    def train(self, mode=True):
        """Set the mode; batch norms stay folded, and ranges of activations are updated in training
        only.
        """
        super().train(mode)
        for module in self.student.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, batch):
        """Return the mean squared error of the rounded embedding, with each dimension in its
        standard deviations.
        """
        return F.mse_loss(
            (self.student(batch.ppg) - self.mean) / self.std,
            (batch.embedding - self.mean) / self.std,
        )

    def validate(self, batch):
        """Return one minus the mean centred cosine between the rounded embedding and the float
        one.
        """
        return (
            1
            - F.cosine_similarity(
                self.student(batch.ppg) - self.mean, batch.embedding - self.mean
            ).mean()
        )

    @torch.no_grad()
    def first_look(self, batch, unseen):
        """Set the ranges by a training batch; return the centred cosine of the rounded embedding on
        an unseen one.
        """
        self.train()
        self.student(batch.ppg)
        return 1 - self.eval().validate(unseen).item()

    def plain(self):
        """Return the student without rounding."""
        for layer in [m for m in self.student.modules() if parametrize.is_parametrized(m)]:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        for module in self.student.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        return self.student.cpu().eval()


class RoundedWeight(nn.Module):
    """Round weights to int8 codes from -127 to 127, with a scale per output channel; gradients pass
    straight through.
    """

    def forward(self, weight):
        """Map (out, ...) -> (out, ...)."""
        scale = (
            weight.detach().abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-12)
            / 127
        )
        return weight + ((weight / scale).round() * scale - weight).detach()


class RoundedActivation(nn.Module):
    """Round values to int8 codes; the range is a running average of the extremes in training
    batches.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("low", torch.tensor(float("nan")))
        self.register_buffer("high", torch.tensor(float("nan")))

    def of_output(self, module, inputs, output):
        """Round a module's output; a forward hook."""
        return self(output)

    def of_input(self, module, inputs):
        """Round a module's input; a forward pre-hook."""
        return self(inputs[0])

    def forward(self, x):
        """Map any shape to the same shape."""
        if self.training:
            low, high = x.detach().aminmax()
            self.low = (
                torch.where(self.low.isnan(), low, self.low)
                .lerp(low.to(self.low), FOLLOW)
                .clamp(max=0)
            )
            self.high = (
                torch.where(self.high.isnan(), high, self.high)
                .lerp(high.to(self.high), FOLLOW)
                .clamp(min=0)
            )
        scale = ((self.high - self.low) / 255).clamp(min=1e-12)
        zero = (-128 - (self.low / scale).round()).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)


def folded(student):
    """Copy a student into one that computes the same, with batch norms that only add a bias.

    The affine part of each goes into the convolution before it, so that the weights that are
    rounded are those of the exported file; only the bias is left to learn in the batch norm.
    """
    copy = McuStudent(**student.config)
    copy.load_state_dict(student.state_dict())
    copy.eval()
    for layer in [m for m in copy.modules() if isinstance(m, nn.Sequential) and len(m) == 3]:
        conv, norm = layer[0], layer[1]
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        fused = fuse_conv_bn_eval(conv, norm)
        with torch.no_grad():
            conv.weight.copy_(fused.weight)
            norm.bias.copy_(fused.bias)
            norm.weight.fill_(1)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
        norm.weight.requires_grad_(False)
    return copy
