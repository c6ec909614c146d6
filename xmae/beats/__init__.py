"""Beats: found in ECG and PPG, and what follows from them."""
