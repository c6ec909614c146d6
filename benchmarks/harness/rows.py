"""What `bench.json` and `drift.json` say of a model, as types: a row for each model, runtime,
precision and device.

A field that is None was not measured, and is left out of the file.
"""

from dataclasses import asdict, dataclass

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Spread:
    """Median and 5th percentile of a cosine over windows; 1 = same direction."""

    median: float
    p5: float


@dataclass(frozen=True)
class EmbeddingDrift:
    """Distance of embeddings from those of the fp32 original.

    Attributes
    ----------
    cosine, centred : Spread
        As they are, and with the mean embedding of the training windows taken off both.
    max_error : float
        Largest difference of a value of the embedding, which has no unit.
    histogram : list of int
        Windows by 1 - centred cosine, between the edges `HISTOGRAM_EDGES`.
    """

    cosine: Spread
    centred: Spread
    max_error: float
    histogram: list[int]


@dataclass(frozen=True)
class HeadDrift:
    """A head's metric on exported and on original embeddings.

    Attributes
    ----------
    metric, units : str
        "mae" in `units` ("bpm"), or "auroc" (0 to 1, no unit).
    value, reference, change : float
        Metric on the exported file, on the original, and their difference.
    interval : list of float or None
        95 % interval of `value`, by resampling subjects; None where there are too few.
    """

    metric: str
    units: str
    value: float
    reference: float
    change: float
    interval: list[float] | None


@dataclass(frozen=True)
class BeatDrift:
    """What an exported student reads, compared with its float original.

    Attributes
    ----------
    beats : int
        Matched one to one.
    unmatched : float
        Share of the original's beats, 0 to 1.
    median_ms, p99_ms : float or None
        Time between matched beats, ms; None where none matched.
    rate_change : float or None
        Change of the mean absolute error of the heart rate over subjects, or without truth of the
        heart rate itself, bpm.
    refusal_flips : float
        Share of windows in which one of the two gives a heart rate and the other does not.
    """

    beats: int
    unmatched: float
    median_ms: float | None
    p99_ms: float | None
    rate_change: float | None
    refusal_flips: float


@dataclass(frozen=True)
class Row:
    """The columns that `drift.json` and `bench.json` share.

    Attributes
    ----------
    model, format, precision : str
        As the bundle's entry.
    bytes, macs : int
        Size of the file, and multiply-accumulates of one window.
    missing, failure : str
        Runtime that is not installed; reason why there are no numbers, or none that can be
        compared.
    cosine, centred, max_error, histogram
        See `EmbeddingDrift`.
    heads : dict of str to HeadDrift
        By task.
    beats : BeatDrift
        Drift of the beats of a student that reads them.
    people : str
        Whom it was judged on, where not on the store's windows.
    latency_ms, cpu_ms : float
        Median time of one window: by the clock, and of the processor over all threads, ms.
    relative : float
        Processor time in yardsticks, a fixed computation timed in the same rounds.
    latency_interval, cpu_interval, relative_interval : list of float
        Their 95 % intervals by resampling rounds; of an estimate its low and high end.
    mac_per_s : float
        Multiply-accumulates a second of latency.
    cold_start_ms : float
        From an imported runtime to the first embedding, ms.
    peak_memory_bytes, model_memory_bytes, code_bytes : int
        Largest resident memory of the process, the part of it that came with the model, and the
        runtime's libraries or the firmware's code.
    """

    model: str
    format: str
    precision: str
    bytes: int | None = None
    macs: int | None = None
    missing: str | None = None
    failure: str | None = None
    cosine: Spread | None = None
    centred: Spread | None = None
    max_error: float | None = None
    histogram: list[int] | None = None
    heads: dict[str, HeadDrift] | None = None
    beats: BeatDrift | None = None
    people: str | None = None
    latency_ms: float | None = None
    latency_interval: list[float] | None = None
    cpu_ms: float | None = None
    cpu_interval: list[float] | None = None
    relative: float | None = None
    relative_interval: list[float] | None = None
    mac_per_s: float | None = None
    cold_start_ms: float | None = None
    peak_memory_bytes: int | None = None
    model_memory_bytes: int | None = None
    code_bytes: int | None = None
    windows: int | None = None

    @property
    def name(self) -> str:
        """Return the name of the row for messages: `student int8 litert`."""
        return f"{self.model} {self.precision} {self.format}"

    @property
    def runs(self) -> bool:
        """Tell whether the model ran here."""
        return self.missing is None and self.failure is None

    def as_json(self) -> dict:
        """Return the row as JSON, without the columns that were not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, row: dict) -> "Row":
        """Read a row from JSON; raises a `pydantic.ValidationError` if it is not one."""
        return TypeAdapter(cls).validate_python(row)


@dataclass(frozen=True)
class DriftRow(Row):
    """A row of `drift.json`.

    Attributes
    ----------
    violations : list of str
        Sentences on what is beyond the limits.
    """

    violations: list[str] | None = None


@dataclass(frozen=True)
class BenchRow(Row):
    """A row of `bench.json`.

    Attributes
    ----------
    device : str
        "host", a watch's profile, or what a baseline was recorded on.
    kind : str
        "measured", "recorded" with the baseline, or "estimated" for an emulated device.
    all_threads : dict
        `threads`, `latency_ms` and `latency_interval` on all cores, ms.
    cycles, instructions : float, int
        Cost of one window, by a compiler's estimate and counted in an emulator.
    energy_mj, energy_interval : float, list of float
        Energy of one window by the device's profile, mJ, with low and high end.
    layers : list of dict
        Time of each operator: `name`, `op` and `us`, microseconds.
    profile_failure : str
        Why there are no `layers`.
    """

    device: str = "host"
    kind: str = "measured"
    all_threads: dict | None = None
    cycles: float | None = None
    instructions: int | None = None
    energy_mj: float | None = None
    energy_interval: list[float] | None = None
    layers: list[dict] | None = None
    profile_failure: str | None = None
