"""What a foreign encoder expects to hear, and how our window is made into that.

A student learns from our windows (10 s, 100 Hz, 0.5-8 Hz, [-1, 1]), so a watch needs our
pre-processing only. What its teacher did beyond that happens here, inside the teacher, on the same
window. What cannot be done from one window is refused, with the reason.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from scipy import signal
from torch import nn

from xmae.errors import UserError, did_you_mean, require_choice
from xmae.files import read_yaml
from xmae.signals.filters import PPG_BANDPASS
from xmae.signals.resample import resample
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

SCALINGS = ("zscore", "minmax", "unit")
NOT_IN_A_WINDOW = {  # scalings that a window alone does not give, and why
    "none": "our windows are scaled to [-1, 1]; their first unit is gone",
    "subject": "mean and deviation of a whole person are not known on a watch",
    "recording": "mean and deviation of a whole recording are not known on a watch",
}
LAYOUTS = ("embedding", "channels_time", "time_channels")
SFREQ_RANGE = (25, 500)  # Hz
LEAST_SAMPLES = 8  # of one input


@dataclass(frozen=True)
class Contract:
    """Input and output of a foreign encoder.

    Parameters
    ----------
    sfreq : float
        Sampling rate of its input, Hz.
    length_s : float, optional
        Length of its input, s, at most 10; the embedding is then the mean over evenly spaced parts
        of the window. By default it takes any length and gets the whole window.
    scaling : str
        Of each input: "zscore" (mean 0, deviation 1), "minmax" ([-1, 1]) or "unit" ([0, 1]).
    channels : int
        PPG channels; 1.
    band_hz : tuple of float, optional
        Pass band of its own cleaning, Hz. Where it is narrower than ours it is applied here (order
        2, zero phase); what lies outside ours is lost.
    output : int
        Which of its outputs is the embedding, where it gives several.
    layout : str
        Shape of that output: "embedding" (B, E), or with time, (B, E, T) or (B, T, E):
        "channels_time", "time_channels"; the embedding is then the mean over time.
    """

    sfreq: float
    length_s: float | None = None
    scaling: str = "zscore"
    channels: int = 1
    band_hz: tuple[float, float] | None = None
    output: int = 0
    layout: str = "embedding"

    def __post_init__(self):
        if self.channels != 1:
            raise UserError(
                f"channels is {self.channels}; refused: our windows have one channel of PPG"
            )
        if self.scaling in NOT_IN_A_WINDOW:
            raise UserError(f"scaling {self.scaling}; refused: {NOT_IN_A_WINDOW[self.scaling]}")
        require_choice("scaling", self.scaling, SCALINGS)
        require_choice("layout", self.layout, LAYOUTS)
        low, high = SFREQ_RANGE
        if not low <= self.sfreq <= high:
            raise UserError(f"sfreq is {self.sfreq:g} Hz; expected {low} to {high}")
        if self.length_s is not None and not 0 < self.length_s <= WINDOW_S:
            raise UserError(
                f"length_s is {self.length_s:g}; refused: our windows have {WINDOW_S} s, and an "
                "input that is longer would be mostly made up"
            )
        if self.n_times < LEAST_SAMPLES:
            raise UserError(f"length_s is {self.length_s:g}: {self.n_times} samples of an input")
        if self.band_hz is not None:
            refuse_band(*self.band_hz)

    @classmethod
    def load(cls, path):
        """Read a contract from a YAML file.

        Raises
        ------
        UserError
            If it cannot be read, a setting is unknown, `sfreq` is missing, or one is refused.
        """
        values = read_yaml(path, "settings")
        if not isinstance(values, dict) or "sfreq" not in values:
            raise UserError(f"{path}: expected settings, sfreq (Hz) among them")
        return cls.of(values, path)

    @classmethod
    def of(cls, values, path="contract"):
        """Make a contract from a dict, such as JSON gives; `path` is for messages."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UserError(f"{path}: no setting '{name}'{did_you_mean(name, known)}")
        band = values.get("band_hz")
        try:
            return cls(**values | {"band_hz": tuple(map(float, band)) if band else None})
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path}: a setting has the wrong type ({error})") from error

    def plain(self):
        """Return the settings as JSON values."""
        return asdict(self) | {"band_hz": list(self.band_hz) if self.band_hz else None}

    def describe(self):
        """Return the contract for a manifest: the settings, the part of the band that our windows
        hold, and the part that they lack.
        """
        given = [float(x) for x in PPG_BANDPASS]
        if self.band_hz is None:
            return self.plain() | {"band_given_hz": given, "band_lost_hz": []}
        low, high = self.band_hz
        below, above = [low, given[0]], [given[1], high]
        lost = [band for band in (below, above) if band[0] < band[1]]
        return self.plain() | {
            "band_given_hz": [max(low, given[0]), min(high, given[1])],
            "band_lost_hz": lost,
        }

    @property
    def n_times(self):
        """Return the number of samples in one input."""
        return round((self.length_s or WINDOW_S) * self.sfreq)

    @property
    def n_parts(self):
        """Return the number of parts into which a window is cut for the encoder."""
        return int(np.ceil(WINDOW_S / (self.length_s or WINDOW_S)))


def refuse_band(low, high):
    """Raise a `UserError` unless a pass band (Hz) has a lower and a higher limit and overlaps
    ours.
    """
    if not 0 <= low < high:
        raise UserError(f"band_hz is {[low, high]}; expected a lower and a higher limit")
    lowest, highest = PPG_BANDPASS
    if high <= lowest or low >= highest:
        raise UserError(
            f"band_hz is {[low, high]}; refused: our windows hold {lowest:g} to {highest:g} Hz"
        )


class Prepare(nn.Module):
    """Converter of our window (B, 1, 1000) to the inputs of a foreign encoder, (B, parts, 1,
    n_times).

    Filter and resampling are linear, so both are one matrix. It is made by the same functions that
    prepare recordings, applied to the 1000 unit impulses.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract):
        super().__init__()
        self.contract = contract
        matrix = torch.from_numpy(window_matrix(contract).astype(np.float32))
        self.register_buffer("matrix", matrix, persistent=False)
        last = matrix.shape[1] - contract.n_times
        self.starts = np.linspace(0, last, contract.n_parts).round().astype(int).tolist()

    def forward(self, ppg):
        """Map (B, 1, 1000) -> (B, parts, 1, n_times)."""
        whole = ppg @ self.matrix
        n_times = self.contract.n_times
        parts = [whole[..., start : start + n_times] for start in self.starts]
        return scaled(torch.stack(parts, 1), self.contract.scaling)


def window_matrix(contract):
    """Return the matrix (1000, n) that converts a window to the rate of a foreign encoder and,
    where it is narrower, to its band.
    """
    impulses = np.eye(N_TIMES)
    low, high = contract.describe()["band_given_hz"]
    if (low, high) != PPG_BANDPASS:
        sos = signal.butter(2, (low, high), btype="bandpass", output="sos", fs=SFREQ)
        impulses = signal.sosfiltfilt(sos, impulses, axis=-1)
    return resample(impulses, SFREQ, contract.sfreq)


def scaled(x, scaling):
    """Scale inputs (..., n_times), each separately; flat ones become zeros."""
    if scaling == "zscore":
        deviation = x.std(-1, keepdim=True, correction=0)
        return (x - x.mean(-1, keepdim=True)) / deviation.clamp(min=1e-6)
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    unit = (x - low) / (high - low).clamp(min=1e-6)
    return unit if scaling == "unit" else (2 * unit - 1) * (high > low)
