"""Fusion: embeddings of several modalities side by side, and one head on top.

    signals -> encoder of each modality -> embeddings, standardised -> concatenated -> linear head

Concatenation is the default (Ghallab et al., arXiv 2512.15250). For comparison: late fusion, a head
for each modality whose outputs are averaged, and gated fusion, a weighted sum of projections whose
weights depend on the input (after Arevalo et al., *Gated multimodal units*, arXiv 1702.01992).

A modality that is missing, for all windows or for some, takes no part: in a concatenation it stands
at the mean of the training embeddings (zero after standardising), the other two average over those
that are there. Missing means not in the dictionary, or a window with NaN.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from xmae.errors import UserError, require_choice
from xmae.files import atomic_folder, read_json, write_json
from xmae.models.checkpoint import load_encoder, save_encoder

FUSIONS = ("concatenate", "late", "gated")
HIDDEN = 64  # width of the projections of gated fusion
# Hz, of what each modality's encoder takes
SFREQ = {"ppg": 100, "ecg": 200, "resp": 200, "eeg": 200}


class FusionHead(nn.Module):
    """Head on several embeddings, a dictionary of (B, D): outputs (B, 1), numbers or log odds.

    Parameters
    ----------
    widths : dict of str to int
        Modalities and the widths of their embeddings.
    fusion : str
        "concatenate", "late" or "gated".
    """

    def __init__(self, widths, fusion="concatenate"):
        super().__init__()
        require_choice("fusion", fusion, FUSIONS)
        self.widths, self.fusion = dict(widths), fusion
        for name, width in widths.items():
            self.register_buffer(f"mean_{name}", torch.zeros(width))
            self.register_buffer(f"inverse_{name}", torch.ones(width))
        if fusion == "concatenate":
            self.linear = nn.Linear(sum(widths.values()), 1)
        elif fusion == "late":
            self.linears = nn.ModuleDict(
                {name: nn.Linear(width, 1) for name, width in widths.items()}
            )
        else:
            self.projections = nn.ModuleDict(
                {name: nn.Linear(width, HIDDEN) for name, width in widths.items()}
            )
            self.gates = nn.ModuleDict(
                {name: nn.Linear(width, 1) for name, width in widths.items()}
            )
            self.linear = nn.Linear(HIDDEN, 1)

    @torch.no_grad()
    def standardise_by(self, embeddings):
        """Set mean and deviation from training embeddings without NaN rows; a constant column
        becomes zero.
        """
        for name in self.widths:
            x = embeddings[name][~embeddings[name].isnan().any(1)].double()
            deviation = x.std(0, correction=0)
            inverse = torch.where(deviation > 1e-9 * (x.mean(0).abs() + 1e-9), 1 / deviation, 0.0)
            getattr(self, f"mean_{name}").copy_(x.mean(0))
            getattr(self, f"inverse_{name}").copy_(inverse)

    def standardised(self, embeddings):
        """Return standardised embeddings, zero where missing, and whether each is present (B, 1),
        both by modality.

        Raises
        ------
        UserError
            If a modality is unknown, numbers of rows or widths differ, or a row has no modality at
            all.
        """
        if unknown := sorted(embeddings.keys() - self.widths.keys()):
            raise UserError(
                f"unknown modality '{unknown[0]}'; this fusion has {', '.join(self.widths)}"
            )
        if len({len(x) for x in embeddings.values()}) != 1:
            rows = ", ".join(f"{name} {len(x)}" for name, x in embeddings.items())
            raise UserError(f"the modalities must have the same windows, got {rows or 'none'}")
        some = next(iter(embeddings.values()))
        z, there = {}, {}
        for name, width in self.widths.items():
            x = embeddings.get(name, torch.full((len(some), width), torch.nan, device=some.device))
            if x.shape[1:] != (width,):
                raise UserError(
                    f"embeddings of {name} have shape {tuple(x.shape)}; expected (n, {width})"
                )
            there[name] = ~x.isnan().any(1, keepdim=True)
            scaled = (x - getattr(self, f"mean_{name}")) * getattr(self, f"inverse_{name}")
            z[name] = torch.where(there[name], scaled, 0.0)
        if not torch.cat(list(there.values()), 1).any(1).all():
            raise UserError("a window has no modality at all")
        return z, there

    def forward(self, embeddings):
        """Map a dictionary of embeddings (B, D), NaN rows and absent keys = missing -> (B, 1)."""
        z, there = self.standardised(embeddings)
        if self.fusion == "concatenate":
            return self.linear(torch.cat(list(z.values()), 1))
        present = torch.stack(list(there.values()))  # (M, B, 1)
        if self.fusion == "late":
            said = torch.stack([self.linears[name](x) for name, x in z.items()])  # (M, B, 1)
            return (said * present).sum(0) / present.sum(0)
        # (M, B, HIDDEN)
        projected = torch.stack([self.projections[name](x).tanh() for name, x in z.items()])
        gate = torch.stack([self.gates[name](x) for name, x in z.items()])  # (M, B, 1)
        weight = gate.masked_fill(~present, -torch.inf).softmax(0)
        return self.linear((weight * projected).sum(0))


class FusionModel(nn.Module):
    """Encoders of several modalities and the head that fuses them, from signals to outputs, for
    fine-tuning and inference.

    Parameters
    ----------
    encoders : dict of str to nn.Module
        "ppg", "ecg", "resp" and "eeg" are known; any set of them. Each has `embed_dim`.
    fusion : str
        See `FusionHead`.
    drop : float
        In training, the probability that a modality of a window is taken away, so that the head
        learns to do without; one is always left.
    """

    def __init__(self, encoders, fusion="concatenate", drop=0.0):
        super().__init__()
        if unknown := sorted(encoders.keys() - SFREQ.keys()):
            raise UserError(f"unknown modality '{unknown[0]}'; expected some of {', '.join(SFREQ)}")
        self.encoders = nn.ModuleDict(encoders)
        self.head = FusionHead(
            {name: encoder.embed_dim for name, encoder in encoders.items()}, fusion
        )
        self.drop = drop

    def embed(self, signals):
        """Map a dictionary of signals (B, C, n_times) -> dictionary of embeddings (B, D), NaN where
        a signal has NaN.

        Raises
        ------
        UserError
            If a modality is unknown or the signals are not of the same duration.
        """
        if unknown := sorted(signals.keys() - self.encoders.keys()):
            raise UserError(
                f"unknown modality '{unknown[0]}'; this model has {', '.join(self.encoders)}"
            )
        seconds = {name: x.shape[-1] / SFREQ[name] for name, x in signals.items()}
        if len(set(seconds.values())) != 1:
            lengths = ", ".join(
                f"{name} {s:g} s at {SFREQ[name]} Hz" for name, s in seconds.items()
            )
            raise UserError(f"the modalities must last equally long, got {lengths or 'none'}")
        embeddings = {}
        for name, x in signals.items():
            missing = x.isnan().flatten(1).any(1, keepdim=True)
            embedding = self.encoders[name](x.nan_to_num() * ~missing[..., None])
            embeddings[name] = torch.where(missing, torch.nan, embedding)
        return embeddings

    def forward(self, signals):
        """Map a dictionary of signals (B, C, n_times), each scaled as its encoder expects -> (B,
        1).
        """
        embeddings = self.embed(signals)
        return self.head(
            self.without_some(embeddings) if self.training and self.drop else embeddings
        )

    def without_some(self, embeddings):
        """Remove random rows of embeddings, but keep at least one modality of each row."""
        there = torch.stack([~x.isnan().any(1) for x in embeddings.values()], 1)  # (B, M)
        chance = torch.rand(there.shape, device=there.device).masked_fill(~there, -1)
        kept = (chance > self.drop) | (chance == chance.amax(1, keepdim=True))
        return {
            name: torch.where(kept[:, i, None], x, torch.nan)
            for i, (name, x) in enumerate(embeddings.items())
        }


def save_fusion(model, folder, about):
    """Write a `FusionModel` as a folder: one file per encoder, head.safetensors, and fusion.json.

    Parameters
    ----------
    model : FusionModel
    folder : str or Path
        Replaced as a whole; must be new, empty or an earlier one of these.
    about : dict
        Further notes for fusion.json: task, channels, training.
    """
    with atomic_folder(folder, "fusion.json") as inside:
        for name, encoder in model.encoders.items():
            save_encoder(
                encoder, inside / f"{name}.safetensors", getattr(encoder, "provenance", {})
            )
        save_file(model.head.state_dict(), inside / "head.safetensors")
        described = {
            "fusion": model.head.fusion,
            "modalities": list(model.encoders),
            "about": about,
        }
        write_json(inside / "fusion.json", described)


def load_fusion(folder):
    """Read a folder of `save_fusion`: a `FusionModel` in evaluation mode, and the notes saved as
    `about`.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    folder = Path(folder)
    described = read_json(folder / "fusion.json")
    try:
        names = described["modalities"]
        encoders = {
            name: load_encoder(folder / f"{name}.safetensors", name == "ppg") for name in names
        }
        model = FusionModel(encoders, described["fusion"])
        model.head.load_state_dict(load_file(folder / "head.safetensors"))
        model.about = described["about"]
    except UserError:
        raise
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(f"{folder}: not a fusion that xmae saved ({error})") from error
    return model.eval()
