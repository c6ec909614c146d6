"""Read a recording: beats, heart rate, rhythm and certainty, second by second, from raw PPG.

The signal takes the way that it takes on a watch (`xmae.signals.front_end`, then `BeatReader`),
with the network in floating point.
"""

from dataclasses import dataclass

import numpy as np
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.beats.codes import as_codes
from xmae.beats.intervals import variability
from xmae.beats.periods import Periods
from xmae.beats.reader import FLOAT_STEP, TICKS_S, BeatReader, MapCode
from xmae.beats.reading import DOUBTFUL
from xmae.beats.rhythm import HINTS, rhythm_hint
from xmae.beats.timing_map import MAP_SFREQ, STEP
from xmae.beats.track import acceleration_samples, beside, evidence, follow
from xmae.beats.tracker import MOVES, decide, shipped_tracker
from xmae.errors import UserError, require_choice
from xmae.signals.front_end import LOOK_AHEAD, MAX_SFREQ, MIN_SFREQ, FrontEnd
from xmae.signals.polarity import POLARITIES, polarity_of
from xmae.signals.window import N_TIMES, SFREQ

SHORTEST_S = 4  # of a recording that can be read
MOST_CHANNELS = 8  # of PPG, read together
SECOND = MAP_SFREQ  # outputs
RESTING, MOVING = "beats-mcu", "student-motion"  # whose certainty, by what a model takes


@dataclass(frozen=True)
class HeartReading:
    """Beats, heart rate and rhythm that were read from a recording.

    Parameters
    ----------
    beats : float array, shape (n_beats,)
        Times of pulses, s from the first sample.
    confidence : float array, shape (n_beats,)
        0 to 1.
    intervals : float array, shape (n_beats - 1,)
        s; NaN where one of the two beats is doubtful.
    time : float array, shape (n,)
        Ends of the seconds that the following are of, s.
    rate, low, high : float array, shape (n,)
        Heart rate from the beats of 10 s and the interval that holds it in nine of ten cases, bpm;
        NaN where none is given.
    certainty : float array, shape (n,)
        0 to 1.
    irregularity : float array, shape (n,)
        Mean change of neighbouring intervals over their mean; NaN where there are too few.
    rhythm : list of str
        A hint a second, no diagnosis, and none in motion; see `xmae.beats.rhythm.HINTS`.
    embedding : float32 array, shape (n // 10, 256)
        Embedding of each whole 10 s.
    activity : float array, shape (n,), or None
        Largest movement of the last 4 s, g; None without acceleration.
    polarity : str
        "upright", "inverted" (the PPG was turned over) or "unclear" (taken as it is); of several
        channels by commas.
    """

    beats: np.ndarray
    confidence: np.ndarray
    intervals: np.ndarray
    time: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    certainty: np.ndarray
    irregularity: np.ndarray
    rhythm: list
    embedding: np.ndarray
    activity: np.ndarray | None = None
    polarity: str = "unclear"

    @property
    def rmssd(self):
        """Return the root mean square of the changes between successive certain intervals, ms; NaN
        below 4.
        """
        return float(self._variability("rmssd"))

    @property
    def sdnn(self):
        """Return the standard deviation of the certain intervals, ms; NaN below 5."""
        return float(self._variability("sdnn"))

    def _variability(self, name):
        """Return one of the numbers of `xmae.beats.intervals.variability`, over the whole
        recording.
        """
        one = np.zeros(len(self.beats), int)
        return variability(self.beats, one, 1, self.confidence)[name][0]

    def __str__(self):
        """Return the reading as one line of text."""
        known = np.isfinite(self.rate)
        if not known.any():
            return f"{len(self.time)} s: no heart rate (not sure enough)"
        return (
            f"{len(self.time)} s: heart rate {np.nanmedian(self.rate):.1f} bpm "
            f"({np.nanmin(self.rate):.0f} to {np.nanmax(self.rate):.0f}), given for "
            f"{100 * known.mean():.0f} % of the time, {len(self.beats)} beats, "
            f"polarity {self.polarity}"
        )


