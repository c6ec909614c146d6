"""What a model costs a watch's battery in a day."""

CELL_V = 3.85  # nominal voltage of a lithium-polymer cell with 4.4 V charge limit, as in watches
CONVERTER = 0.85  # share of the cell's energy that arrives behind a buck converter: assumed
DAY_S = 86_400
PERIODS_S = (10, 60)  # one window every so many seconds


def milliamp_hours_per_day(energy_mj, busy_s, period_s, sleep_mw):
    """Return the charge that the battery needs for a day with one window every `period_s`, mAh: a
    `Span`.

    Parameters
    ----------
    energy_mj : Span
        Estimated energy of one window and of the samples of a period, mJ.
    busy_s : Span
        Estimated time for these, s.
    period_s : float
        Seconds from window to window.
    sleep_mw : Span
        Power of the sleeping device, mW.

    Returns
    -------
    Span
        Processor only: the optical front end and its LEDs, radio and display come on top.
    """
    windows = DAY_S / period_s
    asleep_s = max(0.0, DAY_S - windows * busy_s.value)
    day_mj = energy_mj * windows + sleep_mw * asleep_s
    return day_mj * (1 / 3600 / CELL_V / CONVERTER)


def battery_view(energy_mj, busy_ms, sampling_ms, device):
    """Return the charge of a day for each of `PERIODS_S`, mAh, as plain numbers.

    Parameters
    ----------
    energy_mj, busy_ms : Span
        Energy and time of one window without the work on each sample, mJ and ms.
    sampling_ms : Span
        Time for the samples of one second, ms.
    device : Device
        Profile with its power.
    """
    return [
        {
            "window_every_s": period,
            "mah_per_day": milliamp_hours_per_day(
                energy_mj + sampling_ms * device.active_mw * (1e-3 * period),
                (busy_ms + sampling_ms * period) * 1e-3,
                period,
                device.sleep_mw,
            ).describe(3),
        }
        for period in PERIODS_S
    ]
