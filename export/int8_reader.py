"""Windows read by an int8 file: what an exported student makes of them, beat by beat."""

from itertools import chain

import numpy as np

from xmae.beats.codes import as_codes
from xmae.beats.intervals import rate_by_window
from xmae.beats.r_peaks import stretches
from xmae.beats.reader import MapCode, read_maps
from xmae.beats.reading import Reading
from xmae.beats.timing_map import LOG_SHARE
from xmae.export.stream import Stream
from xmae.export.targets import litert
from xmae.export.targets.c.network import MAP_CHANNELS, StreamNetwork
from xmae.models.beat_student import N_OUTPUTS
from xmae.signals.scale import minmax_scale
from xmae.signals.window import SFREQ, WINDOW_S

TAIL_S = 3  # s of the last code after a stretch, so that its last beats are answered for


class Int8Reader:
    """Reader of windows by the int8 `.tflite` of a student that reads beats.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    UserError
        As `StreamNetwork`.
    """

    def __init__(self, path):
        self.path, self.scale = path, StreamNetwork(path).scale
        self.session = litert.open_model(path)

    def read_windows(self, ppg):
        """Read cleaned windows at 100 Hz, (n, 1000) in any unit, each by itself: a `Reading`."""
        scaled = minmax_scale(np.asarray(ppg, np.float32))[0]
        rows = self.session(scaled)[:, -N_OUTPUTS * MAP_CHANNELS :]
        codes = np.rint(rows / self.scale).astype(np.int64).reshape(len(rows), -1, MAP_CHANNELS)
        return read_maps(codes.transpose(0, 2, 1), MapCode.of_scale(self.scale, LOG_SHARE))

    def read_streamed(self, windows):
        """Read windows as a watch does: consecutive windows of a recording as one stream.

        Parameters
        ----------
        windows : Windows
            With their place in the recording.

        Returns
        -------
        Reading
            Beats as the stream gives them, in the window that they lie in; nothing is refused.
            The certainty is that at the end of the window.
        """
        n = len(windows.ppg)
        window, time, confidence, certainty = [], [], [], np.full(n, np.nan)
        for stretch in stretches(windows):
            length = stretch.stop - stretch.start
            at, sure, ends = self.read_stretch(windows.ppg[stretch].ravel())
            inside = (at[:, 0] >= 0) & (at[:, 0] < length * WINDOW_S)
            number = (at[inside, 0] // WINDOW_S).astype(int)
            window.append(stretch.start + number)
            time.append(at[inside, 0] - number * WINDOW_S)
            confidence.append(at[inside, 1])
            last = WINDOW_S * np.arange(1, length + 1)
            certainty[stretch] = sure[np.abs(ends - last[:, None]).argmin(1)]
        window, time, confidence = (np.concatenate(x) for x in (window, time, confidence))
        return Reading(window, time, confidence, rate_by_window(time, window, n), certainty)

    def read_stretch(self, ppg):
        """Read PPG at 100 Hz (n,): beats (k, 2), times in s and confidences; certainties (m,) and
        their times (m,) in s.
        """
        stream, codes = Stream(self.path, SFREQ), as_codes(ppg)
        results = stream.push(np.concatenate([codes, np.repeat(codes[-1:], TAIL_S * SFREQ)]))
        beats = chain.from_iterable(one.beats for one in results)
        beats = np.array(list(beats), float).reshape(-1, 2)
        found = np.column_stack([stream.seconds_of(beats[:, 0]), beats[:, 1] / 255])
        sure = np.array([one.certainty / 255 for one in results])
        return found, sure, np.array([stream.seconds_of(one.time) for one in results])
