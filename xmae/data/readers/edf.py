"""EDF and EDF+ files (sleep studies), read by `edfio`; each signal keeps its own rate, annotations are passed over."""

import numpy as np

from xmae.data.channels import PPG_NAMES, Channel, find_roles, recording_of
from xmae.errors import UserError


def read(path, channel_map):
    """Yield the recording of one file, or one for each stretch of a discontinuous EDF+ file (EDF+D).

    The subject is the patient code of the header, where it has one; sex comes from the header too.
    """
    edf = open_edf(path)
    names = [signal.label.strip() for signal in edf.signals]
    try:
        roles = find_roles(names, channel_map.roles)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if "ppg" not in roles:
        raise UserError(f"{path}: no PPG among its channels {names}; expected {' or '.join(PPG_NAMES)}")
    chosen = {channel for listed in roles.values() for channel in listed}
    signals = [signal for signal in edf.signals if signal.label.strip() in chosen]
    if not edf.is_continuous:
        raise UserError(f"{path}: a discontinuous EDF+ file (EDF+D); convert it to continuous files first")
    labels, code = {}, ""
    try:
        code = edf.patient.code
        labels = {"sex": edf.patient.sex} if edf.patient.sex in ("M", "F") else {}
        start = edf.startdatetime.isoformat()
    except (ValueError, IndexError):  # plain EDF: free text where EDF+ has a code, a sex and a date
        start = ""
    named = code not in ("", "X")
    yield recording_of(
        [
            Channel(
                signal.label.strip(),
                np.asarray(signal.data, np.float64),
                channel_map.check_sfreq(signal.sampling_frequency, path),
                unit=signal.physical_dimension,
            )
            for signal in signals
        ],
        subject=code if named else path.stem,
        record=path.stem,
        labels=labels,
        wanted=roles,
        start=start,
        repairs=[] if named else ["subject_from_file_name"],
    )


def open_edf(path):
    """The file's header and signals; samples are read when they are asked for."""
    import edfio

    try:
        return edfio.read_edf(path)
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise UserError(f"{path}: not readable as EDF, perhaps truncated ({error})") from error


def holds_ppg(path, channel_map):
    """Whether one of the file's signals is PPG."""
    try:
        return "ppg" in find_roles([signal.label.strip() for signal in open_edf(path).signals], channel_map.roles)
    except UserError:
        return True  # damaged, or without a channel that the map names: to be told, not passed over
