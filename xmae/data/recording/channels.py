"""Channels of a recorder in, one `Recording` on one clock out: which channel is what, its unit, its
place in time.

Names are compared without case, spaces and punctuation, after a device prefix up to "/", a leading
"ECG" or "LEAD" and what stands in brackets are dropped: "Lead_II", "SNUADC/ECG_II" and "II [mV]"
are all II. Where several match, the first in the table wins.
"""

import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from xmae.data.recording.acceleration import in_g
from xmae.data.recording.recording import MAX_SFREQ, MIN_SFREQ, MIN_SLOW_SFREQ, Recording
from xmae.data.recording.sentinels import is_placeholder, plausible_labels, without_marks
from xmae.data.recording.sizes import FREE_SAMPLES
from xmae.data.recording.units import SECONDS, gravities_in, millivolts_in, plain_unit, split_unit
from xmae.errors import UserError, did_you_mean
from xmae.files import read_yaml
from xmae.signals.resample import resample_with_gaps

PPG_NAMES = (
    "PLETH", "PPG", "BVP", "PPGRAW", "PLETHL", "PLETHR", "PLETHWAVE", "PPG1", "PPGF", "PPG0",
    "PLETHWV", "PLETHYSMOGRAM", "SPO2PLETH", "OXIPLETH", "PPG100C", "PPGGREEN", "PPGIR",
)  # fmt: skip
# lead II first: the lead of PulseDB, on which the published model was trained; then general names,
# then other leads
ECG_NAMES = (
    "II", "ECG", "MLII", "ECGRAW", "ECG1", "ECGF", "I", "V", "V5", "MCL1", "MCL", "III", "AVR",
    "AVL", "AVF", "V1", "V2", "V3", "V4", "V6", "MLI", "MLIII", "MV1", "ECG2", "ECG3", "CHAN1",
    "CHAN2", "ECG1ECG2",
    "ECGLR", "ECGRL", "ECGLECGR", "ECGRECGL",
)  # fmt: skip
RESP_NAMES = (
    "RESP",
    "RSP",
    "RESPIRATION",
    "THORRES",
    "RESPTHORACIC",
    "RESPCHEST",
    "ABDORES",
    "RESPABDOMINAL",
)
ACC_NAMES = (
    "ACC",
    "ACCELERATION",
    "ACCELEROMETER",
    "ACCX",
    "ACCY",
    "ACCZ",
    "ACCELX",
    "ACCELY",
    "ACCELZ",
)
ROLES = {"ppg": PPG_NAMES, "ecg": ECG_NAMES, "resp": RESP_NAMES, "acc": ACC_NAMES}
# of a map's values
KINDS = {"sfreq": (int, float), "sfreqs": dict, "units": dict} | dict.fromkeys(ROLES, (str, list))
EXPECTED = {
    "sfreq": "a number, Hz",
    "sfreqs": "a rate (Hz) for each name",
    "units": "a unit for each name",
}
EXPECTED |= dict.fromkeys(ROLES, "a name or a list of names")
AMBIGUOUS_LEADS = ("I", "V")  # also a current and a voltage
NUMBERED_LEADS = {name for name in ECG_NAMES if not name.startswith(("ECG", "CHAN"))}
NUMBERED_LEADS -= set(AMBIGUOUS_LEADS)
BEYOND_S = 60  # s of a channel beyond what is asked for, so that no filter ends inside
# Hz: the clock for channels of different rates; R peaks to 5 ms, far above the PPG band
COMMON_SFREQ = 200


@dataclass
class Channel:
    """One channel as the recorder wrote it.

    Parameters
    ----------
    name : str
        The recorder's name for it.
    x : float array, shape (n_times,)
        Samples, NaN = missing.
    sfreq : float
        Sampling rate, Hz.
    start_s : float
        Time of the first sample, s, on a clock that all channels of the recording share.
    unit : str
        As the recorder states it; "" = unknown.
    """

    name: str
    x: np.ndarray
    sfreq: float
    start_s: float = 0.0
    unit: str = ""


