"""The window that every tool here works on: 10 s at 100 Hz, so 1000 samples, min-max scaled to [-1,
1].
"""

SFREQ = 100  # sampling rate, Hz
WINDOW_S = 10  # window length, s
N_TIMES = SFREQ * WINDOW_S  # window length, samples
PATCH = 40  # patch length, samples: 0.4 s at 100 Hz
