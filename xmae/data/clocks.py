"""`xmae data clocks`: are the clocks of ECG and PPG in step? A page with a picture of each."""

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from xmae.data.prepare.inputs import find_recordings
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.checks import upright
from xmae.data.recording.clocks import examine, sentence
from xmae.data.recording.readers import read_each
from xmae.data.recording.recording import PassedOver
from xmae.data.store.overview import STYLE, embedded_png
from xmae.errors import UserError
from xmae.files import atomic_file, write_json
from xmae.signals.offset import ARRIVAL_S

PICTURES = 24  # recordings with a picture; of more, those that are not certain come first


@dataclass(frozen=True)
class Finding:
    """Result of the clock doctor for one recording; numbers as in `xmae.signals.offset.Clocks`."""

    record: str
    minutes: float
    certain: bool
    says: str
    lag_s: float | None = None
    lag_half_s: float | None = None
    offset_s: float | None = None
    offset_low_s: float | None = None
    offset_high_s: float | None = None
    drift_ppm: float | None = None
    drift_half_ppm: float | None = None
    matched: float | None = None


def clocks(
    inputs: list[str],
    out: str = "runs/clocks",
    channels: str | None = None,
    sfreq: float | None = None,
    polarity: str = "auto",
) -> dict:
    """Estimate offset and drift between the clocks of ECG and PPG from the beats of both.

    The lag of the pulses is the offset of the clocks and the pulse arrival time together, which
    nothing in the signals tells apart; the offset is the lag less 0.25 s, with that uncertainty.
    Nothing is changed: `xmae prepare --align` corrects.

    Parameters
    ----------
    inputs : list of str
        Recordings, session manifests, folders, or "bidmc".
    out : str
        Folder for clocks.html (a picture of each recording) and clocks.json.
    channels : str or None
        Channel map, as in `xmae prepare`.
    sfreq : float or None
        Sampling rate of tables without times, Hz.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall at systole, as `xmae
        prepare` does; "upright" takes it as it is; "inverted" turns it over.

    Returns
    -------
    dict
        `recordings`: a row each with lag, offset, drift, their intervals (95 %, half) and whether
        they are certain; `certain`, `not_certain`: counts; "out".

    Raises
    ------
    UserError
        If an input cannot be used, or none has ECG beside PPG.
    """
    channel_map = ChannelMap.load(channels, sfreq)
    paths, _ = find_recordings(inputs, channel_map)
    findings, pictures = [], {}
    for path in tqdm(paths, "clocks", unit="file"):
        for recording in read_each(path, channel_map):
            if isinstance(recording, PassedOver):
                continue
            if isinstance(recording, UserError):
                raise recording
            if recording.ecg is None:
                continue
            found = examine(upright(recording, polarity))
            findings.append(finding_of(recording, found))
            if found.times_s is not None and len(pictures) < PICTURES:
                pictures[recording.record] = picture(found)
    if not findings:
        raise UserError("none of the recordings has ECG beside PPG, so no two clocks to compare")
    findings.sort(key=lambda finding: finding.certain)
    unsure = [finding for finding in findings if not finding.certain]
    head = f"{len(findings) - len(unsure)} of {len(findings)} recordings have certain clocks"
    if unsure:
        head += f"; {len(unsure)} NOT, and prepare --align leaves them out"
    result = {
        "recordings": [asdict(finding) for finding in findings],
        "certain": len(findings) - len(unsure),
        "not_certain": len(unsure),
    }
    page = Path(out) / "clocks.html"
    with atomic_file(page) as temporary:
        temporary.write_text(html(head, findings, pictures))
    write_json(Path(out) / "clocks.json", result)
    lines = [f"{finding.record}: {finding.says}" for finding in findings[:4]]
    return result | {"summary": [head, *lines], "out": str(page)}


def finding_of(recording, found):
    """Return the row of one recording."""
    numbers = {
        name: number(getattr(found, name))
        for name in ("lag_s", "lag_half_s", "offset_s", "drift_ppm", "drift_half_ppm", "matched")
    }
    numbers["offset_low_s"], numbers["offset_high_s"] = map(number, found.offset_range_s)
    minutes = round(len(recording.ppg) / recording.sfreq / 60, 2)
    return Finding(recording.record, minutes, found.certain, sentence(found), **numbers)


def number(value):
    """Return a number as JSON allows it; None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def picture(found):
    """Draw the lag of each pulse against time with the fitted line: PNG as base64 text."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axis = figure.subplots()
    line = found.lag_s + 1e-6 * found.drift_ppm * (found.times_s - found.middle_s)
    axis.plot(found.times_s / 60, found.lags_s, ".", ms=2, color="tab:red", label="each pulse")
    axis.plot(found.times_s / 60, line, color="black", lw=1, label="fitted")
    axis.axhline(ARRIVAL_S, color="tab:green", lw=1, ls="--", label=f"{ARRIVAL_S} s: in step")
    axis.set_ylim(min(line.min(), ARRIVAL_S) - 0.3, max(line.max(), ARRIVAL_S) + 0.3)
    axis.set_xlabel("minutes"), axis.set_ylabel("lag behind R peak, s")
    axis.legend(fontsize=7, loc="center right")
    return embedded_png(figure)


def html(head, findings, pictures):
    """Return the HTML page, with uncertain recordings first."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Clocks</title><style>{STYLE}</style>",
        f"<h1>Clocks of ECG and PPG</h1><p><b>{escape(head)}.</b></p>",
        "<p>The lag of the pulses behind the R peaks is the offset of the clocks and the pulse "
        "arrival time together; nothing in the signals tells them apart. The offset is the lag "
        f"less {ARRIVAL_S} s. Intervals are 95 %.</p>",
    ]
    for finding in findings:
        parts.append(
            f"<h2>{escape(finding.record)}, {finding.minutes:g} "
            f"min</h2><p>{escape(finding.says)}</p>"
        )
        if finding.record in pictures:
            image = pictures[finding.record]
            parts.append(f"<img alt='lag of the pulses' src='data:image/png;base64,{image}'>")
    return "\n".join(parts)
