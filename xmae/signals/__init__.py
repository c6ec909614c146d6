"""Signals: the window, cleaning, quality, resampling and scaling. One definition for training,
bundle and firmware.
"""
