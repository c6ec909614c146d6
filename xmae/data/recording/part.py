"""What one file of one device holds: channels on that device's clock, to be a recording by itself
or a part of a session.
"""

from dataclasses import dataclass, field

from xmae.data.recording.channels import find_roles, recording_of
from xmae.errors import UserError


@dataclass(frozen=True)
class Part:
    """The channels of one device.

    Parameters
    ----------
    channels : list of Channel
        Their times count from `start`.
    start : str
        Time 0 of the device's clock, ISO 8601, with or without zone; "" = unknown.
    roles : dict or None
        Role -> names of its channels, where the format knows better than the names do.
    labels : dict
        As in `Recording`.
    repairs : tuple of str
        Repairs that the reader made.
    subject : str
        Person, as the file names it; "" = unknown.
    """

    channels: list
    start: str = ""
    roles: dict | None = None
    labels: dict = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    subject: str = ""

    def roles_by(self, channel_map):
        """Return the names of channels by role: from the user, from the format, or guessed from the
        names.
        """
        units = {channel.name: channel.unit for channel in self.channels}
        names = [channel.name for channel in self.channels]
        return find_roles(names, channel_map.roles or self.roles, units)


def recording_of_part(part, path, channel_map):
    """Return the recording that a part gives by itself.

    Raises
    ------
    UserError
        If it has no PPG, or as in `recording_of`.
    """
    try:
        roles = part.roles_by(channel_map)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if "ppg" not in roles:
        names = ", ".join(channel.name for channel in part.channels)
        raise UserError(
            f"{path}: has no PPG ({names}); join it with a file that has in a session "
            "(docs/data.md)"
        )
    return recording_of(
        part.channels,
        part.subject or path.stem,
        path.stem,
        part.labels,
        wanted=roles,
        start=part.start,
        repairs=[*([] if part.subject else ["subject_from_file_name"]), *part.repairs],
        units=channel_map.units,
        where=f"{path}: channel",
    )


def holds_ppg(part_of, path, channel_map):
    """Tell whether a part has PPG; a damaged file counts as one, so that it is reported."""
    try:
        return "ppg" in part_of(path, channel_map).roles_by(channel_map)
    except UserError:
        return True
