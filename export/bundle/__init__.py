"""The bundle: one folder with everything that a watch, a phone or a test bench needs."""
