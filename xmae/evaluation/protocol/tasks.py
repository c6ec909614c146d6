"""What can be read off an embedding: every task is one row of a table.

`TASKS` are the tasks whose labels every store carries; they are what heads, drift gate and `xmae
probe` use. `PAPER` names the 19 tasks of Zhou et al., arXiv 2605.00973, as schemas: the data behind
most of them are not public, so a user fills the column with own labels (see
`xmae.evaluation.protocol.labels`). `REGISTRY` has all of them, and what open data add. The paper's
text, as far as it could be read, names 12 tasks; the authors' summary of their data sets adds blood
pressure in two settings, so that with age, sex and body-mass index the count is 19. The seven are
our reading.
"""

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from xmae.errors import UserError, did_you_mean, require_choice


class Labelled(Protocol):
    """Anything with labels: windows of a store, or a dataset.

    Attributes
    ----------
    subject : array, shape (n,)
        Subject of each window.
    labels : dict of str to array, shape (n,)
        By column, NaN = missing.
    """

    subject: np.ndarray
    labels: dict[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A quantity to predict for a window.

    Attributes
    ----------
    name, label : str
        Short name, and words for a table.
    kind : str
        "regression" or "binary".
    units : str
        Units of a number; "" for a class.
    column : str
        Label of the store, or column of the label table, it comes from.
    above : float or None
        Binary tasks from a number: positive where the column is greater than this.
    source : str
        Origin of the labels.
    fill : str
        Values that a user writes into the column, and for what: subject, record or time.
    """

    name: str
    label: str
    kind: str
    units: str
    column: str
    source: str
    above: float | None = None
    fill: str = ""

    @property
    def metric(self) -> str:
        """Return the metric: "mae" (in `units`) or "auroc"."""
        return {"regression": "mae", "binary": "auroc"}[self.kind]

    def target(self, windows: Labelled) -> np.ndarray:
        """Return the value of each of the `windows`, shape (n,) float64: a number, or 0/1; NaN
        where the label is missing.
        """
        value = np.asarray(
            windows.labels.get(self.column, np.full(len(windows.subject), np.nan)), dtype=np.float64
        )
        return (
            value if self.above is None else np.where(np.isnan(value), np.nan, value > self.above)
        )


def _binary(
    name: str,
    label: str,
    source: str,
    fill: str = "",
    column: str | None = None,
    above: float | None = None,
) -> Task:
    return Task(name, label, "binary", "", column or name, source, above, fill)


def _number(name: str, label: str, units: str, source: str, fill: str = "") -> Task:
    return Task(name, label, "regression", units, name, source, None, fill)


def _by_name(*tasks: Task) -> dict[str, Task]:
    return {task.name: task for task in tasks}


TASKS = _by_name(
    Task(
        "hr",
        "Heart rate",
        "regression",
        "bpm",
        "hr_ecg",
        "beats of the ECG on which two detectors agree (xmae.beats.truth)",
        fill="bpm, from beats; time",
    ),
    _number(
        "rr", "Respiration rate", "/min", "breaths marked by two annotators, else bedside monitor"
    ),
    _number("spo2", "SpO2", "%", "bedside monitor, pulse oximeter"),
    _binary("sex", "Sex (male)", "hospital record", "1 male, 0 female; subject"),
    _binary(
        "age_over_65", "Age over 65", "hospital record", "years; subject", column="age", above=65
    ),
)

STAGES = {
    "wake": "Wake",
    "light": "Light sleep (N1, N2)",
    "deep": "Deep sleep (N3)",
    "rem": "REM sleep",
}
LABORATORY = {
    "a1c": "A1C",
    "haemoglobin": "Haemoglobin",
    "platelets": "Platelets",
    "sodium": "Sodium",
}
SETTINGS = {"lab": "laboratory", "free_living": "free-living"}

_filled = _by_name(
    *(
        _binary(
            f"hypertension_{key}",
            f"Hypertension, {words}",
            "cuff or diagnosis",
            "1 hypertensive, 0 not, by the cut-off you state; subject or visit",
        )
        for key, words in SETTINGS.items()
    ),
    _binary(
        "pvc",
        "PVC",
        "rhythm annotation, else derived from the ECG (xmae.evaluation.protocol.ectopic)",
        "1 if the stretch has a premature ventricular contraction, else 0; time",
    ),
    _binary(
        "ectopic",
        "Ectopic beats",
        "rhythm annotation, else derived from the ECG (xmae.evaluation.protocol.ectopic)",
        "1 if the stretch has an ectopic beat, else 0; time",
    ),
    *(
        _binary(
            name,
            f"{label} abnormal",
            "blood test",
            "1 outside the laboratory's reference range, else 0; subject",
        )
        for name, label in LABORATORY.items()
    ),
    *(
        _binary(
            name,
            label,
            "polysomnography, epochs of 30 s",
            "1 in this stage, 0 in another; time of the epoch",
        )
        for name, label in STAGES.items()
    ),
    *(
        _number(
            f"{name}_{key}",
            f"{label} pressure, {words}",
            "mmHg",
            "cuff",
            "mmHg; subject or time of the reading",
        )
        for (key, words), (name, label) in product(
            SETTINGS.items(), (("sbp", "Systolic"), ("dbp", "Diastolic"))
        )
    ),
    _number("age", "Age", "years", "hospital record", "years; subject"),
    _number("bmi", "Body-mass index", "kg/m2", "height and weight", "kg/m2; subject"),
)

PAPER = (*_filled, "sex")  # the 19

REGISTRY = (
    _filled
    | TASKS
    | _by_name(
        _binary(
            "hypertension",
            "Hypertension (stage 1 or 2)",
            "cuff: JNC 7 stage, 0 normal to 3 stage 2",
            "JNC 7 stage 0-3; subject",
            column="hypertension_stage",
            above=1,
        ),
        _binary("diabetes", "Diabetes", "hospital record", "1 diabetes, 0 not; subject"),
        _number(
            "hr_reference",
            "Heart rate of the data set",
            "bpm",
            "the data set's own, from its ECG",
            "bpm; time",
        ),
        _number(
            "hr_monitor",
            "Heart rate of the device",
            "bpm",
            "cuff or monitor",
            "bpm; subject or time",
        ),
        _number(
            "sbp", "Systolic pressure", "mmHg", "arterial line or cuff", "mmHg; subject or time"
        ),
        _number(
            "dbp", "Diastolic pressure", "mmHg", "arterial line or cuff", "mmHg; subject or time"
        ),
    )
)

KINDS = {"binary": "binary", "number": "regression"}  # as a user declares them


def declared_tasks(names: list[str]) -> tuple[list[str], dict[str, Task]]:
    """Make the tasks that users declare themselves, such as "stress:binary" or "load:number:W".

    Parameters
    ----------
    names : sequence of str
        Names of known tasks, or NAME:KIND or NAME:KIND:UNIT; NAME is the column of the label table.

    Returns
    -------
    names : list of str
        The names alone.
    known : dict
        `REGISTRY` and the declared tasks by name.

    Raises
    ------
    UserError
        If a name is neither known nor declared, a kind is none, or a known task is declared as of
        another kind.
    """
    known, plain = dict(REGISTRY), []
    for text in names:
        name, *declared = (part.strip() for part in text.split(":"))
        plain.append(name)
        if not declared:
            if name not in REGISTRY:
                raise UserError(
                    f"unknown task '{name}'; expected one of {', '.join(REGISTRY)}, or a column of"
                    f" the label table with its kind, as {name}:binary or {name}:number:UNIT"
                    + did_you_mean(name, REGISTRY)
                )
            continue
        require_choice(f"kind of the task {name}", declared[0], KINDS)
        kind = KINDS[declared[0]]
        if name in REGISTRY and REGISTRY[name].kind != kind:
            raise UserError(
                f"task {name} is known, and is {REGISTRY[name].kind}; choose another name"
            )
        unit = declared[1] if len(declared) > 1 else ""
        if name not in REGISTRY:
            known[name] = Task(name, name.replace("_", " "), kind, unit, name, "label table")
    return plain, known
