"""The watch's C code on this machine, under AddressSanitizer and UndefinedBehaviorSanitizer,
against Python.
"""

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmae.benchmarks.studies.pulse_check import WITHOUT_PULSE
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.targets.session import from_int8, to_int8
from xmae.firmware_sim.build.compile import BOARDS, compile_host
from xmae.firmware_sim.build.generate import SOURCES, write_firmware
from xmae.firmware_sim.frame import Boot, Input, Result, Status, parse_frames, results_and_inputs
from xmae.firmware_sim.frontend import BURST, digitise, fifo_words
from xmae.firmware_sim.play import bit_exact, heads_of
from xmae.signals.filters import ppg_clean
from xmae.signals.resample import resample
from xmae.signals.scale import minmax_scale
from xmae.signals.stream import BUFFER_S, MARGIN_S, bridge_lost, stream_windows

RATE, BITS = 125, 18
AMPLE = 2**20


def codes_of(name, rate=RATE, bits=BITS, seconds=60):
    recording = read_recording(next(path for path in bidmc_files() if path.stem == name))
    return digitise(recording.ppg, recording.sfreq, rate, bits)[: seconds * rate]


@pytest.fixture(scope="module")
def codes():
    return codes_of("bidmc34")


@pytest.fixture(scope="module")
def play(watch_bundle, tmp_path_factory):
    """Run the firmware as a program of this machine: FIFO words in, frames out; any sanitizer
    report fails.
    """
    folder = tmp_path_factory.mktemp("host")
    built = write_firmware(watch_bundle, folder, AMPLE, AMPLE, RATE, adc_bits=BITS, trace=True)
    sources = [*built["sources"], SOURCES / "host" / "host.c"]
    program = compile_host(
        sources, folder / "watch", include=[*built["include"], BOARDS], shared=False, sanitize=True
    )

    def run(words):
        (folder / "in.bin").write_bytes(np.asarray(words, "<u4").tobytes())
        done = subprocess.run(
            [str(program)], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return parse_frames((folder / "out.bin").read_bytes())

    return run


@pytest.fixture(scope="module")
def play_apart(watch_bundle, tmp_path_factory):
    """Run the watch without its network, as it is compiled for a Cortex-A, as a program of this
    machine.
    """
    folder = tmp_path_factory.mktemp("apart")
    built = write_firmware(watch_bundle, folder, AMPLE, AMPLE, RATE, adc_bits=BITS, trace=True)
    sources = [source for source in built["sources"] if source.name != "student_int8.c"]
    sources += [SOURCES / "host" / "host.c", SOURCES / "host" / "apart.c"]
    program = compile_host(
        sources, folder / "watch", include=[*built["include"], BOARDS], shared=False
    )

    def run(words):
        (folder / "in.bin").write_bytes(np.asarray(words, "<u4").tobytes())
        subprocess.run([str(program)], cwd=folder, check=True, timeout=120)
        return parse_frames((folder / "out.bin").read_bytes())

    return run


@pytest.mark.parametrize("fault", ["none", "lost", "gap", "stuck", "rails", "drift"])
def test_the_front_end_of_a_cortex_a_judges_as_the_whole_watch_does(play, play_apart, codes, fault):
    codes, rate = codes.copy(), RATE * (1.01 if fault == "drift" else 1)
    if fault == "lost":
        codes[[2000, 2001, 2500]] = np.nan
    elif fault == "gap":
        codes[2000:2500] = np.nan
    elif fault == "stuck":
        codes[3000 : 3000 + 2 * RATE] = codes[3000]
    elif fault == "rails":
        codes[::20] = 2**BITS - 1
    whole, apart = (run(fifo_words(codes, rate)) for run in (play, play_apart))
    (first, inputs), (second, others) = results_and_inputs(whole), results_and_inputs(apart)
    assert np.array_equal(inputs, others) and len(first)
    assert (len(inputs) < len(first)) == (fault not in ("none", "lost"))
    for one, other in zip(first, second, strict=True):
        assert (one.start_ms, one.status, one.lost, one.saturated) == (
            other.start_ms, other.status, other.lost, other.saturated,
        )  # fmt: skip


def results(frames):
    return [frame for frame in frames if isinstance(frame, Result)]


def check_flagged(frames, flag):
    """Check that every result carries the flag and no number at all."""
    assert results(frames)
    for result in results(frames):
        assert flag in result.status and not result.valid
        assert not len(result.heads) and not len(result.embedding)


@pytest.mark.parametrize(
    ("rate", "bits"), [(25, 24), (50, 16), (64, 20), (100, 18), (125, 18), (128, 24)]
)
def test_front_end_is_within_one_step_of_python(watch_bundle, tmp_path, rate, bits):
    write_firmware(watch_bundle, tmp_path, AMPLE, AMPLE, rate, adc_bits=bits)
    sources = [SOURCES / "front_end.c", tmp_path / "watch_config.c"]
    library = ctypes.CDLL(
        str(compile_host(sources, tmp_path / "front_end.so", include=[tmp_path], kernels=False))
    )
    codes = codes_of("bidmc43", rate, bits)
    windows, start_s = stream_windows(codes, rate)
    size, out = BUFFER_S * rate, np.zeros(1000, np.int8)
    for window, start in zip(windows, start_s, strict=True):
        first = 17  # where the oldest sample lies in the ring
        ring = np.roll(codes[(start - MARGIN_S) * rate :][:size], first).astype(np.int32)
        assert (
            library.front_end(
                ring.ctypes.data_as(ctypes.c_void_p), first, out.ctypes.data_as(ctypes.c_void_p)
            )
            == 1
        )
        assert np.abs(to_int8(window, 2 / 255, 0).astype(int) - out).max() <= 1


def test_streaming_form_is_within_one_step_of_the_whole_recording():
    for name in ("bidmc02", "bidmc05"):  # training patients: the margins were chosen on such
        codes = codes_of(name, seconds=480)
        windows, start_s = stream_windows(codes, RATE)
        whole = resample(ppg_clean(codes, RATE), RATE, 100)
        expected = minmax_scale(np.stack([whole[start * 100 :][:1000] for start in start_s]))[0]
        steps = np.abs(to_int8(windows, 2 / 255, 0).astype(int) - to_int8(expected, 2 / 255, 0))
        assert steps[1:-1].max() <= 1  # the first and last touch the recording's own ends


def test_embeddings_equal_tflm_and_heads_equal_python(play, codes, watch_bundle):
    pytest.importorskip("tflite_micro")
    frames = play(fifo_words(codes, RATE))
    valid = results(frames)
    assert isinstance(frames[0], Boot) and frames[0].status == 0
    assert [result.start_ms for result in valid] == [3000, 13000, 23000, 33000, 43000]
    assert [result.status for result in valid] == [Status.FIRST, 0, 0, 0, 0]
    embeddings = np.stack([result.embedding for result in valid])
    inputs = np.stack([frame.codes for frame in frames if isinstance(frame, Input)])
    entry = watch_bundle.entry("student", "litert", "int8")
    assert bit_exact(watch_bundle.path / entry.file, entry, inputs, embeddings)["equal"] == 5
    output = entry.output
    real = from_int8(embeddings, output.scale, output.zero_point)
    heads = watch_bundle.trusted_heads("student")
    assert "hr" in heads
    assert all(len(result.heads) == len(heads) for result in valid)
    for i, head in enumerate(heads.values()):
        value = head.model_copy(update={"kind": "regression"}).apply(
            real
        )  # the watch sends log-odds
        assert np.allclose([result.heads[i] for result in valid], value, atol=1e-3)


def run_once(bundle, folder, words):
    """Return the results of firmware for another bundle, as a program of this machine."""
    built = write_firmware(bundle, folder, AMPLE, AMPLE, RATE, adc_bits=BITS)
    sources = [*built["sources"], SOURCES / "host" / "host.c"]
    program = compile_host(
        sources, folder / "watch", include=[*built["include"], BOARDS], shared=False
    )
    (folder / "in.bin").write_bytes(words.astype("<u4").tobytes())
    subprocess.run([str(program)], cwd=folder, check=True, timeout=120)
    return results(parse_frames((folder / "out.bin").read_bytes()))


def test_heads_without_skill_are_not_sent(codes, watch_bundle, tmp_path):
    head = watch_bundle.heads["student"]["hr"]
    heads = {
        "first": head.model_copy(update={"skill": -0.1}),
        "second": head.model_copy(update={"skill": None}),
        "third": head.model_copy(update={"skill": 0.0}),
        "fourth": head,
    }
    found = heads_of(replace(watch_bundle, heads={"student": heads}), "student")
    assert [(row["name"], row["skill"]) for row in found["heads"]] == [
        ("second", None),
        ("fourth", head.skill),
    ]
    assert found["without_skill"][-2:] == [head.label, head.label]
    none = replace(watch_bundle, heads={"student": {"hr": heads["third"]}})
    sent = run_once(none, tmp_path, fifo_words(codes, RATE))
    assert "embedding only" in (tmp_path / "watch_config.h").read_text()
    assert len(sent) == 5 and all(
        one.valid and not len(one.heads) and len(one.embedding) == 256 for one in sent
    )


def test_a_heart_rate_that_nobody_has_is_not_sent(codes, watch_bundle, tmp_path):
    head = watch_bundle.heads["student"]["hr"]
    fast = head.model_copy(update={"bias": head.bias + 200})
    fast = replace(watch_bundle, heads={"student": {"hr": fast}})
    check_flagged(run_once(fast, tmp_path, fifo_words(codes, RATE)), Status.IMPLAUSIBLE)


def test_few_lost_samples_are_bridged_and_flagged(play, codes):
    lost = codes.copy()
    lost[[2000, 2001, 2500, 3000]] = np.nan
    frames = play(fifo_words(lost, RATE))
    flagged = [Status.LOST in result.status for result in results(frames)]
    assert any(flagged) and all(result.valid for result in results(frames))
    inputs = np.stack([frame.codes for frame in frames if isinstance(frame, Input)]).astype(int)
    expected = to_int8(stream_windows(bridge_lost(lost), RATE)[0], 2 / 255, 0)
    assert np.abs(inputs - expected).max() <= 1


def test_many_lost_samples_give_no_result(play, codes):
    lost = codes.copy()
    lost[(np.arange(len(codes)) % 40) == 7] = np.nan  # 2.5 %
    check_flagged(play(fifo_words(lost, RATE)), Status.LOST)


def test_stuck_sensor_gives_no_result(play, codes):
    stuck = codes.copy()
    for start in range(0, len(codes), 1250):
        stuck[start : start + RATE + 5] = stuck[start]
    check_flagged(play(fifo_words(stuck, RATE)), Status.STUCK)


def test_saturation_gives_no_result(play, codes):
    check_flagged(
        play(fifo_words(codes, RATE, saturated=np.arange(len(codes)) % 20 == 0)), Status.SATURATED
    )
    low, high = np.percentile(codes, [5, 95])
    # at the rails without the front end's flag
    clipped = np.clip((codes - low) / (high - low), 0, 1) * (2**BITS - 1)
    check_flagged(play(fifo_words(np.rint(clipped), RATE)), Status.SATURATED)


@pytest.mark.parametrize("drift", [0.99, 1.01])
def test_clock_drift_of_one_percent_gives_no_result(play, codes, drift):
    check_flagged(play(fifo_words(codes, RATE * drift)), Status.RATE)


def test_small_clock_drift_is_accepted(play, codes):
    assert all(result.valid for result in results(play(fifo_words(codes, RATE * 1.002))))


def test_unreported_gap_gives_no_result(play, codes):
    words = np.delete(fifo_words(codes, RATE), slice(1500, 1700), axis=0)
    frames = results(play(words))
    assert Status.RATE in frames[0].status and not frames[0].valid


def test_fifo_overflow_is_counted_as_loss(play, codes):
    words = fifo_words(codes, RATE)[:2000]
    words[800:860, 0] |= BURST  # 61 samples arrive before the core wakes; the FIFO holds 32
    (result,) = results(play(np.concatenate([words, fifo_words(codes, RATE)[2000:2100]])))
    assert Status.LOST in result.status and result.lost == 29 and not result.valid


def test_flat_signal_gives_no_result(play):
    noise = 1000 + np.arange(2000) % 2  # one code up and down: nothing in the pulse's band
    check_flagged(play(fifo_words(noise.astype(float), RATE)), Status.FLAT)


def test_a_signal_without_a_pulse_gives_no_result(play):
    times, random = np.arange(26 * RATE) / RATE, np.random.default_rng(0)
    for signal in WITHOUT_PULSE.values():
        check_flagged(play(fifo_words(np.rint(signal(times, random)), RATE)), Status.NO_PULSE)


def expected_faults(words):
    """Return what the rules for faults say of a stream: (flags, lost, saturated, is invalid) of
    each result, in plain Python.

    The watch's FIFO holds 32 words; lost samples are bridged; a result looks back on 16 s and comes
    every 10 s.
    """
    fifo, overflow, said = [], 0, []
    codes, faults, times = [], [], []

    def add(code, fault, ms):
        codes.append(code)
        last = codes[-RATE:]
        fault |= Status.STUCK if len(last) == RATE and len(set(last)) == 1 else 0
        faults.append(fault)
        times.append(ms % 2**32)
        if len(codes) >= BUFFER_S * RATE and (len(codes) - BUFFER_S * RATE) % (10 * RATE) == 0:
            seen = np.array(faults[-BUFFER_S * RATE :], int)
            flags = Status(int(np.bitwise_or.reduce(seen))) | (0 if said else Status.FIRST)
            span = (BUFFER_S * RATE - 1) * 1000 // RATE
            late = (times[-1] - times[-BUFFER_S * RATE] - span + 2**31) % 2**32 - 2**31
            flags |= Status.RATE if abs(late) > span // 200 else 0
            lost, saturated = (
                int((seen & Status.LOST > 0).sum()),
                int((seen & Status.SATURATED > 0).sum()),
            )
            most = BUFFER_S * RATE // 100
            said.append(
                (
                    flags,
                    lost,
                    saturated,
                    bool(flags & (Status.STUCK | Status.RATE)) or max(lost, saturated) > most,
                )
            )

    for word, ms in words.tolist():
        if len(fifo) == 32:
            overflow += 1 + (word >> 25 & 63)
        else:
            fifo.append(
                (word & 0xFFFFFF, word >> 24 & 1, min(63, (word >> 25 & 63) + overflow), ms)
            )
            overflow = 0
        if word & BURST:
            continue
        for code, flagged, lost, at in fifo:
            if codes:
                start, begun, step_ms = codes[-1], times[-1], (at - times[-1]) % 2**32 // (lost + 1)
                for k in range(1, lost + 1):
                    add(
                        start + int((code - start) * k / (lost + 1)),
                        Status.LOST,
                        begun + step_ms * k,
                    )
            add(code, Status.SATURATED if flagged or not 0 < code < 2**BITS - 1 else 0, at)
        fifo = []
    return said


FAULTS = Status.LOST | Status.SATURATED | Status.STUCK | Status.RATE | Status.FIRST


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(0, 40), st.integers(2000, 4000)),
    st.sampled_from(["few", "noise", "flags", "times", "rails"]),
)
def test_any_stream_is_survived_and_never_a_silent_fault(play, codes, seed, n, kind):
    """Random words under the sanitizers; every fault put in is flagged and counted, and none
    carries a number.
    """
    random = np.random.default_rng(seed)
    words = fifo_words(codes[:n], RATE) if n else np.zeros((0, 2), np.uint32)
    if kind == "few" and n:
        for bits in (1 << 24, 3 << 25, BURST):
            words[random.integers(0, n, 3), 0] |= bits
    elif kind == "noise":
        words = random.integers(0, 2**32, (n, 2), dtype=np.uint32)
    elif kind == "flags":
        words[:, 0] |= random.integers(0, 2, n, dtype=np.uint32) << random.integers(
            24, 32, n, dtype=np.uint32
        )
    elif kind == "times":
        words[:, 1] = random.integers(0, 2**32, n, dtype=np.uint32)
    elif kind == "rails":
        words[:, 0] = random.choice(np.array([0, 2**BITS - 1, 2**24 - 1], np.uint32), n)
    found, expected = results(play(words)), expected_faults(words)
    for result, (flags, lost, saturated, invalid) in zip(found, expected, strict=True):
        assert (result.status & FAULTS, result.lost, result.saturated) == (flags, lost, saturated)
        assert result.valid == (len(result.embedding) == 256)
        other = result.status & (Status.FLAT | Status.NO_PULSE | Status.IMPLAUSIBLE)
        assert result.valid == (not invalid and not other)


@pytest.mark.parametrize(
    "wrong",
    [{"sfreq": 24}, {"sfreq": 129}, {"sfreq": 62.5}, {"adc_bits": 12}, {"hop_s": 0}],
    ids=str,
)
def test_impossible_front_ends_are_refused(watch_bundle, tmp_path, wrong):
    with pytest.raises(UserError, match="expected"):
        write_firmware(watch_bundle, tmp_path, AMPLE, AMPLE, **wrong)


def test_a_device_that_is_too_small_does_not_compile(watch_bundle, tmp_path):
    built = write_firmware(watch_bundle, tmp_path, 20_000, AMPLE)
    with pytest.raises(UserError, match="does not build.*(exceed|negative width)"):
        compile_host(
            built["sources"], tmp_path / "no", include=[*built["include"], BOARDS], shared=True
        )


def test_no_heap_and_only_string_and_stdint():
    allowed = {"<stdint.h>", "<string.h>"}
    for path in [*SOURCES.glob("*.[ch]")]:
        for line in Path(path).read_text().splitlines():
            if line.startswith("#include <"):
                assert line.split()[1] in allowed, f"{path.name}: {line}"
