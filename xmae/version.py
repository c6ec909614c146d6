"""Hold the version of the package: this line is the one place that a release changes."""

__version__ = "0.2.0"
