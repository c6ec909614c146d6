"""One recording as every reader returns it: synchronous PPG and ECG with what is known about the person."""

from dataclasses import dataclass, field

import numpy as np

from xmae.errors import UserError
from xmae.signals.window import WINDOW_S

MIN_SFREQ, MAX_SFREQ = 20, 2000  # Hz: the PPG band ends at 8 Hz; nobody samples PPG faster


@dataclass
class Recording:
    """Synchronous signals of one person, checked on creation.

    Parameters
    ----------
    subject, record : str
        Who, and which recording of theirs. Splits go by subject.
    sfreq : float
        Sampling rate of both signals, Hz.
    ppg : float array, shape (n_times,)
        PPG, upright (systole rises), any unit; NaN = missing.
    ecg : float array, shape (n_times,), or None
        ECG, any unit; NaN = missing.
    labels : dict
        "age" (years), "sex" ("M" or "F"); and series as (values, sfreq in Hz): "hr" (per minute), "rr" (breaths per
        minute), "spo2" (%). All optional, NaN = missing.

    Raises
    ------
    UserError
        On an implausible rate, different lengths, less than one window, infinite samples, or PPG that never changes.
    """

    subject: str
    record: str
    sfreq: float
    ppg: np.ndarray
    ecg: np.ndarray | None = None
    labels: dict = field(default_factory=dict)

    def __post_init__(self):
        name = self.record
        if not MIN_SFREQ <= self.sfreq <= MAX_SFREQ:
            raise UserError(f"{name}: sampling rate {self.sfreq:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz")
        for kind in ("ppg", "ecg"):
            x = getattr(self, kind)
            if x is None and kind == "ecg":
                continue
            if x.ndim != 1:
                raise UserError(f"{name}: {kind} has shape {x.shape}; expected one row of samples")
            if np.isinf(x).any():
                raise UserError(f"{name}: {kind} has infinite samples; mark missing samples with NaN")
        if self.ecg is not None and len(self.ecg) != len(self.ppg):
            raise UserError(f"{name}: ppg has {len(self.ppg)} samples but ecg {len(self.ecg)}; expected as many")
        if len(self.ppg) < WINDOW_S * self.sfreq:
            raise UserError(f"{name}: {len(self.ppg) / self.sfreq:.1f} s long, shorter than a window of {WINDOW_S} s")
        finite = self.ppg[np.isfinite(self.ppg)]
        if not len(finite) or finite.min() == finite.max():
            raise UserError(f"{name}: ppg is flat or missing throughout")