@torch.no_grad()
def read_recording(
    model, ppg, sfreq, certainty=None, acc=None, acc_sfreq=None, tracker=None, polarity="auto"
):
    """Read beats, heart rate and rhythm from raw PPG.

    Parameters
    ----------
    model : BeatStudent
    ppg : array, shape (n_times,) or (n_channels, n_times)
        Raw PPG in any unit, either way up; NaN = missing. Several channels are of one wrist at the
        same time; what they show is averaged.
    sfreq : float
        Its rate, Hz, 25 to 500.
    certainty : Certainty, optional
        Default: the shipped table of `beats-mcu`, or of `student-motion` where a model takes
        acceleration.
    acc : array, shape (3, n_times), optional
        Acceleration of the same time, g; NaN = missing. With it a heart rate is followed through
        motion, with an eye on what comes later; see `xmae.beats.tracker`.
    acc_sfreq : float, optional
        Its rate, Hz; default: that of the PPG.
    tracker : TrackerTable, optional
        Default: the shipped one for whole recordings.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall; with acceleration it takes
        it as it is, as steps are no pulses, and the network reads both ways. "upright" takes it as
        it is; "inverted" turns it over.

    Returns
    -------
    HeartReading

    Raises
    ------
    UserError
        If the rate is outside 25 to 500 Hz, the polarity none of these, or the recording is flat or
        shorter than 4 s.
    """
    require_choice("polarity", polarity, POLARITIES)
    channels, polarity = turned(channels_of(ppg, sfreq), ppg, sfreq, polarity, acc is not None)
    n_codes = len(channels[0])
    axes, levels = None, None
    if acc is not None:
        axes, levels = acceleration_samples(acc, acc_sfreq or sfreq)
    rows = np.stack([beside(samples_of(codes, sfreq), axes) for codes in channels])
    x = torch.from_numpy(rows[:, : model.sizes.n_inputs].astype(np.float32) / 127)
    maps = model.timing(x).numpy()
    offset = LOOK_AHEAD / SFREQ + 0.5 / SFREQ - 0.5 / sfreq + 0.015
    usual = MOVING if model.sizes.n_inputs > 1 else RESTING
    table = certainty or shipped_certainty(usual)
    seconds = read_seconds(maps.mean(0), np.rint(rows[:, 0].mean(0)), table)
    if acc is not None:
        table = tracker or shipped_tracker("model", "both ways")
        shown = evidence(rows, table.removal, maps, together=True)
        rate, sure = (x[0] for x in follow(shown, table, both_ways=True))
        follow_moving(
            seconds, rate, sure, levels[1:] if len(levels) > 1 else levels, table.certainty
        )
    beats, confidence = seconds.pop("beats") + offset, seconds.pop("confidence")
    inside = (beats >= 0) & (beats <= n_codes / sfreq)
    beats, confidence = beats[inside], confidence[inside]
    sure = np.minimum(confidence[:-1], confidence[1:]) >= DOUBTFUL
    kept = seconds["time"] + offset <= n_codes / sfreq + 0.5
    seconds = {
        name: [v for v, k in zip(values, kept, strict=True) if k]
        if name == "rhythm"
        else values[kept]
        for name, values in seconds.items()
    }
    seconds["time"] = seconds["time"] + offset
    return HeartReading(
        beats=beats,
        confidence=confidence,
        intervals=np.where(sure, np.diff(beats), np.nan),
        embedding=embed_parts(model, x[:1]),
        polarity=polarity,
        **seconds,
    )


def channels_of(ppg, sfreq):
    """Return the converter codes (n_times,) of each channel of raw PPG; the arguments are those of
    `read_recording`.

    Raises
    ------
    UserError
        If the rate is outside 25 to 500 Hz, or a channel is flat or shorter than 4 s.
    """
    if not MIN_SFREQ <= sfreq <= MAX_SFREQ:
        raise UserError(f"sampling rate {sfreq:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz")
    ppg = np.atleast_2d(ppg)
    if ppg.ndim != 2 or len(ppg) > MOST_CHANNELS:
        raise UserError(
            f"expected one row of PPG samples, or one for each of at most {MOST_CHANNELS} channels,"
            f" got shape {ppg.shape}"
        )
    channels = [as_codes(channel) for channel in ppg]
    seconds = len(channels[0]) / sfreq
    if seconds < SHORTEST_S:
        raise UserError(
            f"{seconds:.1f} s of PPG at {sfreq:g} Hz; at least {SHORTEST_S} s are needed"
        )
    return channels


