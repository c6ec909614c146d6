"""The stream of the shipped student: LiteRT's numbers, whatever the portions, and no number without
the right to one.
"""

from itertools import chain

import numpy as np
import pytest

from xmae.benchmarks.studies.certainty import made_rows
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.export.stream import FLAT, LOST, MIXED, SATURATED, START, UNSURE, Stream, int8_file
from xmae.export.targets.c.network import StreamNetwork
from xmae.models import load_encoder

SQUARE = "square wave of 0.5 to 3.5 Hz"


def recording(name="bidmc01", seconds=60):
    path = next(path for path in bidmc_files() if path.stem == name)
    with np.load(path) as archive:
        ppg = archive["ppg"][: int(seconds * float(archive["fs"]))].astype(np.int64)
        return ppg + 32768, float(archive["fs"])


@pytest.fixture(scope="module")
def results():
    codes, sfreq = recording()
    stream = Stream(sfreq=sfreq)
    return stream, stream.push(codes)


def test_network_equals_the_reference_kernels_in_whole_windows():
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    network = StreamNetwork(int8_file("beats-mcu"))
    interpreter = Interpreter(
        str(int8_file("beats-mcu")), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for _ in range(3):
        window = np.clip(np.cumsum(rng.integers(-20, 21, 1000)), -127, 127).astype(np.int8)
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], window.reshape(1, 1, 1, 1000)
        )
        interpreter.invoke()
        row = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 256:]
        whole = row.reshape(250, 3).astype(np.int64) - network.zero
        network.reset()
        # outputs begin at samples 2, 6, 10 ... of a stream, at 0, 4, 8 ... of a padded window
        ahead = network.look_ahead
        before, after = np.zeros(404 - ahead, np.int8), np.zeros(ahead + 2, np.int8)
        padded = np.concatenate([before, window, after])
        streamed = np.concatenate([network.push(part) for part in np.array_split(padded, 13)])
        assert np.array_equal(streamed[101:351], whole)


def test_portions_do_not_matter(results):
    codes, sfreq = recording()
    rng = np.random.default_rng(1)
    stream = Stream(sfreq=sfreq)
    parts = np.split(codes, np.sort(rng.integers(0, len(codes), 60)))
    assert list(chain.from_iterable(stream.push(part) for part in parts)) == results[1]


def test_heart_rate_of_a_real_person(results):
    stream, found = results
    rates = np.array([one.rate / 100 for one in found if one.rate])
    assert len(found) == 58 and len(rates) >= 40
    encoder = load_encoder("beats-mcu")
    codes, sfreq = recording()
    read = encoder.read(codes, sfreq)
    assert abs(np.median(rates) - np.nanmedian(read.rate)) < 0.5
    beats = np.array(
        [stream.seconds_of(t) for t, _ in chain.from_iterable(one.beats for one in found)]
    )
    near = np.abs(beats[:, None] - read.beats[None]).min(1)
    assert np.median(near) < 0.01


def test_results_hold_what_they_say(results):
    stream, found = results
    for one in found:
        assert (one.rate == 0) == bool(one.status & (FLAT | START | UNSURE | MIXED))
        assert one.low <= one.rate <= one.high
    assert found[0].status & START and "bpm" in stream.line(found[-1])


def test_upside_down_is_the_same_heart_rate(results):
    codes, sfreq = recording()
    turned = [one.rate for one in Stream(sfreq=sfreq).push(65535 - codes) if one.rate]
    upright = [one.rate for one in results[1] if one.rate]
    assert len(turned) >= 30 and abs(np.median(turned) - np.median(upright)) < 200
    inverted = Stream(sfreq=sfreq, inverted=True).push(65535 - codes)
    assert [one.rate for one in inverted] == [one.rate for one in results[1]]


def test_nothing_moves_nothing_is_said():
    found = Stream(sfreq=50).push(np.full(50 * 20, 700))
    assert all(one.rate == 0 and not one.beats for one in found)
    assert len(found) == 18 and all(one.status & FLAT for one in found[1:])


def test_noise_gets_no_number():
    rng = np.random.default_rng(2)
    found = Stream(sfreq=100).push(rng.integers(0, 65536, 6000))
    assert np.mean([one.rate > 0 for one in found]) < 0.05


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("beats-mcu", set()),
        pytest.param("beats-mcu-s", {SQUARE}, marks=pytest.mark.extended),
        pytest.param("beats-app", {SQUARE}, marks=pytest.mark.extended),
    ],
)
def test_what_has_no_pulse_gets_no_number(name, known):
    """Noise, hum, spikes, steps, random walks and square waves; docs/results.md names who fails."""
    assert {signal for signal, share in made_rows(name) if float(share) > 0} == known


def test_lost_and_saturated_are_counted():
    codes, sfreq = recording(seconds=30)
    stream = Stream(sfreq=sfreq)
    before = stream.push(codes[:1875])
    after = stream.push(codes[1900:], lost=25)
    assert not any(one.status & LOST for one in before)
    assert max(one.lost for one in after) == 25 and after[-1].lost in (0, 25)
    railed = codes.copy()
    railed[2000:2010] = 65535
    assert max(one.saturated for one in Stream(sfreq=sfreq).push(railed)) == 10
    assert any(one.status & SATURATED for one in Stream(sfreq=sfreq).push(railed))


@pytest.mark.parametrize(
    "settings", [{"sfreq": 20}, {"sfreq": 1000}, {"bits": 7}, {"bits": 25}, {"hop_s": 0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        Stream(**settings)


@pytest.mark.parametrize("codes", [[-1], [65536], [0.5], [[1]]])
def test_codes_out_of_range_leave_the_stream_as_it_was(codes):
    stream = Stream(sfreq=100)
    with pytest.raises(UserError):
        stream.push(np.array(codes))
    assert stream.front_end.n_codes == 0


def test_models_without_beats_are_refused(tmp_path):
    with pytest.raises(UserError):
        Stream(tmp_path / "none.tflite")
