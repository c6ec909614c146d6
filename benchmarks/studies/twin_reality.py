"""How far generated windows are from real ones: shapes side by side, distances, and a classifier.

    xmae prepare cinc2015_vt --min-quality -1 --skip-bad --out runs/cinc
    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.twin_reality runs/cinc runs/all --out benchmarks/results

The first store may choose the twin's ranges (docs/twin.md), as PPG-BP may, which is shipped; the
second is only looked at. The twin draws the windows that it draws for training, upright and through
the window pipeline. Pulses of all are found by one plain rule.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.signal import find_peaks, peak_widths
from scipy.stats import ks_2samp, kurtosis, skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from xmae.beats.intervals import variability
from xmae.beats.r_peaks import r_peaks, stretches
from xmae.benchmarks.studies.runner import run_study
from xmae.data.batches.timing import recording_delay
from xmae.data.ppg_bp import ppg_bp_segments
from xmae.data.store.store import WindowStore
from xmae.files import atomic_file, write_json
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ
from xmae.tables import markdown_table
from xmae.twin.windows import Twin

MEASURES = {  # name: (what it is, unit)
    "rate": ("heart rate", "bpm"),
    "rmssd": ("RMSSD", "ms"),
    "rise": ("rise time, foot to peak", "ms"),
    "width": ("pulse width at half height", "ms"),
    "variation": ("variation of the amplitude", "%"),
    "delay": ("delay, R peak to pulse", "ms"),
    "centroid": ("centre of the spectrum", "Hz"),
}
BANDS = np.arange(0.5, 8.5, 0.5)  # Hz, edges
N_TWIN, A_SUBJECT, SEED = 1024, 4, 77
PROMINENCE, APART_S = 0.35, 0.27  # of a pulse: share of the window's 5 to 95 % range; s
FOOT = 0.1  # share of a pulse's height at which its rise begins
QUANTILES = np.linspace(0.02, 0.98, 25)
SLACK = 0.1  # of a bound over the distance measured, for a smaller sample
TREES = {"max_iter": 80, "max_leaf_nodes": 8, "learning_rate": 0.1, "random_state": SEED}


@dataclass
class People:
    """The windows of one source, with their measures.

    name : str
    subject : (n,) array; of generated windows each is its own.
    measures : dict of (m,) arrays without NaN, by name of `MEASURES`.
    table : (n, k) array, what the classifier sees; NaN = unknown.
    spectrum : (k,) mean share of power by band.
    """

    name: str
    subject: np.ndarray
    measures: dict = field(default_factory=dict)
    table: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    spectrum: np.ndarray = field(default_factory=lambda: np.zeros(0))


def pulses_of(x):
    """Find the pulses of one window: peaks and onsets (k,), samples; heights (k,)."""
    low, high = np.quantile(x, (0.05, 0.95))
    peaks, _ = find_peaks(
        x, prominence=PROMINENCE * max(high - low, 1e-6), distance=int(APART_S * SFREQ)
    )
    feet, heights = np.zeros(len(peaks), int), np.zeros(len(peaks))
    for k, (before, peak) in enumerate(zip(np.append(0, peaks), peaks, strict=False)):
        part = x[before : peak + 1]
        heights[k] = x[peak] - part.min()
        feet[k] = before + np.flatnonzero(part <= part.min() + FOOT * heights[k])[-1]
    return peaks, feet, heights


def shape_of(x):
    """Measure one scaled window: beats (s), and rise (ms), width (ms), variation (%), else NaN."""
    peaks, feet, heights = pulses_of(x)
    time, shape = peaks / SFREQ, dict.fromkeys(("rise", "width", "variation"), np.nan)
    whole = feet > 2  # a foot at the edge is no foot
    if whole.sum() >= 2:
        height = heights[whole]
        shape["rise"] = 1000 / SFREQ * np.median((peaks - feet)[whole])
        shape["width"] = 1000 / SFREQ * np.median(peak_widths(x, peaks[whole], 0.5)[0])
        shape["variation"] = 100 * height.std() / max(height.mean(), 1e-6)
    return time, shape


def measure(name, ppg, subject, delay=None):
    """Measure windows (n, L) of one source: `People`."""
    x, _ = minmax_scale(np.asarray(ppg, np.float32))
    shapes, times = [], []
    for row in x:
        time, shape = shape_of(row)
        shapes.append(shape)
        times.append(time)
    columns = {key: np.array([shape[key] for shape in shapes]) for key in shapes[0]}
    count = [len(time) for time in times]
    window, time = np.repeat(np.arange(len(x)), count), np.concatenate(times)
    columns["rate"] = np.array([60 / np.diff(t).mean() if len(t) > 2 else np.nan for t in times])
    columns["rmssd"] = variability(time, window, len(x))["rmssd"]
    power, columns["centroid"] = bands(x)
    moments = np.stack([skew(x, axis=1), kurtosis(x, axis=1)], 1)
    own = {key: columns[key] for key in MEASURES if key in columns}
    table = np.concatenate([np.stack(list(own.values()), 1), moments, np.log(power + 1e-6)], 1)
    own["delay"] = np.zeros(0) if delay is None else delay
    known = {key: value[np.isfinite(value)] for key, value in own.items()}
    return People(name, np.asarray(subject), known, table, power.mean(0))


def columns_of():
    """Return the names of the classifier's columns."""
    own = [key for key in MEASURES if key != "delay"]
    return [*own, "skewness", "kurtosis", *(f"power at {low:g} Hz" for low in BANDS[:-1])]


