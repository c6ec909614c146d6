"""Embed a recording, and read its heart rate and beats."""

import numpy as np
import pandas as pd

import xmae
from xmae.data.example import example

# a minute of a shipped recording as CSV; use your own file here
path = example("recording.csv")["out"]

# a row for each 10 s: quality, heart rate of the beats, and the embedding
result = xmae.embed(path, out="embedded")
table = pd.read_csv(result["out"])
print(f"{len(table)} windows of 10 s; heart rate {table['hr'].median():.0f} bpm")

# beats, heart rate and certainty second by second: a student that reads beats
recording = xmae.read(path)
print(f"{recording.ppg.size / recording.sfreq:.0f} s of PPG at {recording.sfreq:g} Hz")
print(xmae.load("beats-mcu").read(recording.ppg, recording.sfreq))

# neighbouring embeddings resemble each other
embedding = table.filter(regex=r"^e\d+$").to_numpy()
distance = np.linalg.norm(np.diff(embedding, axis=0), axis=1)
print(f"neighbouring windows differ by {distance.mean():.2f}, embeddings have length "
      f"{np.linalg.norm(embedding, axis=1).mean():.2f}")  # fmt: skip
