"""One recording as every reader returns it: synchronous PPG and ECG with what is known about the
person.
"""

from dataclasses import dataclass, field

import numpy as np

from xmae.errors import UserError
from xmae.signals.window import WINDOW_S
from xmae.text import composed

LARGEST = 1e12  # of any unit: squares and sums of it are still numbers in float32
SMALLEST_RANGE = 1e-12
MIN_SLOW_SFREQ = 0.5  # Hz, of respiration and acceleration
NOBODY = ("", "nan", "none", "nat", "<na>")  # what programs write where no name is known
MIN_SFREQ, MAX_SFREQ = 20, 2000  # Hz: the PPG band ends at 8 Hz; nobody samples PPG faster


class PassedOver(UserError):
    """A part of a file with nothing to use, such as a segment without PPG; `rule` is the name under
    which it is counted.

    Parameters
    ----------
    rule : str
        "segments without PPG" and so on.
    """

    def __init__(self, rule):
        super().__init__(rule)
        self.rule = rule


def attempt(make, *arguments, **named):
    """Return the result of `make`, or its `UserError`, so that one bad recording does not cost the
    rest of its file.
    """
    try:
        return make(*arguments, **named)
    except UserError as error:
        return error


@dataclass(frozen=True)
class ClockNote:
    """Difference between the clocks of PPG and ECG, and its correction.

    Parameters
    ----------
    state : str
        "in step": nothing had to be done; "corrected"; "given": corrected as the user said.
    offset_s, lag_half_s : float
        By how much the PPG was moved, s, such that pulses follow R peaks by 0.25 s; half of the
        95 % interval of the lag it had.
    drift_ppm, drift_half_ppm : float
        By how many millionths it ran faster, as it was corrected; half of its 95 % interval.
    left_s : float
        Offset that the beats show afterwards, s; NaN = not certain.
    """

    state: str
    offset_s: float = 0.0
    lag_half_s: float = np.nan
    drift_ppm: float = 0.0
    drift_half_ppm: float = np.nan
    left_s: float = np.nan


def real_numbers(x):
    """Return an array as float64.

    Raises
    ------
    TypeError
        If it holds no real numbers: complex ones, of which a half would be lost, dates or texts.
    """
    return np.asarray(x).astype(np.float64, casting="same_kind", copy=False)


def refuse_label_rates(labels, where):
    """Raise a `UserError` if a label is a series with a sampling rate that no monitor has."""
    for name, label in labels.items():
        if isinstance(label, tuple) and not 0 < label[1] <= MAX_SFREQ:
            raise UserError(
                f"{where}: {name} has the rate {label[1]:g} Hz; expected at most {MAX_SFREQ} Hz"
            )


def refuse_beyond_float32(x, what):
    """Raise a `UserError` if a signal's numbers are too large, or their range too small, to be
    computed with in float32.
    """
    finite = x[np.isfinite(x)]
    if not len(finite):
        return
    low, high = finite.min(), finite.max()
    if max(-low, high) > LARGEST:
        raise UserError(f"{what} has samples of up to {max(-low, high):.3g}; no sensor gives them")
    if 0 < high - low < SMALLEST_RANGE:
        raise UserError(f"{what} spans {high - low:.3g} in all; no sensor resolves that")


def refuse_no_wave(ppg, name):
    """Raise a `UserError` if a PPG (n_times,) has no known sample, or only one or two values."""
    finite = ppg[np.isfinite(ppg)]
    lowest, highest = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    if lowest >= highest:
        raise UserError(f"{name}: ppg is flat or missing throughout")
    if not ((lowest < finite) & (finite < highest)).any():
        raise UserError(
            f"{name}: ppg holds no value but {lowest:g} and {highest:g}; that is no pulse wave"
        )


