"""The scikit-learn face: windows or recordings of PPG in, embeddings and beat features out."""

from itertools import chain

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from xmae.beats.rivals import read_classical
from xmae.errors import names_of
from xmae.models import load_encoder
from xmae.signals.filters import ppg_clean
from xmae.signals.resample import resample
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

FEATURES = ("embedding", "beats")
BEATS = ("rate_bpm", "n_beats", "interval_mean_ms", "interval_sd_ms", "rmssd_ms")
SFREQ_RANGE = (25, 500)  # Hz
BATCH = 32  # windows; always so many, since sums are rounded otherwise in batches of other sizes


class PulseEncoder(TransformerMixin, BaseEstimator):
    """Transform PPG into embeddings, beat features, or both.

    Parameters
    ----------
    model : str
        A shipped encoder, a file, a folder or "hf://org/name"; see `xmae.load`.
    sfreq : float or None
        None: rows of X are cleaned windows of 10 s, with any number of samples. A rate in Hz (25 to
        500): rows are raw signals of 10 s or more, which are cleaned here; the result is the mean
        over their windows, and X may be a list of arrays of different lengths.
    features : str
        "embedding", "beats" or "embedding,beats". Beats are found in each window by Elgendi's
        method with the frozen settings of `xmae.beats.rivals`: heart rate (bpm), number of beats,
        mean and standard deviation of the intervals and RMSSD (ms); 0 where there are too few.

    Examples
    --------
    >>> x = PulseEncoder("student-mcu-s").fit_transform(np.random.default_rng(0).normal(size=(2,
    1000)))
    >>> x.shape
    (2, 256)
    """

    def __init__(self, model="student-mcu", sfreq=None, features="embedding"):
        self.model = model
        self.sfreq = sfreq
        self.features = features

    def fit(self, X, y=None):
        """Load the encoder and check X; nothing is fitted.

        Parameters
        ----------
        X : array (n, n_times), or list of arrays where `sfreq` is given
            PPG.
        y : ignored

        Returns
        -------
        PulseEncoder
            Itself.
        """
        if unknown := [name for name in self._chosen() if name not in FEATURES]:
            raise ValueError(f"unknown feature {unknown[0]!r}; expected {', '.join(FEATURES)}")
        if self.sfreq is not None and not SFREQ_RANGE[0] <= self.sfreq <= SFREQ_RANGE[1]:
            raise ValueError(f"sfreq is {self.sfreq} Hz; expected {SFREQ_RANGE[0]} to 500")
        self._windows(X, reset=True)
        self.encoder_ = load_encoder(self.model)
        return self

    def transform(self, X):
        """Compute embeddings and beat features.

        Parameters
        ----------
        X : array (n, n_times), or list of arrays where `sfreq` is given
            PPG.

        Returns
        -------
        float32 array, shape (n, n_features)
            Columns as `get_feature_names_out` names them.
        """
        check_is_fitted(self, "encoder_")
        windows, rows = self._windows(X, reset=False)
        parts = {"embedding": self._embed, "beats": beat_features}
        table = np.concatenate([parts[name](windows) for name in self._chosen()], axis=1)
        counts = np.bincount(rows)
        sums = np.zeros((len(counts), table.shape[1]))
        np.add.at(sums, rows, table)
        return (sums / counts[:, None]).astype(np.float32)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns: e0, e1, ..., then those of the beats."""
        check_is_fitted(self, "encoder_")
        named = {"embedding": [f"e{i}" for i in range(self.encoder_.embed_dim)], "beats": BEATS}
        return np.array(
            list(chain.from_iterable(named[chosen] for chosen in self._chosen())), object
        )

    def _chosen(self):
        """Return the names of the chosen parts of the table."""
        return names_of(self.features)

    def _windows(self, X, reset):
        """Return scaled windows (m, 1000), and the row of X that each belongs to, (m,)."""
        if self.sfreq is None:
            X = validate_data(self, X, reset=reset, dtype=np.float64)
            places = (
                np.linspace(0, X.shape[1] - 1, N_TIMES) if X.shape[1] > 1 else np.zeros(N_TIMES)
            )
            whole = X if X.shape[1] == N_TIMES else stretched(X, places)
            return minmax_scale(whole)[0], np.arange(len(X))
        cut = [windows_of(x, self.sfreq, row) for row, x in enumerate(X)]
        if not cut:
            raise ValueError("X is empty")
        rows = np.repeat(np.arange(len(cut)), [len(windows) for windows in cut])
        return minmax_scale(np.concatenate(cut))[0], rows

    @torch.no_grad()
    def _embed(self, windows):
        """Embed scaled windows (m, 1000): (m, E)."""
        padded = np.zeros((-(-len(windows) // BATCH) * BATCH, N_TIMES), np.float32)
        padded[: len(windows)] = windows
        batches = torch.from_numpy(padded)[:, None].split(BATCH)
        return torch.cat([self.encoder_(batch) for batch in batches]).numpy()[: len(windows)]

    def __sklearn_tags__(self):
        """Return the tags for scikit-learn's checks: the output is float32 for any input."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def stretched(x, places):
    """Interpolate rows of x (n, n_times) linearly at these places."""
    low = np.minimum(places.astype(int), max(x.shape[1] - 2, 0))
    high = np.minimum(low + 1, x.shape[1] - 1)
    return x[:, low] + (x[:, high] - x[:, low]) * (places - low)


def windows_of(x, sfreq, row):
    """Cut one raw signal (n_times,) into cleaned windows (m, 1000)."""
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"row {row} of X: expected a line of finite samples, shape {x.shape}")
    if len(x) < WINDOW_S * sfreq:
        raise ValueError(f"row {row} of X: {len(x) / sfreq:.1f} s; expected {WINDOW_S} s or more")
    clean = resample(ppg_clean(x, sfreq), sfreq, SFREQ)
    n_windows = max(1, len(clean) // N_TIMES)
    clean = np.pad(clean, (0, max(0, N_TIMES - len(clean))), mode="edge")  # of odd rates
    return clean[: n_windows * N_TIMES].reshape(n_windows, N_TIMES)


def beat_features(windows):
    """Compute the columns `BEATS` of windows (m, 1000): (m, 5)."""
    reading = read_classical(windows, "elgendi")
    table = np.zeros((len(windows), len(BEATS)))
    for number in range(len(windows)):
        times = 1000 * reading.time[reading.window == number]
        table[number, 1] = len(times)
        if np.isfinite(reading.rate[number]):
            gaps = np.diff(times)
            table[number, 0] = reading.rate[number]
            table[number, 2:] = gaps.mean(), gaps.std(), np.sqrt(np.mean(np.diff(gaps) ** 2))
    return table