@dataclass
class ChannelMap:
    """What the user says about the channels of their files; everything is optional.

    Parameters
    ----------
    roles : dict
        Role ("ppg", "ecg", "resp", "acc") -> the recorder's name or list of names, of which those
        are taken that are there (of "acc" all); the first ECG is the one, all are leads.
    sfreq : float or None
        Sampling rate of channels whose file states none, Hz; what a file states must agree within 1
        %.
    sfreqs, units : dict
        Sampling rate (Hz), and unit, of single channels by the recorder's name.
    time : str or None
        Column with the times of the samples; None = one that is called time, timestamp, t or
        seconds.
    time_unit : str or None
        "s", "ms", "us", "ns", "min" or "h"; None = as the column's name or a row of units says, as
        in "time (ms)", or else s.
    subject : str or None
        Column or attribute that names the subject; None = "subject", "participant_id" and so on,
        where there is one.
    """

    roles: dict = field(default_factory=dict)
    sfreq: float | None = None
    sfreqs: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    time: str | None = None
    time_unit: str | None = None
    subject: str | None = None

    @classmethod
    def load(cls, path=None, sfreq=None):
        """Read a channel map from a YAML file, such as ``{ppg: ir, ecg: [chest, arm], sfreq: 64,
        time: t, time_unit: ms}``.

        Parameters
        ----------
        path : str, Path or None
            The file; None: nothing is said.
        sfreq : float or None
            Hz, in the place of what the file says.

        Raises
        ------
        UserError
            If the file is not readable, or holds keys that are not of a channel map.
        """
        said = {} if sfreq is None else {"sfreq": sfreq}
        if not path:
            return cls(**said)
        values = read_yaml(path, "a channel map")
        known = cls.keys()
        if not isinstance(values, dict):
            raise UserError(
                f"{path}: a channel map has the keys {', '.join(known)}; see docs/data.md"
            )
        return cls.of(values, path, said)

    @classmethod
    def of(cls, values, path, said=()):
        """Read a channel map from a dict of a file or of a session's source; `path` names it in
        errors, and `said` has priority.

        Raises
        ------
        UserError
            If it holds keys that are not of a channel map, or values of another kind.
        """
        values, said = dict(values), dict(said)
        known = cls.keys()
        if wrong := [key for key in values if key not in known]:
            hint = did_you_mean(wrong[0], known)
            raise UserError(
                f"{path}: a channel map has no key '{wrong[0]}'; there are {', '.join(known)}{hint}"
            )
        if plain_unit(values.get("time_unit", "s")) not in SECONDS:
            raise UserError(
                f"{path}: time_unit '{values['time_unit']}'; expected s, ms, us, ns, min or h"
            )
        for key, value in values.items():
            good = isinstance(value, KINDS.get(key, str)) and (
                key not in ROLES or all(isinstance(x, str) for x in value)
            )
            if not good or isinstance(value, bool):
                raise UserError(
                    f"{path}: {key} is {value!r}; expected {EXPECTED.get(key, 'a name')}"
                )
        roles = {role: values.pop(role) for role in ROLES if role in values}
        return cls(roles=roles, **(values | said))

    @classmethod
    def keys(cls):
        """Return the keys of a channel map in YAML."""
        return [*ROLES, *(f.name for f in fields(cls) if f.name != "roles")]

    def check_sfreq(self, sfreq, path):
        """Return the sampling rate (Hz) that the file states or the user gives; they must agree
        within 1 %.
        """
        if sfreq is None and self.sfreq is None:
            raise UserError(f"{path}: no sampling rate; give --sfreq, or sfreq in the channel map")
        if None not in (sfreq, self.sfreq) and not abs(self.sfreq / sfreq - 1) <= 0.01:
            raise UserError(
                f"{path}: the rate {self.sfreq:g} Hz contradicts the file ({sfreq:g} Hz)"
            )
        return float(sfreq if self.sfreq is None else self.sfreq)


def plain_name(name):
    """Return a channel's name as the channel table spells it: "SNUADC/ECG_II" -> "II", "Pleth" ->
    "PLETH", "EKG" -> "ECG".
    """
    name = split_unit(str(name))[0]
    name = re.sub(r"[^A-Z0-9]", "", name.rsplit("/", 1)[-1].upper()).replace("EKG", "ECG")
    lead = re.sub(r"^(ECG|LEAD)+", "", name)
    return lead if lead in ECG_NAMES else name


def find_roles(names, wanted=None, units=None):
    """Find the role of each channel.

    Parameters
    ----------
    names : list of str
        The recorder's names.
    wanted : dict or None
        Role ("ppg", "ecg", "resp", "acc") -> name or list of names, instead of the table. Of a list
        those are taken that are there, of "acc" all.
    units : dict or None
        Units that the file states, by name. "I" and "V" alone are also a current and a voltage:
        they are leads only beside another lead, or in millivolts or microvolts.

    Returns
    -------
    dict
        Role -> names of its channels, best first; roles without a channel are left out.

    Raises
    ------
    UserError
        If no wanted name of a role is there, or not all of "acc".

    Examples
    --------
    >>> find_roles(["RESP", "II", "V", "Pleth"])
    {'ppg': ['Pleth'], 'ecg': ['II', 'V'], 'resp': ['RESP']}
    """
    roles = {}
    for role, table in ROLES.items():
        if wanted and role in wanted:
            chosen = [wanted[role]] if isinstance(wanted[role], str) else list(wanted[role])
            absent = [name for name in chosen if name not in names]
            if absent and (role == "acc" or len(absent) == len(chosen)):
                there = f"; there are {', '.join(map(str, names))}{did_you_mean(absent[0], names)}"
                raise UserError(
                    f"no channel '{absent[0]}' for {role}, as the channel map has it{there}"
                )
            chosen = [name for name in chosen if name in names]
        else:
            known = [name for name in names if plain_name(name) in table]
            if role == "ecg":
                known = [name for name in known if is_lead(name, known, units or {})]
            chosen = sorted(known, key=lambda name: table.index(plain_name(name)))
        if chosen:
            roles[role] = chosen
    return roles


