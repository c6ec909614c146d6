"""The clock doctor: are ECG and PPG of a recording in step, and if not, can that be corrected?

A recording whose clocks are certain is corrected by offset and drift; one whose clocks are not is
left out of what needs ECG and PPG in step, and never said to be mended.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from scipy import ndimage

from xmae.data.recording.recording import ClockNote
from xmae.errors import UserError
from xmae.signals.filters import ecg_clean, ppg_clean
from xmae.signals.offset import ARRIVAL_S, Clocks, estimate_clocks, steepest_rises
from xmae.signals.quality import ecg_peaks, ppg_peaks
from xmae.signals.resample import bridge_gaps

IN_STEP_S = 0.15  # a lag this near to 0.25 s is left as it is
# s: given clocks that leave the pulses further from where they should be are wrong
WRONG_S = 1.2


class OutOfStep(UserError):
    """The clocks of ECG and PPG in a recording are not known to be in step."""


def examine(recording):
    """Estimate how the clocks of ECG and PPG in a recording differ: `Clocks`.

    Raises
    ------
    UserError
        If the recording has no ECG.
    """
    if recording.ecg is None:
        raise UserError(f"{recording.record}: has no ECG, so there are no two clocks to compare")
    sfreq = recording.sfreq
    ecg, ppg = (bridge_gaps(x, np.isfinite(x)) for x in (recording.ecg, recording.ppg))
    clean = ppg_clean(ppg, sfreq)
    pulses = steepest_rises(clean, ppg_peaks(clean, sfreq), sfreq)
    return estimate_clocks(ecg_peaks(ecg_clean(ecg, sfreq), sfreq) / sfreq, pulses)


def settle_clocks(recording):
    """Return the recording with its clocks in step; without ECG it stays as it is.

    Raises
    ------
    OutOfStep
        If they are not in step and cannot be brought there with certainty.
    """
    if recording.ecg is None:
        return recording
    found = examine(recording)
    if recording.clocks is not None:
        return checked(recording, found)
    if not found.certain:
        raise OutOfStep(f"{recording.record}: clocks of ECG and PPG not certain: {found.why}")
    off = abs(found.offset_s) > IN_STEP_S
    if not off and not found.drifts:
        return replace(recording, clocks=note_of("in step", found, 0.0, 0.0, found))
    offset, drift = found.offset_s if off else 0.0, found.drift_ppm if found.drifts else 0.0
    corrected = correct(recording, offset, drift, found.middle_s)
    after = examine(corrected)
    rules = []
    if off:
        rules.append("clock_offset")
    if found.drifts:
        rules.append("clock_drift")
    note = note_of("corrected", found, offset, drift, after)
    return replace(corrected, clocks=note, repairs=[*recording.repairs, *rules])


def note_of(state, found, offset, drift, after):
    """Return what the store records: the correction, its uncertainty, and what remains."""
    return ClockNote(
        state, offset, found.lag_half_s, drift, found.drift_half_ppm, after.lag_s - ARRIVAL_S
    )


def checked(recording, found):
    """Check a recording whose clocks the user gave: they are accepted unless the beats contradict
    them.
    """
    if found.certain and abs(found.offset_s) > WRONG_S:
        raise OutOfStep(
            f"{recording.record}: with the clocks as given, pulses come {found.lag_s:.2f} s after "
            f"the heartbeats; {ARRIVAL_S} s were expected"
        )
    left = found.offset_s if found.certain else np.nan
    return replace(recording, clocks=replace(recording.clocks, left_s=left))


def correct(recording, offset_s, drift_ppm, middle_s):
    """Shift and stretch PPG and acceleration to the ECG's clock, and cut all signals to their
    common time.

    Parameters
    ----------
    recording : Recording
        With ECG.
    offset_s, drift_ppm : float
        How far the PPG's clock is ahead at `middle_s`, s, and by how many millionths it runs
        faster.
    middle_s : float
        On the ECG's clock, s from the first sample.
    """
    sfreq, n_times = recording.sfreq, len(recording.ppg)
    time = np.arange(n_times) / sfreq
    place = (time + offset_s + 1e-6 * drift_ppm * (time - middle_s)) * sfreq
    inside = np.flatnonzero((place >= 0) & (place <= n_times - 1))
    if not len(inside):
        raise OutOfStep(f"{recording.record}: PPG and ECG were not recorded at the same time")
    kept, place = slice(inside[0], inside[-1] + 1), place[inside]
    start = recording.start  # of the ECG
    if start:
        begun = datetime.fromisoformat(start) + timedelta(seconds=float(time[inside[0]]))
        start = begun.isoformat()
    labels = {name: moved(label, inside[0], sfreq) for name, label in recording.labels.items()}
    acc = recording.acc
    return replace(
        recording,
        ppg=resampled_at(recording.ppg, place),
        ecg=recording.ecg[kept],
        labels=labels,
        leads={name: x[kept] for name, x in recording.leads.items()},
        resp=None if recording.resp is None else recording.resp[kept],
        acc=None if acc is None else np.stack([resampled_at(axis, place) for axis in acc]),
        start=start,
    )


def resampled_at(x, place):
    """Interpolate a signal (n_times,) at fractional sample numbers by cubic splines; NaN beside
    missing samples.
    """
    known = np.isfinite(x)
    values = ndimage.map_coordinates(bridge_gaps(x, known), [place], order=3, mode="nearest")
    if not known.all():
        values[~known[np.rint(place).astype(int)]] = np.nan
    return values


def moved(label, samples, sfreq):
    """Return a label of a recording that lost this many samples at its start."""
    if not isinstance(label, tuple):
        return label
    values, rate = label
    return values[round(samples / sfreq * rate) :], rate


def sentence(found: Clocks):
    """Return what was found as one line."""
    if np.isnan(found.lag_s):
        return f"not certain: {found.why}"
    lag = f"lag {found.lag_s:.3f} ± {found.lag_half_s:.3f} s"
    low, high = found.offset_range_s
    if not found.certain:
        return f"not certain: {found.why} (best guess: {lag})"
    return (
        f"{lag}, so offset {found.offset_s:+.2f} s (the lag less {ARRIVAL_S} s; it may be "
        f"{low:+.2f} to {high:+.2f} s, as arrival time and delay of the recorder are in the lag); "
        f"drift {found.drift_ppm:+.0f} ± {found.drift_half_ppm:.0f} "
        f"ppm{'' if found.drifts else ', none that shows'}"
    )