def bands(x):
    """Return the share of power in bands of 0.5 Hz (n, k), and the spectral centroid (n,) in Hz."""
    window = np.hanning(x.shape[1])
    power = np.abs(np.fft.rfft((x - x.mean(1, keepdims=True)) * window, 1024)) ** 2
    hertz = np.fft.rfftfreq(1024, 1 / SFREQ)
    inside = (hertz >= BANDS[0]) & (hertz < BANDS[-1])
    power, hertz = power[:, inside], hertz[inside]
    power /= np.maximum(power.sum(1, keepdims=True), 1e-12)
    number = np.digitize(hertz, BANDS) - 1
    shares = np.stack([power[:, number == k].sum(1) for k in range(len(BANDS) - 1)], 1)
    return shares, power @ hertz


def twin_people(n=N_TWIN, seed=SEED, length=N_TIMES):
    """Draw generated windows and measure the `length` samples in their middle: `People`."""
    drawn = Twin(ecg=False, flip=0.0).draw(n, torch.Generator().manual_seed(seed))
    start = (N_TIMES - length) // 2
    ppg = drawn.ppg[:, 0, start : start + length].numpy()
    return measure("twin", ppg, np.arange(n), 1000 * drawn.delay.numpy())


def store_people(name, store, rng):
    """Measure a few windows of each subject of a store: `People`."""
    windows = WindowStore(store).windows()
    rows = np.concatenate([
        rng.permutation(np.flatnonzero(windows.subject == subject))[:A_SUBJECT]
        for subject in np.unique(windows.subject)
    ])  # fmt: skip
    return measure(name, windows.ppg[rows], windows.subject[rows], delays_of(windows))


def delays_of(windows):
    """Return the delay of each stretch without a gap, found as in training: (r,) ms; NaN = not
    found.
    """
    found = []
    for part in stretches(windows):
        peaks = r_peaks(windows.ecg[part].ravel().astype(float))
        delay = recording_delay(windows.ppg[part].ravel(), peaks)
        found.append(np.nan if delay is None else 1000 / SFREQ * delay)
    return np.array(found)


def distance(twin, real):
    """Return the Kolmogorov-Smirnov distance between two samples, 0 to 1; None if one is empty."""
    return float(ks_2samp(twin, real).statistic) if len(twin) and len(real) else None


def tell_apart(twin, real):
    """Return the AUROC of a classifier that separates generated from real windows of unseen
    subjects, and the measures it uses.

    Returns
    -------
    auroc : float
    uses : list of (str, float)
        The columns whose shuffling costs most AUROC, mean over the folds.
    """
    x = np.concatenate([twin.table, real.table])
    truth = np.repeat([0, 1], [len(twin.table), len(real.table)])
    subject = np.concatenate(
        [np.char.add("twin", twin.subject.astype(str)), real.subject.astype(str)]
    )
    score, cost = np.zeros(len(x)), []
    for fitted, scored in GroupKFold(5, shuffle=True, random_state=SEED).split(x, truth, subject):
        model = HistGradientBoostingClassifier(**TREES).fit(x[fitted], truth[fitted])
        score[scored] = model.predict_proba(x[scored])[:, 1]
        cost.append(
            permutation_importance(
                model, x[scored], truth[scored], scoring="roc_auc", n_repeats=2, random_state=SEED
            ).importances_mean
        )
    mean = np.mean(cost, axis=0)
    order = np.argsort(-mean)[:4]
    return roc_auc_score(truth, score), [(columns_of()[k], float(mean[k])) for k in order]