def is_lead(name, names, units):
    """Tell whether a channel with the name of a lead is a lead: see `find_roles`."""
    if split_unit(str(name))[0].strip().upper() not in AMBIGUOUS_LEADS:
        return True
    limb_or_chest = {plain_name(other) for other in names} & NUMBERED_LEADS
    return bool(limb_or_chest) or plain_unit(units.get(name, "")) in ("mv", "uv")


def recording_of(
    channels,
    subject,
    record,
    labels=None,
    wanted=None,
    start="",
    repairs=(),
    units=None,
    where="",
):
    """Choose, convert and align the channels of a recording.

    Channels of one rate, start and length stay as they are. Others are resampled to 200 Hz
    (anti-aliased) and cut to the time that PPG and ECG share; respiration and acceleration follow
    the clock of the PPG.

    Parameters
    ----------
    channels : list of Channel
        All channels that the file has, or those of interest.
    subject, record, labels, start, repairs
        As in `Recording`.
    wanted : dict or None
        As in `find_roles`.
    units : dict
        Units by name, as the user says, in the place of those that the file states.
    where : str
        Start of an error, before a channel's name; default: "RECORD: channel".

    Raises
    ------
    UserError
        If there is no PPG, a rate is implausible, a stated unit is not known, or PPG and ECG share
        no time.
    """
    where = where or f"{record}: channel"
    by_name, marked = channels_by_name(channels, units or {})
    roles = roles_with_ppg(
        list(by_name), wanted, {c.name: c.unit for c in by_name.values()}, record
    )
    ppg, *ecgs = (by_name[name] for name in roles["ppg"][:1] + roles.get("ecg", []))
    check_rates(record, (ppg, *ecgs), MIN_SFREQ)
    slow = roles.get("resp", [])[:1] + roles.get("acc", [])[:3]
    check_rates(record, [by_name[name] for name in slow], MIN_SLOW_SFREQ)
    sfreq, start_s, n_times = common_clock(ppg, ecgs, record)

    def on_clock(channel):
        return place(channel, sfreq, start_s, n_times)

    leads, mended = {}, set()
    for channel in ecgs:
        x, repair = in_millivolts(channel, where)
        mended |= repair
        leads[lead_name(channel.name)] = on_clock(replace(channel, x=x))
    axes = [by_name[name] for name in roles.get("acc", [])[:3]]
    acc, repair = acceleration_of(axes, on_clock, where)
    mended |= set(repair)
    labels, absent = plausible_labels(labels or {})
    mended |= {f"{name}_no_value" for name in absent}
    if plain_time(start) and is_placeholder(start):
        start, mended = "", mended | {"placeholder_date"}
    start = later(plain_time(start), start_s)  # of what all channels share
    resp = roles.get("resp")
    return Recording(
        subject=subject,
        record=record,
        sfreq=sfreq,
        ppg=on_clock(ppg),
        ecg=next(iter(leads.values()), None),
        labels=labels,
        leads=leads,
        resp=on_clock(by_name[resp[0]]) if resp else None,
        acc=acc,
        start=start,
        repairs=[*repairs, *marked, *sorted(mended)],
    )


def acceleration_of(axes, on_clock, where):
    """Return the acceleration of channels in g, shape (3, n_times), and its repairs; None where
    there are no channels.
    """
    if not axes:
        return None, []
    scales = [gravities_in(axis.unit, f"{where} '{axis.name}'") for axis in axes]
    return in_g([on_clock(axis) for axis in axes], scales)


def roles_with_ppg(names, wanted, units, where):
    """Return the roles of channels as `find_roles`; the file must have PPG.

    Parameters
    ----------
    names, wanted, units
        As in `find_roles`.
    where : str or Path
        Start of an error.

    Raises
    ------
    UserError
        If none is PPG, or a channel that was asked for is not there.
    """
    try:
        roles = find_roles(names, wanted, units)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if "ppg" not in roles:
        raise UserError(
            f"{where}: no PPG among its channels {names}; expected {' or '.join(PPG_NAMES)}"
        )
    return roles