def turned(channels, ppg, sfreq, polarity, moving):
    """Turn over the codes of the channels whose pulses fall, see `read_recording`: the channels,
    and the polarity of each as text.
    """
    found = [polarity] * len(channels)
    if polarity == "auto":
        rows = np.atleast_2d(ppg).astype(np.float64)
        found = ["unclear" if moving else polarity_of(row, sfreq).name for row in rows]
    right = [
        codes.max() + codes.min() - codes if way == "inverted" else codes
        for codes, way in zip(channels, found, strict=True)
    ]
    return right, ", ".join(found)


def samples_of(codes, sfreq):
    """Filter codes by the front end, with one more second of the last code, so that the last beats
    are complete.
    """
    return FrontEnd(sfreq).push(np.append(codes, np.full(int(np.ceil(sfreq)) + 1, codes[-1])))


def follow_moving(seconds, rate, sure, levels, table):
    """Combine the beats with the tracker's belief in the seconds of a reading, in place.

    Parameters
    ----------
    seconds : dict
        See `read_seconds`.
    rate, sure : int arrays, shape (seconds,)
        Heart rate and certainty of the belief; see `xmae.beats.track.follow`.
    levels : int array
        How much people move, second by second, 1 / 1000 g.
    table : Certainty
        Certainty table of the belief.
    """
    n = len(seconds["time"])
    seconds["activity"] = np.zeros(n)
    for k in range(n):
        level = int(levels[min(k, len(levels) - 1)])
        seconds["activity"][k] = level / 1000
        known = np.nan_to_num([seconds[name][k] for name in ("rate", "low", "high")])
        beats = tuple(int(round(100 * x)) for x in known)
        chosen = decide(beats, (int(rate[k]), int(sure[k])), table, level)
        if level >= MOVES:
            seconds["rhythm"][k] = HINTS[0]
        if chosen is not None:
            seconds["certainty"][k] = sure[k] / 255
            for name, value in zip(("rate", "low", "high"), chosen, strict=True):
                seconds[name][k] = value / 100 if chosen[0] else np.nan


def read_seconds(maps, samples, table):
    """Read a map (3, n) and its samples (4 n,) second by second: dict of arrays, times from the
    map's first output.
    """
    code = MapCode.of_scale(1 / FLOAT_STEP)
    reader, periods = BeatReader(code), Periods()
    codes = np.clip(np.rint(maps.T * FLOAT_STEP), -255, 255).astype(np.int64)
    rows, beats, confidence = [], [], []
    for start in range(0, len(codes), SECOND):
        before = int(reader.count[0])
        reader.push(codes[None, start : start + SECOND])
        new = int(reader.count[0]) - before
        if new:
            beats += reader.beats[0, -new:].tolist()
            confidence += reader.confidence[0, -new:].tolist()
        if reader.outputs % SECOND:
            break
        periods.push(samples[STEP * start : STEP * (start + SECOND)])
        sure, rate = int(reader.certainty()[0]), int(reader.rate()[0])
        irregular = int(reader.irregularity()[0])
        given = rate > 0 and sure >= table.least and reader.outputs >= 10 * SECOND
        given = given and not periods.doubt(rate, irregular)
        low, high = table.interval(rate, sure) if given else (np.nan, np.nan)
        rows.append(
            (
                reader.outputs / MAP_SFREQ,
                rate / 100 if given else np.nan,
                low / 100,
                high / 100,
                sure / 255,
                irregular / 1000 if irregular >= 0 else np.nan,
                HINTS[int(rhythm_hint(reader.intervals())[0]) if given else 0],
            )
        )
    names = ("time", "rate", "low", "high", "certainty", "irregularity", "rhythm")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    found = {
        name: list(values) if name == "rhythm" else np.array(values, float)
        for name, values in zip(names, columns, strict=True)
    }
    return found | {"beats": np.array(beats) / TICKS_S, "confidence": np.array(confidence) / 255}


def embed_parts(model, x):
    """Embed each whole 10 s of a scaled signal (1, 1, n): (n_parts, E)."""
    parts = [part for part in x.split(N_TIMES, dim=2) if part.shape[2] == N_TIMES]
    return model(torch.cat(parts)).numpy() if parts else np.zeros((0, model.embed_dim), np.float32)