def middle(x):
    """Return the median and the range from 10 to 90 %, as text."""
    if not len(x):
        return "none"
    low, median, high = np.quantile(x, (0.1, 0.5, 0.9))
    digits = 1 if abs(median) < 10 else 0
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def draw(twin, real, path):
    """Draw all measures and the mean spectra of all sources into one picture."""
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    colours = dict(zip([twin.name, *(one.name for one in real)],
                       ("#d62828", "#2a9d8f", "#1d3557", "#e9a820"), strict=False))  # fmt: skip
    for ax, (key, (what, unit)) in zip(axes, MEASURES.items(), strict=False):
        pooled = np.concatenate([one.measures[key] for one in (twin, *real)])
        edges = np.linspace(*np.quantile(pooled, (0.005, 0.985)), 40)
        for one in (twin, *real):
            if len(values := one.measures[key]):
                ax.hist(
                    values.clip(edges[0], edges[-1]), edges, density=True, histtype="step",
                    color=colours[one.name], lw=2 if one is twin else 1.2, label=one.name,
                )  # fmt: skip
        ax.set_xlabel(f"{what}, {unit}")
        ax.set_yticks([])
    for one in (twin, *real):
        axes[7].plot(BANDS[:-1] + 0.25, one.spectrum, color=colours[one.name],
                     lw=2 if one is twin else 1.2)  # fmt: skip
    axes[7].set_yscale("log")
    axes[7].set_xlabel("share of power by frequency, Hz")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4,
                  frameon=False)  # fmt: skip
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")


def twin_reality(chosen: str, seen: str, /, *, out: str) -> str:
    """Measure the distance between generated and real windows.

    Parameters
    ----------
    chosen : str
        Store of cinc2015_vt.
    seen : str
        Store of BIDMC.
    out : str
        Folder for twin_reality.png and twin_reality.json.
    """
    out, rng = Path(out), np.random.default_rng(SEED)
    ppg, subject, _, _ = ppg_bp_segments()
    pieces = measure("PPG-BP, 2 s", ppg, subject)
    real = [store_people("cinc2015_vt", chosen, rng), pieces, store_people("BIDMC", seen, rng)]
    twin, short = twin_people(), twin_people(length=ppg.shape[1])
    pairs = [(short if one is pieces else twin, one) for one in real]
    found = {
        one.name: {key: distance(own.measures[key], one.measures[key]) for key in MEASURES}
        for own, one in pairs
    }
    told = {one.name: tell_apart(own, one) for own, one in pairs}
    draw(twin, real, out / "twin_reality.png")
    write_json(out / "twin_reality.json", kept(pairs, found))
    return page(twin, real, found, told)


def kept(pairs, found):
    """Return what the test needs: quantiles of the real sources, and upper bounds of the
    distances.
    """
    sources = {}
    for _, one in pairs[:2]:
        sources[one.name] = {
            key: {"quantiles": np.quantile(one.measures[key], QUANTILES).round(3).tolist(),
                  "bound": round(found[one.name][key] + SLACK, 3)}
            for key in MEASURES if len(one.measures[key])
        }  # fmt: skip
    return {"shares": QUANTILES.round(3).tolist(), "sources": sources}


def page(twin, real, found, told):
    """Return the page: tables on the distances and the classifier."""
    rows = []
    for key, (what, unit) in MEASURES.items():
        cells = [f"{what}, {unit}", middle(twin.measures[key])]
        for one in real:
            far = found[one.name][key]
            cells.append("" if far is None else f"{middle(one.measures[key])}; {far:.2f}")
        rows.append(cells)
    columns = ("measure", "twin", *(f"{one.name}; distance" for one in real))
    apart = [
        [name, f"{auroc:.3f}", ", ".join(f"{column} ({cost:.3f})" for column, cost in uses)]
        for name, (auroc, uses) in told.items()
    ]
    counts = ", ".join(
        f"{one.name} {len(one.table):,} windows of {len(np.unique(one.subject))} subjects"
        for one in real
    )
    return (
        "# Generated and real windows, side by side\n\n"
        f"{N_TWIN:,} generated windows as training draws them, upright, through the window "
        f"pipeline; {counts}. Median and range from 10 to 90 %, then the distance of Kolmogorov "
        "and Smirnov to the twin (0 the same, 1 no overlap). PPG-BP is compared with 2 s of the "
        "twin. The delay is of recordings where it can be found. Pulses of all are found by one "
        f"rule: peaks that stand out by {100 * PROMINENCE:.0f} % of the window's range; they rise "
        f"from {100 * FOOT:.0f} % of their height. Rhythms of the twin are meant to "
        "be wider: three of four of its windows are no sinus rhythm. BIDMC chose nothing.\n\n"
        f"{markdown_table(columns, rows)}\n\n![all in one picture](twin_reality.png)\n\n"
        "## A classifier that tells them apart\n\n"
        f"Boosted trees on {len(columns_of())} numbers of a window, five folds by subject. 0.5 "
        "would be chance. Beside it the columns whose shuffling costs most AUROC.\n\n"
        f"{markdown_table(('real windows', 'AUROC', 'uses'), apart)}\n"
    )


if __name__ == "__main__":
    run_study(twin_reality, "twin_reality.md")
