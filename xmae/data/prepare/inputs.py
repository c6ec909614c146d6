"""What `xmae prepare` is given: files and folders, who is who, and the split by subject."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.people import names_subject, subject_name
from xmae.data.recording.readers import find_in_folder, why_unusable
from xmae.data.recording.readers.formats import READERS
from xmae.data.recording.small_table import read_small_table
from xmae.data.store.store import SPLITS
from xmae.errors import UserError


def find_recordings(inputs, channel_map=None):
    """Find the recordings in files, folders (searched recursively) or the word "bidmc", each once.

    Returns
    -------
    paths : list of Path
        Recordings.
    passed_over : dict
        Suffix -> number of files in the folders that have no PPG.
    """
    paths, passed_over = [], Counter()
    for item in inputs:
        if item == "bidmc":
            paths += bidmc_files()
        elif Path(item).is_dir():
            found, others = find_in_folder(item, channel_map)
            if not found and others:
                why = why_unusable(others[0], channel_map)
                raise UserError(
                    f"{item}: no PPG in the {len(others)} files of this folder that can be read, "
                    f"such as {why}"
                )
            if not found:
                raise UserError(
                    f"{item}: no recording in this folder that can be read; expected "
                    f"{', '.join(READERS)}"
                )
            paths += found
            passed_over.update(path.suffix.lower() for path in others)
        else:
            paths.append(Path(item))
    if not paths:
        raise UserError("no recordings given")
    return list(dict.fromkeys(path.resolve() for path in paths)), dict(passed_over)


def read_subjects(path):
    """Read the subject, and optionally age and sex, of each record from a CSV file with the columns
    record,subject[,age,sex].

    Returns
    -------
    dict
        Record or file stem -> dict with "subject", and where given "age" (years) and "sex" ("M" or
        "F").
    """
    table = with_plain_names(read_small_table(path, "a table of subjects"))
    keys = [name for name in ("record", "subject") if name in table]
    names = table[keys].map(subject_name)
    if len(keys) < 2 or names.isna().any(axis=None):
        raise UserError(f"{path}: expected the columns record,subject without empty cells")
    if (twice := names["record"].duplicated()).any():
        raise UserError(f"{path}: names the record {names['record'][twice].iloc[0]} twice")
    try:
        ages = table["age"].astype(float) if "age" in table else None
    except ValueError as error:
        raise UserError(f"{path}: an age is no number ({error})") from error
    people = {}
    for row, record in enumerate(names["record"]):
        people[record] = {"subject": names["subject"][row]}
        if ages is not None and np.isfinite(ages[row]):
            people[record]["age"] = float(ages[row])
        if "sex" in table and isinstance(table["sex"][row], str):
            people[record]["sex"] = table["sex"][row].strip()[:1].upper()
    return people


def with_plain_names(table):
    """Return the table with lower-case column names; "Participant_ID" and the like become
    "subject".
    """
    names = [name.strip().lower() for name in table.columns]
    return table.set_axis(
        ["subject" if "subject" not in names and names_subject(x) else x for x in names], axis=1
    )


def read_splits(path):
    """Read the split of each subject from a CSV file with the columns subject (or patient) and
    split.
    """
    kind = "a split: a CSV with the columns subject,split"
    table = with_plain_names(read_small_table(path, kind))
    if not {"subject", "split"} <= set(table) or not table["split"].isin(SPLITS).all():
        raise UserError(
            f"{path}: expected the columns subject,split with the splits {', '.join(SPLITS)}"
        )
    return dict(zip(table["subject"].map(subject_name), table["split"], strict=True))


def read_shares(text):
    """Parse the shares of train, val and test from text such as "0.7,0.1,0.2"."""
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"split '{text}': expected three shares that add up to 1, such as 0.7,0.1,0.2, or a "
            ".csv file"
        )
    return shares


def draw_splits(subjects, shares, seed):
    """Draw a split of the subjects.

    Parameters
    ----------
    subjects : iterable of str
        Each subject once.
    shares : list of float
        Shares of train, val and test. A share above 0 gets at least one subject.
    seed : int
        The same seed and subjects give the same split.
    """
    names = np.random.default_rng(seed).permutation(sorted(subjects)).tolist()
    n_val, n_test = (max(round(share * len(names)), share > 0) for share in shares[1:])
    if n_val + n_test + (shares[0] > 0) > len(names):
        raise UserError(
            f"{len(names)} subjects are too few for the split {shares}; use 1,0,0 or more subjects"
        )
    parts = ["val"] * n_val + ["test"] * n_test
    return dict(zip(names, parts + ["train"] * (len(names) - len(parts)), strict=True))


@dataclass(frozen=True)
class Split:
    """Rule that splits subjects: a table, or shares; `shown` is what store.json records about
    it.
    """

    shown: str
    seed: int
    given: dict | None
    shares: list | None
    asked: bool = True  # if not, and subjects are too few for the shares, all train

    @classmethod
    def read(cls, text, seed):
        """Read the rule from a CSV file, or from shares such as "0.7,0.1,0.2"; see `read_splits`
        and `read_shares`.
        """
        if Path(text).suffix == ".csv":
            return cls(Path(text).name, seed, read_splits(text), None)
        return cls(text, seed, None, read_shares(text))

    def draw(self, people):
        """Draw the split of each person by the shares."""
        if not self.asked and len(people) < sum(share > 0 for share in self.shares):
            return dict.fromkeys(people, "train")
        return draw_splits(people, self.shares, self.seed)

    def of(self, subjects, same, before):
        """Return the split of each subject; a person with two names goes into one part.

        Parameters
        ----------
        subjects : set of str
            Subjects of new windows.
        same : dict
            Subject -> the name under which the same person came first.
        before : dict
            Splits that stay as they are.

        Raises
        ------
        UserError
            If a table lacks a subject, a person with two names is in two splits, or the subjects
            are too few for the shares.
        """
        person = {subject: same.get(subject, subject) for subject in subjects | before.keys()}
        fresh = sorted(subjects - before.keys())
        if self.given is None:
            known = {person[subject]: split for subject, split in before.items()}
            people = {person[subject] for subject in fresh} - known.keys()
            known |= self.draw(people) if people else {}
            splits = before | {subject: known[person[subject]] for subject in fresh}
        elif unknown := [subject for subject in fresh if subject not in self.given]:
            raise UserError(f"{self.shown}: names no split for {', '.join(unknown)}")
        else:
            splits = before | {subject: self.given[subject] for subject in fresh}
        seen = {}
        for name, split in splits.items():
            first = seen.setdefault(person[name], name)
            if splits[first] != split:
                raise UserError(
                    f"{name} and {first} are one person, but in different splits ({split} and "
                    f"{splits[first]}): "
                    "some of their recordings have the same samples; leave those out, or mend the "
                    "split"
                )
        return splits
