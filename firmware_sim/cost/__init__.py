"""From counts to estimated time, energy and battery life; the devices and their sources."""
