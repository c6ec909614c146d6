"""Which column of a table names people: by its words, in several languages, and by its values."""

import re
import unicodedata
from collections import Counter
from itertools import chain

import numpy as np
import pandas as pd

from xmae.errors import UserError
from xmae.text import composed

PEOPLE = {
    "SUBJECT", "SUBJECTS", "PATIENT", "PATIENTS", "PARTICIPANT", "PARTICIPANTS", "PERSON",
    "PROBAND", "PROBANDEN", "SUBJ", "VOLUNTEER", "VERSUCHSPERSON", "TEILNEHMER", "PATIENTEN",
    "SUJET", "SUJETO", "SOGGETTO", "PACIENTE", "PAZIENTE", "PARTICIPANTE", "DEELNEMER",
    "RESPONDENT", "TESTPERSON", "MRN", "PSEUDONYM",
    "\u041f\u0410\u0426\u0418\u0415\u041d\u0422",
    "\u0418\u0421\u041f\u042b\u0422\u0423\u0415\u041c\u042b\u0419", "\u53d7\u8bd5\u8005",
    "\u53d7\u8a66\u8005", "\u88ab\u8bd5", "\u88ab\u9a13\u8005", "\u60a3\u8005",
}  # fmt: skip
# what may stand beside such a word: "subject_age" is no name of a person
BESIDE = {
    "ID", "IDS", "NAME", "CODE", "NO", "NR", "NUMBER", "NUM", "NUMMER", "IDENTIFIER", "KEY", "SRC",
    "STUDY", "DATASET", "ANON", "ANONYMIZED", "UNIQUE", "THE", "C\u00d3DIGO", "CODIGO",
    "N\u00daMERO", "NUMERO", "NOM", "NOMBRE", "KENNUNG",
    "PAT", "PT",  # with "ID"; alone they are a pulse's arrival and a thermometer
}  # fmt: skip
# names of people where they stand in many rows, of rows, devices or visits where they do not
MAYBE_PEOPLE = {
    "ID", "PID", "UID", "UUID", "VP", "VPN", "SUB", "USER", "NAME", "WEARER", "SSID", "CASE",
    "STUDYID", "CLIENT", "ATHLETE", "RIDER", "DRIVER", "PILOT", "RESIDENT", "INFANT", "CHILD",
    "ANIMAL",
}  # fmt: skip
STEADY_ROWS = 200  # rows on average for which a value stays that may name a person


def words_of(name):
    """Split a column's name into upper-case words: at spaces, signs, digits and capitals after
    small letters.

    Examples
    --------
    >>> words_of("src_subject_id"), words_of("PatientNo."), words_of("SubjID")
    (['SRC', 'SUBJECT', 'ID'], ['PATIENT', 'NO'], ['SUBJ', 'ID'])
    """
    plain = unicodedata.normalize("NFKC", str(name))
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain)
    return re.findall(r"[^\W\d_]+", plain.upper())


def names_subject(name):
    """Tell whether a column has a name for people, such as "Participant_ID" or "subject"."""
    ends = "|".join(sorted(BESIDE, key=len, reverse=True))
    words = [
        re.sub(rf"(?<=\w\w)({ends})$", "", w) if w not in PEOPLE else w for w in words_of(name)
    ]
    return bool(PEOPLE & set(words)) and all(word in PEOPLE | BESIDE for word in words)


def may_name_subject(name):
    """Tell whether a column is called "ID", "user" or the like, which may stand for people."""
    words = words_of(name)
    if "".join(words) in MAYBE_PEOPLE:
        return True
    return bool(MAYBE_PEOPLE & set(words)) and all(w in MAYBE_PEOPLE | BESIDE for w in words)


def unclaimed(names, channel_map):
    """Return the columns that may name people, except those with a role in the map and those that
    differ only in digits, such as `subject_1` and `subject_2`.
    """
    roles = [[x] if isinstance(x, str) else x for x in channel_map.roles.values()]
    taken = {name.lower() for name in chain([channel_map.time or ""], *roles)}
    alike = Counter(without_digits(name) for name in names if has_digit(name))
    free = (name for name in names if name.lower() not in taken)
    return [name for name in free if not has_digit(name) or alike[without_digits(name)] == 1]


def has_digit(name):
    """Tell whether a name contains a digit."""
    return bool(re.search(r"\d", name))


def without_digits(name):
    """Return a name in lower case without its digits."""
    return re.sub(r"\d+", "", name.lower())


def uncertain_people(names, channel_map):
    """Return the columns that name people if their values stay constant for long."""
    free = unclaimed(names, channel_map)
    lone = [name for name in free if names_subject(name) and has_digit(name)]
    return [*lone, *(name for name in free if may_name_subject(name) and not has_digit(name))]


def says_id(name):
    """Tell whether a name contains the word "ID", of people or of anything else."""
    return "ID" in words_of(name)


def is_steady(column):
    """Tell whether the values of a column stay constant over many rows."""
    changes = int((column != column.shift()).sum())
    return changes * STEADY_ROWS <= len(column) and column.notna().any()


def may_be_people(column):
    """Tell whether all values of a column are texts or whole numbers, as people's names are."""
    numbers = pd.to_numeric(pd.Series(column.dropna().unique()).astype(str), errors="coerce")
    return bool((numbers.dropna() % 1 == 0).all())


def subject_column(names, channel_map, path, table=None):
    """Return the column that names the person: that of the map, or one with a usual name; None if
    there is none.

    A name such as "ID" or "user" counts where the `table` is given and its values stay the same for
    many rows: else it numbers the rows. So does a lone name with a digit, such as "subject_1":
    beside a "subject_2" it is a signal. A column with a role in the map does not count.

    Raises
    ------
    UserError
        If the column that the map names is not there.
    """
    if channel_map.subject:
        found = next((name for name in names if name == channel_map.subject), None)
        if found is None:
            raise UserError(
                f"{path}: no column '{channel_map.subject}' for subject; there are"
                f" {', '.join(names)}"
            )
        return found
    free = [name for name in unclaimed(names, channel_map) if not has_digit(name)]
    if (usual := next((name for name in free if names_subject(name)), None)) is not None:
        return usual
    others = uncertain_people(names, channel_map) if table is not None else []
    steady = (name for name in others if is_steady(table[name]))
    return next((name for name in steady if may_be_people(table[name])), None)


def unread_ids(table):
    """Return the columns called an ID whose several values each stay for long, and which name no
    known person.
    """
    found = [name for name in table.columns if says_id(name)]
    return [name for name in found if table[name].nunique() > 1 and is_steady(table[name])]


def subject_name(value):
    """Return a cell of the subjects' column as text: 7.0 becomes "7"; None for an empty cell."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if pd.isna(value) or not str(value).strip():
        return None
    whole = isinstance(value, float | np.floating) and value.is_integer()
    return composed(str(int(value) if whole else value))
