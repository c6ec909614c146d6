"""What a day costs a watch: processor, LED, front end and radio, each with its source or marked
assumed.

xmae simulate BUNDLE --device apollo4,stm32u5 --signal RECORDING --out runs/simulate
python -m xmae.benchmarks.studies.battery runs/simulate/simulate.json --out benchmarks/results
"""

from xmae.benchmarks.studies.runner import run_study
from xmae.errors import UserError, refusing
from xmae.files import read_json
from xmae.firmware_sim.cost.battery import CELL_V, CONVERTER
from xmae.firmware_sim.cost.profile import Span
from xmae.tables import markdown_table

LED_MA = Span(5, 10, 20)  # while it shines
PULSE_US = Span(70, 100, 120)  # it shines for a sample
LED_V = 5.0  # of its supply
FRONT_END_UA = Span(5, 10, 30)  # receiver and converter at 25 Hz; taken to rise with the rate
RADIO_UC = Span(5, 10, 20)  # of an event with one packet
HOURS = 24
RATES = (25, 50, 100)  # Hz
INTERVALS_S = (1, 10, 60)  # between packets


def led(rate):
    """Return the charge that the LED takes in a day at `rate` samples per second, mAh: a `Span`."""
    mean_ma = LED_MA * PULSE_US * (1e-6 * rate)
    return mean_ma * (HOURS * LED_V / CELL_V / CONVERTER)


def front_end(rate):
    """Return the charge that receiver and converter take in a day, mAh: a `Span`."""
    return FRONT_END_UA * (1e-3 * HOURS * rate / RATES[0])


def radio(interval_s):
    """Return the charge that the radio takes in a day with a packet every `interval_s`, mAh: a
    `Span`.
    """
    return RADIO_UC * (1e-3 / interval_s * HOURS)


def shown(span):
    """Format a range: "1.2 (0.9 to 2)"."""
    return f"{span.value:.3g} ({span.low:.3g} to {span.high:.3g})"


def battery(result: str, /) -> str:
    """Estimate the charge that a watch needs for a day, from a result of `xmae simulate`.

    Parameters
    ----------
    result : str
        simulate.json of students that read beats.

    Raises
    ------
    UserError
        If the file is no result of `xmae simulate` with a student that reads beats.
    """
    path, result = result, read_json(result)
    if not isinstance(result, dict) or result.get("reads") != "beats":
        raise UserError(f"{path}: no result of xmae simulate with a student that reads beats")
    with refusing(path, "a result of xmae simulate"):
        rows = [
            (f"processor, {name}: {one['counts']['instructions_a_second']:,} instructions a second",
             shown(Span.read(one["estimated"]["mah_per_day"])),
             "instructions counted; power from its profile")
            for name, one in result["devices"].items()
        ]  # fmt: skip
    rows += [(f"LED, {rate} Hz", shown(led(rate)), "assumed") for rate in RATES]
    rows += [(f"front end, {rate} Hz", shown(front_end(rate)), "assumed") for rate in RATES]
    rows += [
        (f"radio, a packet every {interval} s", shown(radio(interval)), "assumed")
        for interval in INTERVALS_S
    ]
    return f"""# What a day costs

    xmae simulate BUNDLE --device {",".join(result["devices"])} --signal {result["signal"]} \\
        --out runs/simulate

Charge of the cell with results every {result["front_end"]["hop_s"]} s day and night, in mAh, with
low and high ends. The cell has {CELL_V} V, its converter an efficiency of {CONVERTER} (assumed).
Display, memory beside the processor, accelerometer and leakage of the board are in no row.

{markdown_table(("what", "mAh a day", "source"), rows)}

Assumed, from what data sheets of such parts say in order of magnitude, not from one part:

- LED: {shown(LED_MA)} mA for {shown(PULSE_US)} us a sample, from {LED_V:g} V through the same
  converter.
- Front end: {shown(FRONT_END_UA)} uA at 25 Hz, in proportion to the rate.
- Radio: {shown(RADIO_UC)} uC a packet, connection kept.

The processor's profiles say where each of their numbers comes from (`xmae simulate --list-devices
--json`).
"""


if __name__ == "__main__":
    run_study(battery, "battery.md")
