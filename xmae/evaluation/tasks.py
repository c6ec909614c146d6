"""What can be read off an embedding: every task is one row of `TASKS`."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """One thing to predict for a window.

    Attributes
    ----------
    name, label : str
        Short name, and words for a table.
    kind, metric : str
        "regression" with "mae" (in `units`), or "binary" with "auroc".
    column : str
        Label of the store it comes from.
    above : float or None
        Binary tasks from a number: positive where the column is greater than this.
    source : str
        Who measured it.
    """

    name: str
    label: str
    kind: str
    metric: str
    units: str
    column: str
    source: str
    above: float | None = None

    def target(self, windows):
        """Value of each of the `windows`, shape (n,) float64: the number, or 0/1; NaN where the label is missing."""
        value = np.asarray(windows.labels.get(self.column, np.full(len(windows.subject), np.nan)), dtype=np.float64)
        return value if self.above is None else np.where(np.isnan(value), np.nan, value > self.above)


TASKS = {
    task.name: task
    for task in (
        Task("hr", "Heart rate", "regression", "mae", "bpm", "hr", "bedside monitor, from the ECG"),
        Task(
            "rr",
            "Respiration rate",
            "regression",
            "mae",
            "/min",
            "rr",
            "breaths marked by two annotators, else bedside monitor",
        ),
        Task("spo2", "SpO2", "regression", "mae", "%", "spo2", "bedside monitor, pulse oximeter"),
        Task("sex", "Sex (male)", "binary", "auroc", "", "sex", "hospital record"),
        Task("age_over_65", "Age over 65", "binary", "auroc", "", "age", "hospital record", above=65),
    )
}
