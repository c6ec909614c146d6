"""The built wheel in bare environments: each extra brings what its verbs need."""

import pytest

from xmae.benchmarks.release.check_wheel import check

pytestmark = [pytest.mark.extended, pytest.mark.slow]


def test_the_light_wheel_reads_a_recording_in_a_bare_environment(watch_bundle):
    found = check("lite", watch_bundle.path)
    assert found["megabytes"] < 200
    assert found["import_s"] < 0.3 and found["help_s"] < 0.3
    assert found["windows"] > 10 and 30 < found["median"]["hr"] < 220
    # the recording has 480 s at about 90 beats a minute
    assert found["stream_seconds"] >= 475 and found["stream_beats"] > 600
    assert found["stream_rate"] == pytest.approx(found["median"]["hr"], abs=5)


def test_the_plain_wheel_reads_recordings():
    found = check("plain")
    assert found["megabytes"] < 120 and found["help_s"] < 0.3


@pytest.mark.parametrize("extra", ["train", "edge", "firmware"])
def test_the_wheel_with_an_extra_does_what_the_extra_is_for(extra, watch_bundle):
    found = check(extra, watch_bundle.path)  # raises where a verb fails
    assert found["help_s"] < 0.3