def same_shape(one, other):
    """Tell whether two signals differ only in scale and offset, to six digits."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 2:
        return False
    one, other = (x[both] - x[both].mean() for x in (one, other))
    scales = np.abs(one).max(), np.abs(other).max()
    if not all(scales):
        return False
    one, other = one / scales[0], other / scales[1]
    return bool(min(np.abs(one - other).max(), np.abs(one + other).max()) < 1e-6)


@dataclass
class Recording:
    """Synchronous signals of one person, checked on creation.

    Parameters
    ----------
    subject, record : str
        Person, and name of the recording. Splits go by subject.
    sfreq : float
        Sampling rate of all signals, Hz.
    ppg : float array, shape (n_times,)
        PPG, upright (systole rises), any unit; NaN = missing.
    ecg : float array, shape (n_times,), or None
        ECG, any unit; NaN = missing.
    labels : dict
        "age" (years), "sex" ("M" or "F"); and series as (values, sfreq in Hz): "hr_monitor" (bpm),
        "rr" (breaths per minute), "spo2" (%). All optional, NaN = missing.
    leads : dict of float arrays, shape (n_times,)
        All ECG leads by name, in the unit of `ecg`, which is one of them; empty = only `ecg` is
        known.
    resp : float array, shape (n_times,), or None
        Respiration, any unit; NaN = missing.
    acc : float array, shape (3, n_times), or None
        Acceleration along three axes, g; NaN = missing. Axes that were not recorded are 0.
    start : str
        Time of the first sample, ISO 8601 in the recorder's clock; "" = unknown.
    repairs : list of str
        Repairs that the reader made, by the rules of `docs/data.md`, one short name per rule.
    own_clocks : bool
        Whether PPG and ECG come from devices with clocks of their own.
    clocks : ClockNote or None
        Difference between the clocks of PPG and ECG; None = not examined.

    Raises
    ------
    UserError
        On a subject without a name, an implausible rate, different lengths, less than one window,
        infinite samples, numbers that no sensor gives, PPG that has but one or two values, or ECG
        that is the PPG once more.
    """

    subject: str
    record: str
    sfreq: float
    ppg: np.ndarray
    ecg: np.ndarray | None = None
    labels: dict = field(default_factory=dict)
    leads: dict = field(default_factory=dict)
    resp: np.ndarray | None = None
    acc: np.ndarray | None = None
    start: str = ""
    repairs: list = field(default_factory=list)
    own_clocks: bool = False
    clocks: ClockNote | None = None

    def __post_init__(self):
        self.subject, self.record = composed(self.subject), composed(self.record)
        name = self.record
        if self.subject.lower() in NOBODY:
            raise UserError(f"{name}: its subject is '{self.subject}', which is nobody's name")
        refuse_label_rates(self.labels, name)
        if not MIN_SFREQ <= self.sfreq <= MAX_SFREQ:
            raise UserError(
                f"{name}: sampling rate {self.sfreq:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz"
            )
        for kind, x in self.signals().items():
            if x.ndim != 1 and (kind != "acc" or x.ndim != 2 or len(x) != 3):
                wanted = "three rows of samples" if kind == "acc" else "one row of samples"
                raise UserError(f"{name}: {kind} has shape {x.shape}; expected {wanted}")
            if np.isinf(x).any():
                raise UserError(
                    f"{name}: {kind} has infinite samples; mark missing samples with NaN"
                )
            refuse_beyond_float32(x, f"{name}: {kind}")
            if x.shape[-1] != len(self.ppg):
                has = f"ppg has {len(self.ppg)} samples but {kind} {x.shape[-1]}"
                raise UserError(f"{name}: {has}; expected as many")
        if len(self.ppg) < WINDOW_S * self.sfreq:
            raise UserError(
                f"{name}: {len(self.ppg) / self.sfreq:.1f} s long, shorter than a window of "
                f"{WINDOW_S} s"
            )
        refuse_no_wave(self.ppg, name)
        if self.ecg is not None and same_shape(self.ppg, self.ecg):
            raise UserError(
                f"{name}: ecg is the same signal as ppg; name the right channel in a channel map"
            )

    def signals(self):
        """Return all signals by name: ppg, ecg, lead NAME, resp, acc."""
        named = {"ppg": self.ppg, "ecg": self.ecg, "resp": self.resp, "acc": self.acc}
        named |= {f"lead {name}": x for name, x in self.leads.items()}
        return {name: x for name, x in named.items() if x is not None}
