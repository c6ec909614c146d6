"""Hold the version of the package. CITATION.cff repeats it, and a test holds the two together."""

__version__ = "0.2.0"
