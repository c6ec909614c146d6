"""Windows in memory: what a store gives to training and evaluation."""

from dataclasses import dataclass, field, fields, replace
from itertools import chain

import numpy as np

from xmae.beats.truth import no_beats
from xmae.errors import UserError
from xmae.signals.window import WINDOW_S

# bpm, bpm, per minute, %, years, 1 = male and 0 = female
LABELS = ("hr_ecg", "hr_monitor", "rr", "spo2", "age", "sex")
OLD_NAMES = {"hr": "hr_monitor"}  # of labels in stores of schema version 1 and 2
LEAD_SFREQ = 200  # Hz, of `Windows.leads`
LEAD_TIMES = 2000  # samples of a window at that rate


@dataclass
class Windows:
    """Cleaned windows of 10 s at 100 Hz, not scaled.

    Parameters
    ----------
    ppg : float32 array, shape (n, 1000)
        Cleaned PPG in the recorder's unit.
    ecg : float32 array, shape (n, 1000), or None
        Cleaned ECG of the same time in the recorder's unit; None if any recording had none.
    subject, record, split : str arrays, shape (n,)
        Subject, recording and split of each window: "train", "val" or "test" ("" before the
        split).
    start_s : float array, shape (n,)
        Start of the window within its recording, s.
    acc : float32 array, shape (n, 3, 1000), or None
        Acceleration of the same time along three axes, g, with gravity; NaN where it was not
        recorded or has missing samples in the window, 0 along axes that were not recorded. None if
        no recording had any.
    ppg_quality, ecg_quality : float arrays, shape (n,)
        15th percentile of the template-match quality over the window, at most 1; NaN without ECG.
    labels : dict of float arrays, shape (n,)
        hr_ecg (bpm, from the ECG's beats; the truth), hr_monitor (bpm, the number of the monitor or
        file), rr (per minute), spo2 (%), age (years; 90 = 90 or older), sex (1 male, 0 female), and
        what else the recordings brought or `xmae data relabel` added; NaN = missing.
    leads : float32 array, shape (n, C, 2000), or None
        All ECG leads and respiration of the same time at 200 Hz, cleaned, in the recorder's units;
        NaN where a channel has missing samples or was not recorded. None unless the store was
        prepared with `leads`.
    lead_names : tuple of str
        Names of the C leads, the same throughout a store: "II", "V", ..., "RESP" last.
    measures : dict of float arrays, shape (n,)
        Further quality: clipping, flat_line (s), dropout, motion (g), beats; see
        `xmae.data.prepare.windowing.LIMITS`; NaN = unknown. Empty in stores of schema version 1.
    beats : float32 array, shape (n, 40)
        R peaks in s from the start of the window, ascending, then NaN; all NaN where two detectors
        do not agree, without ECG, and in stores of schema version 1 and 2.
    """

    ppg: np.ndarray
    ecg: np.ndarray | None
    subject: np.ndarray
    record: np.ndarray
    start_s: np.ndarray
    ppg_quality: np.ndarray
    ecg_quality: np.ndarray
    split: np.ndarray
    labels: dict[str, np.ndarray]
    leads: np.ndarray | None = None
    lead_names: tuple[str, ...] = ()
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    acc: np.ndarray | None = None
    beats: np.ndarray | None = None

    def __post_init__(self):
        if self.beats is None:
            self.beats = no_beats(len(self.ppg))

    def __len__(self):
        return len(self.ppg)

    def select(self, index):
        """Return the windows that a boolean mask, slice or list of numbers picks."""
        picked = {name: getattr(self, name) for name in ROWS}
        picked = {name: None if x is None else x[index] for name, x in picked.items()}
        tables = {
            name: {key: x[index] for key, x in getattr(self, name).items()} for name in TABLES
        }
        return Windows(**picked, **tables, lead_names=self.lead_names)

    def require_ecg(self, what):
        """Raise a `UserError` if ECG is missing; `what` is the work that needs it, for the
        message.
        """
        if self.ecg is None:
            raise UserError(
                f"{what} needs ECG beside the PPG, and some of these recordings have none"
            )

    def signals(self, rows):
        """Return the PPG and ECG of windows by number: (m,) -> float32 (2, m, 1000); raises a
        `UserError` if ECG is missing.
        """
        self.require_ecg("pretraining")
        return np.stack([self.ppg[rows], self.ecg[rows]])

    @property
    def follows(self):
        """Tell whether each window is continued by the next one: bool (n,)."""
        return followed(self.subject, self.record, self.start_s)

    def with_acc(self):
        """Return the windows with acceleration; NaN if none was recorded."""
        if self.acc is not None:
            return self
        return replace(self, acc=np.full((len(self), 3, self.ppg.shape[1]), np.nan, np.float32))

    def with_leads(self, names):
        """Return the windows with exactly these leads in this order; NaN for leads that were not
        recorded.
        """
        if not names or tuple(names) == self.lead_names:
            return self
        leads = np.full((len(self), len(names), LEAD_TIMES), np.nan, np.float32)
        for place, name in enumerate(names):
            if name in self.lead_names:
                leads[:, place] = self.leads[:, self.lead_names.index(name)]
        return replace(self, leads=leads, lead_names=tuple(names))

    @classmethod
    def concatenate(cls, parts):
        """Concatenate several `Windows`. ECG and leads remain only if every part has them, with
        leads of the same names; acceleration remains if any part has it, with NaN in the others.
        """
        if any(part.acc is not None for part in parts):
            parts = [part.with_acc() for part in parts]
        joined = {name: [getattr(part, name) for part in parts] for name in ROWS}
        joined = {
            name: None if any(x is None for x in xs) else np.concatenate(xs)
            for name, xs in joined.items()
        }
        tables = {
            name: join([getattr(part, name) for part in parts], list(map(len, parts)))
            for name in TABLES
        }
        return cls(
            **joined,
            **tables,
            lead_names=parts[0].lead_names if joined["leads"] is not None else (),
        )


def followed(subject, record, start_s):
    """Tell whether each of some windows (n,) is continued by the next one: bool (n,)."""
    subject, record, start_s = map(np.asarray, (subject, record, start_s))
    follows = (
        (record[1:] == record[:-1])
        & (subject[1:] == subject[:-1])
        & np.isclose(np.diff(start_s), WINDOW_S)
    )
    return np.append(follows, False)[: len(record)]


def join(tables, lengths):
    """Concatenate columns of tables with these lengths; NaN where a table lacks a column."""
    names = dict.fromkeys(chain.from_iterable(tables))
    blank = [np.full(length, np.nan) for length in lengths]
    return {
        name: np.concatenate([table.get(name, x) for table, x in zip(tables, blank, strict=True)])
        for name in names
    }


TABLES = ("labels", "measures")
ROWS = tuple(f.name for f in fields(Windows) if f.name not in (*TABLES, "lead_names"))
