"""The result of an evaluation as types: what `metrics.json` of `xmae evaluate` holds."""

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Score:
    """A metric of out-of-fold predictions.

    Attributes
    ----------
    value : float
        Mean over subjects: of the absolute error in the task's unit, or AUROC or F1 (0 to 1).
    interval : list of float or None
        Low and high end of the 95 % interval over subjects; None where there are too few.
    """

    value: float
    interval: list[float] | None


@dataclass(frozen=True)
class MethodResult:
    """A method on a task.

    Attributes
    ----------
    scores : dict of str to Score
        By metric: "mae", "auroc", "f1".
    p : float or None
        p-value of the paired test against the first method, adjusted by Holm; None of a method
        without one.
    stars : str
        "*" below 0.05, "**" below 0.01, "***" below 0.001.
    """

    scores: dict[str, Score]
    p: float | None = None
    stars: str = ""

    def as_json(self) -> dict:
        """Return the method as JSON."""
        found: dict = {name: asdict(score) for name, score in self.scores.items()}
        if self.p is not None:
            found |= {"p": self.p, "stars": self.stars}
        return found


@dataclass(frozen=True)
class TrialResult:
    """Results of all methods for a task on a dataset.

    Attributes
    ----------
    dataset, task, label, kind, metric, units, source : str
        Identity of the task; see `xmae.evaluation.protocol.tasks.Task`.
    in_paper : bool
        Whether the paper has the task.
    n_windows, n_subjects, n_folds : int
        Scored windows (10 s each), their subjects, and folds.
    power : str
        Sentence on what so few subjects cannot show; "" if they are enough.
    n_positive_subjects : int or None
        Subjects with a window of the class 1; None of a regression.
    not_scored : dict of str to list of str
        Why subjects are not scored, and who.
    methods : dict of str to MethodResult
        By name, the first one is what the others are tested against.
    """

    dataset: str
    task: str
    label: str
    kind: str
    metric: str
    units: str
    source: str
    in_paper: bool
    n_windows: int
    n_subjects: int
    power: str
    n_positive_subjects: int | None
    n_folds: int
    not_scored: dict[str, list[str]]
    methods: dict[str, MethodResult]

    def as_json(self) -> dict:
        """Return the trial as JSON."""
        methods = {name: method.as_json() for name, method in self.methods.items()}
        return asdict(self) | {"methods": methods}


@dataclass(frozen=True)
class NotEvaluated:
    """A task that cannot be evaluated on a dataset, and the reason."""

    dataset: str
    task: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """Comparison of methods on tasks.

    Attributes
    ----------
    reference : str
        The method that the others are tested against.
    trials : list of TrialResult
    not_evaluated : list of NotEvaluated
    best : dict of str to int
        On how many tasks each method has the best mean, baselines aside.
    """

    reference: str
    trials: list[TrialResult]
    not_evaluated: list[NotEvaluated] = field(default_factory=list)
    best: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict:
        """Return the evaluation as JSON."""
        trials = [trial.as_json() for trial in self.trials]
        return {
            "reference": self.reference,
            "trials": trials + [asdict(task) for task in self.not_evaluated],
            "best": self.best,
        }