def channels_by_name(channels, units):
    """Return the channels by name (of duplicates the first) with the user's units, and the repairs
    made: whether placeholders of missing values became NaN.
    """
    by_name, marked = {}, []
    for channel in channels:
        x = without_marks(np.asarray(channel.x, np.float64))
        if x is not channel.x and np.isnan(x).sum() > np.isnan(channel.x).sum():
            marked = ["no_value"]
        unit = units.get(channel.name, channel.unit)
        by_name.setdefault(channel.name, replace(channel, x=x, unit=unit))
    return by_name, marked


def later(start, seconds):
    """Return the time (ISO 8601) this many seconds later; "" stays ""."""
    if not start or not seconds:
        return start
    return (datetime.fromisoformat(start) + timedelta(seconds=seconds)).isoformat()


def check_rates(record, channels, least):
    """Raise a `UserError` if a channel's sampling rate is below `least` or above `MAX_SFREQ`, both
    in Hz.
    """
    for channel in channels:
        if not least <= channel.sfreq <= MAX_SFREQ:
            rate = f"{channel.sfreq:g} Hz; expected {least} to {MAX_SFREQ} Hz"
            raise UserError(f"{record}: {channel.name} has the sampling rate {rate}")


def in_millivolts(channel, where):
    """Convert an ECG channel to mV if its unit says how; return the samples and the repairs
    made.
    """
    scale = millivolts_in(channel.unit, f"{where} '{channel.name}'")
    if scale is None:
        return channel.x, set()
    mended = mend_unit(channel.x * scale)
    return channel.x * (scale * mended), {"ecg_unit"} if mended != 1 else set()


def plain_time(start):
    """Return a time in ISO 8601 without zone (UTC if it had one); "" for text that is not a
    time.
    """
    try:
        time = datetime.fromisoformat(start)
    except ValueError:
        return ""
    return (time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time).isoformat()


def mend_unit(ecg):
    """Return the factor that makes ECG labelled as mV plausible: 1, or 1e-3 if it must be uV, 1e3
    if it must be V.

    The 0.5 to 99.5 percentile range of an ECG is about 0.3 to 10 mV; beyond 30 times that on either
    side the stated unit is wrong.
    """
    known = ecg[np.isfinite(ecg)]
    span = np.subtract(*np.percentile(known, [99.5, 0.5])) if len(known) else 0
    if 150 < span < 20_000:
        return 1e-3
    return 1e3 if 1e-4 < span < 1e-2 else 1.0


def lead_name(name):
    """Return the name of an ECG lead in the store: "II", "V5", "ECG" and so on."""
    return plain_name(name) if plain_name(name) in ECG_NAMES else re.sub(r"\W+", "_", str(name))


def common_clock(ppg, ecgs, record):
    """Return the rate (Hz), first sample (s) and number of samples of the common clock of PPG and
    ECG.
    """
    if all((c.sfreq, c.start_s) == (ppg.sfreq, ppg.start_s) for c in ecgs):
        return ppg.sfreq, ppg.start_s, len(ppg.x)
    both = (ppg, *ecgs[:1])
    start_s = max(c.start_s for c in both)
    n_times = int(
        (min(c.start_s + len(c.x) / c.sfreq for c in both) - start_s) * COMMON_SFREQ + 1e-6
    )
    if n_times <= 0:
        raise UserError(f"{record}: PPG and ECG were not recorded at the same time")
    return float(COMMON_SFREQ), start_s, n_times


def place(channel, sfreq, start_s, n_times):
    """Resample a channel to another clock, (n_times,); NaN where it was not recorded."""
    if (channel.sfreq, channel.start_s) == (sfreq, start_s):
        # the recording's own clock: a wrong length is told, not mended
        return channel.x.astype(np.float64)
    x, ahead = channel.x, start_s - channel.start_s
    skip = max(0, int(np.floor(ahead * channel.sfreq)))
    x, ahead = x[skip:], ahead - skip / channel.sfreq
    if len(x) / channel.sfreq * sfreq > FREE_SAMPLES + 2 * n_times:  # far beyond what is asked for
        x = x[: int((max(ahead, 0) + n_times / sfreq + BEYOND_S) * channel.sfreq)]
    fine = resample_with_gaps(x, channel.sfreq, sfreq)
    times = ahead * sfreq + np.arange(n_times)  # in samples of `fine`
    if not len(fine):
        return np.full(n_times, np.nan)
    if ahead == 0 and len(fine) >= n_times:
        return fine[:n_times]
    return np.interp(times, np.arange(len(fine)), fine, left=np.nan, right=np.nan)
